"""Measure h5remap against what people would use instead, and write RESULTS.md.

    python benchmarks/run.py                        # everything: about half an hour
    python benchmarks/run.py --rounds 3 --quick     # a first look
    python benchmarks/run.py --against v0.1.0       # this tree and a commit, side by side

This process loads neither h5py nor numpy, for the system counts its memory as its children's. Every way is a
command of its own, timed from start to end with all that it starts, and the ways take turns: whatever else
the machine does meets them all. Only ratios within one table mean anything.
"""

from __future__ import annotations

import argparse
import compileall
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path

from plot import plot

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
MEBI = 1 << 20


@dataclass(slots=True)
class Measured:
    """A command that does some work, and what was measured of it, in seconds and MiB."""

    name: str
    command: Sequence[str]
    tree: Path | None = None
    seconds: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)
    memory: float = 0.0

    def run(self) -> None:
        """Run once and keep what it took."""
        environment = {**os.environ, "PYTHONPATH": str(self.tree or ROOT)}
        start = time.perf_counter()
        process = subprocess.Popen(
            self.command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
        )
        _, status, usage = os.wait4(process.pid, 0)
        self.seconds.append(time.perf_counter() - start)
        words = b""
        if process.stderr is not None:
            words = process.stderr.read()
            process.stderr.close()
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode != 0:
            raise SystemExit(f"{self.name} failed: {words.decode(errors='replace')}")
        self.cpu.append(usage.ru_utime + usage.ru_stime)
        self.memory = max(self.memory, usage.ru_maxrss / 1024)

    @property
    def median(self) -> float:
        """Give the median of the seconds."""
        return statistics.median(self.seconds)


@dataclass(frozen=True, slots=True)
class Bench:
    """Where to measure: a directory on a disk, rounds, trees to compare."""

    directory: Path
    rounds: int
    trees: dict[str, Path]

    def ours(self, *arguments: str) -> list[Measured]:
        """Give the ways that are h5remap, one for each tree."""
        return [
            Measured(name, [sys.executable, "-m", "remap", *arguments], tree)
            for name, tree in self.trees.items()
        ]

    def turns(self, ways: Sequence[Measured], *, before: Callable[[], None] = lambda: None) -> None:
        """Let ways take turns; the first round only warms up."""
        for number in range(self.rounds + 1):
            for way in ways:
                (self.directory / "out.h5").unlink(missing_ok=True)
                os.sync()
                before()
                way.run()
            if number == 0:
                for way in ways:
                    way.seconds.clear()
                    way.cpu.clear()

    def make(self, tensors: int, size: int) -> tuple[str, str, str]:
        """Make an input and its reference model if they are not there; give their paths and the output's."""
        source = self.directory / f"multi-{tensors}-{size}.h5"
        like = self.directory / f"like-{tensors}-{size}.json"
        if not source.exists():
            words = [str(HERE / "inputs.py"), str(source), str(like), str(tensors), str(size)]
            subprocess.run([sys.executable, *words], check=True)
            os.sync()
        return str(source), str(like), str(self.directory / "out.h5")


def conversions(bench: Bench, tensors: int, size: int, *, cold: bool = False) -> Iterator[str]:
    """Compare ways to get a single model out of one file."""
    source, like, out = bench.make(tensors, size)
    ways = [
        *bench.ours("extract", source, "--like", like, "-o", out, "-q"),
        Measured("cp, fsync", ["sh", "-c", f"cp '{source}' '{out}' && sync '{out}'"]),
        Measured("cp", ["cp", source, out]),
        Measured("read, then create_dataset", [sys.executable, str(HERE / "naive.py"), source, out]),
    ]
    if shutil.which("h5repack"):
        ways.append(Measured("h5repack", ["h5repack", source, out]))
    if shutil.which("h5copy"):
        ways.append(
            Measured("h5copy", ["h5copy", "-i", source, "-o", out, "-s", "/model_1", "-d", "/model_1"])
        )
    bench.turns(ways, before=(lambda: _forget(source)) if cold else lambda: None)
    title = f"{tensors:,} tensors of {_bytes(size)}, {_bytes(tensors * size)} in all"
    yield f"\n### {title}{', cold cache' if cold else ''}\n"
    yield from table(ways, ways[len(bench.trees)])


def start_up(bench: Bench) -> Iterator[str]:
    """Compare what costs the same for every file."""
    source, like, out = bench.make(16, 4096)
    large, _, _ = bench.make(16, 256 * MEBI)
    middle, _, _ = bench.make(16, 256 * 1024)
    ways = [
        Measured('python -c "import h5py"', [sys.executable, "-c", "import h5py"]),
        *(way for word in ("--help", "--version") for way in _named(bench.ours(word), word)),
        *_named(bench.ours("inspect", source), "inspect, small file"),
        *_named(bench.ours("extract", source, "--like", like, "-o", out), "extract, small file"),
        *_named(bench.ours("inspect", middle), "inspect, 4 MiB"),
        *_named(bench.ours("inspect", large), "inspect, 4 GiB"),
    ]
    bench.turns(ways)
    yield "\n### Start-up\n"
    yield from table(ways, ways[0])


def per_tensor(bench: Bench, tensors: int) -> Iterator[str]:
    """Take the start-up off: what one more small tensor costs, with checks and comparison."""
    few, many = (bench.make(count, 400) for count in (2, tensors))
    ways = []
    for name, (source, like, out) in (("2 tensors", few), (f"{tensors:,} tensors", many)):
        ways += _named(bench.ours("extract", source, "--like", like, "-o", out, "-q"), name)
        ways.append(Measured(f"naive, {name}", [sys.executable, str(HERE / "naive.py"), source, out]))
    bench.turns(ways)
    yield f"\n### One more small tensor ({tensors:,} of 400 bytes)\n"
    yield from table(ways, ways[0])
    half = len(ways) // 2
    for less, more in zip(ways[:half], ways[half:], strict=True):
        each = (more.median - less.median) / (tensors - 2) * 1e6
        yield f"\n{more.name}: {each:.0f} µs a tensor once started."


def growth(bench: Bench, *, quick: bool) -> Iterator[str]:
    """Draw how time grows with bytes and with tensors."""
    sizes = [1, 4, 16, 64, 256] + ([] if quick else [1024, 4096])
    counts = [10, 30, 100, 300, 1000, 3000] + ([] if quick else [10_000])
    for name, across, cases in (
        ("bytes", "bytes in 16 tensors", [(16, mebi * MEBI // 16) for mebi in sizes]),
        ("tensors", "tensors of 400 bytes", [(count, 400) for count in counts]),
    ):
        series: dict[str, list[tuple[float, float]]] = {}
        for tensors, size in cases:
            source, like, out = bench.make(tensors, size)
            ways = [
                *bench.ours("extract", source, "--like", like, "-o", out, "-q"),
                Measured("cp, fsync", ["sh", "-c", f"cp '{source}' '{out}' && sync '{out}'"]),
                Measured("naive", [sys.executable, str(HERE / "naive.py"), source, out]),
            ]
            bench.turns(ways)
            x = tensors * size if name == "bytes" else tensors
            for way in ways:
                series.setdefault(way.name, []).append((x, way.median))
        (HERE / f"{name}.svg").write_text(plot(f"Time against {name}", across, "seconds", series))
        yield f"\n![Time against {name}]({name}.svg)\n"


def table(ways: Sequence[Measured], base: Measured) -> Iterator[str]:
    """Give a table of ways, with their ratio to one of them."""
    yield f"| way | median | fastest to slowest | × {base.name} | processor | memory |"
    yield "|---|---:|---:|---:|---:|---:|"
    for way in ways:
        yield (
            f"| {way.name} | {way.median:.3f} s | {min(way.seconds):.3f}–{max(way.seconds):.3f} s "
            f"| {way.median / base.median:.2f} | {statistics.median(way.cpu):.3f} s | {way.memory:.0f} MiB |"
        )


def _named(ways: list[Measured], name: str) -> list[Measured]:
    for way in ways:
        way.name = name if way.name == "h5remap" else f"{way.name}: {name}"
    return ways


def _bytes(size: int) -> str:
    for limit, word in ((1 << 30, "GiB"), (MEBI, "MiB"), (1 << 10, "KiB")):
        if size >= limit:
            return f"{size / limit:.4g} {word}"
    return f"{size} bytes"


def _forget(path: str) -> None:
    """Ask the system to forget what it has read of a file."""
    descriptor = os.open(path, os.O_RDONLY)
    os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    os.close(descriptor)


@contextmanager
def _trees(against: str | None) -> Iterator[dict[str, Path]]:
    if against is None:
        yield {"h5remap": ROOT}
        return
    packed = subprocess.run(["git", "archive", against], cwd=ROOT, capture_output=True, check=True).stdout
    with tempfile.TemporaryDirectory() as name:
        with tarfile.open(fileobj=BytesIO(packed)) as archive:
            archive.extractall(name, filter="data")
        yield {"h5remap": ROOT, f"h5remap {against}": Path(name)}


def _machine() -> str:
    commit = subprocess.run(
        ["git", "describe", "--always", "--dirty"], cwd=ROOT, capture_output=True, text=True, check=False
    ).stdout.strip()
    asked = "import h5py; print('h5py', h5py.version.version, 'with HDF5', h5py.version.hdf5_version)"
    library = subprocess.run([sys.executable, "-c", asked], capture_output=True, text=True, check=True).stdout
    return (
        f"{os.cpu_count()} processors, {platform.system()} {platform.release()}, "
        f"Python {platform.python_version()}, {library.strip()}; tree {commit}"
    )


def report(bench: Bench, *, quick: bool) -> Iterator[str]:
    """Measure everything and give the lines of RESULTS.md."""
    yield "# Results\n"
    yield f"`make bench` wrote this. {_machine()}; medians of {bench.rounds} rounds, the ways taking turns.\n"
    yield from conversions(bench, 16, 32 * MEBI)
    yield from conversions(bench, 16, 32 * MEBI, cold=True)
    if not quick:
        yield from conversions(bench, 16, 256 * MEBI)
    yield from conversions(bench, 6000, 400)
    yield from per_tensor(bench, 6000)
    yield from start_up(bench)
    yield "\n### Assignment alone\n"
    script = [sys.executable, str(HERE / "assignment.py"), str(bench.rounds)]
    yield subprocess.run(script, capture_output=True, text=True, check=True).stdout
    yield "\n### Growth\n"
    yield from growth(bench, quick=quick)
    yield "\n" + (HERE / "history.md").read_text()


def main() -> None:
    """Parse the command line, measure, write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--quick", action="store_true", help="leave out what takes gigabytes")
    parser.add_argument("--against", metavar="COMMIT", help="compare with another commit; writes no results")
    parser.add_argument(
        "--directory", type=Path, default=ROOT / "build", help="a directory on the disk to measure"
    )
    given = parser.parse_args()
    given.directory.mkdir(exist_ok=True)
    with _trees(given.against) as trees, tempfile.TemporaryDirectory(dir=given.directory) as name:
        for tree in trees.values():
            compileall.compile_dir(tree / "remap", quiet=1)  # as pip does with what it installs
        lines = []
        for line in report(Bench(Path(name), given.rounds, trees), quick=given.quick):
            print(line, flush=True)
            lines.append(line)
    if given.against is None:
        (HERE / "RESULTS.md").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
