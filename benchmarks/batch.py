"""Measure a batch against a shell loop, `xargs -P2`, `cp` and its own parts.

    python benchmarks/batch.py [small] [large] [memory] [dask] [--files N] [--directory DIR]

Prints a table for each. Ratios of the time on the clock mean something only if the processors have nothing else to do;
processor time is what the processes of a measurement used, system time included.
"""

from __future__ import annotations

import argparse
import os
import resource
import shlex
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from inputs import write_like, write_multi

import remap
from remap.isolation import Isolation

COMMAND = [sys.executable, "-m", "remap", "extract"]
_LOOP = 30  # commands that are measured of a loop; more of them take the same time each


def spent() -> float:
    """Give the seconds of processor time of this process and of its children that have ended."""
    parts = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(part.ru_utime + part.ru_stime for part in parts)


def measured(work: Callable[[], object]) -> tuple[float, float]:
    """Give the seconds on the clock and of processor time that some work takes."""
    clock, processor = time.perf_counter(), spent()
    work()
    return time.perf_counter() - clock, spent() - processor


def converted(sources: list[Path], target: Path, like: Path | None, **named: object) -> None:
    """Convert and require that all were written."""
    shutil.rmtree(target, ignore_errors=True)
    found = Counter(result.status for result in remap.extract_many(sources, target, like=like, **named))  # type: ignore[arg-type]
    if found != {"written": len(sources)}:
        raise SystemExit(f"not all were written: {found}")


def copies(source: Path, folder: Path, count: int) -> list[Path]:
    """Copy a file so many times."""
    folder.mkdir()
    return [Path(shutil.copy(source, folder / f"epoch{number:05}.h5")) for number in range(count)]


def small(root: Path, count: int) -> None:
    """Compare many checkpoints of 60 small tensors: one process a file, warm processes, a child for each file."""
    multi, like, target = root / "small.h5", root / "small.json", root / "out"
    write_multi(multi, 60, 4000)
    write_like(like, 60, 4000)
    sources = copies(multi, root / "small", count)
    options = ["--like", str(like), "-q"]

    def loop() -> None:
        for source in sources[:_LOOP]:
            subprocess.run([*COMMAND, source, "-o", target / source.name, *options], check=True)

    def xargs() -> None:
        line = shlex.join([*COMMAND, "{}", "-o", f"{target}/x.{{}}.h5", *options])
        names = "\n".join(source.name for source in sources[: 2 * _LOOP])
        run = ["xargs", "-P2", "-I{}", *shlex.split(line)]
        subprocess.run(run, check=True, input=names, text=True, cwd=root / "small")

    def same_process() -> None:
        for source in sources[:_LOOP]:
            remap.extract(source, target / f"same.{source.name}", like=like)

    def forked() -> None:
        for source in sources[:_LOOP]:
            with Isolation(fork=True) as isolation:
                output = str(target / f"forked.{source.name}")
                isolation.run(
                    "remap.extract", source, output, where="", like=str(like), progress=lambda *_: None
                )

    def new() -> None:
        for source in sources[:_LOOP]:
            remap.extract(source, target / f"new.{source.name}", like=like, isolated=True)

    target.mkdir()
    rows = []
    works: list[tuple[str, Callable[[], None], int]] = [
        ("shell loop of `h5remap extract`", loop, _LOOP),
        ("`xargs -P2` of it", xargs, 2 * _LOOP),
        ("library, isolated, a new interpreter each", new, _LOOP),
        ("library, in a forked child each", forked, _LOOP),
        ("library, in one process", same_process, _LOOP),
        ("`extract_many`, 2 jobs", lambda: converted(sources, target, like, jobs=2), count),
    ]
    for name, work, files in works:
        clock, processor = measured(work)
        rows.append((name, clock / files * 1e3, processor / files * 1e3))
    last = rows[-1]
    print(f"\n{count:,} checkpoints of 60 tensors of 4 kB\n")
    print("| way | ms a file | processor ms a file | × clock | × processor |\n|---|---:|---:|---:|---:|")
    for name, clock, processor in rows:
        print(
            f"| {name} | {clock:.1f} | {processor:.1f} | {clock / last[1]:.1f} | {processor / last[2]:.1f} |"
        )
    clock, processor = measured(lambda: list(remap.extract_many(sources, target, like=like, resume=True)))
    print(
        f"\nAll skipped with resume: {clock / count * 1e3:.2f} ms a file, {processor / count * 1e3:.2f} processor ms."
    )


def large(root: Path, count: int) -> None:
    """Compare files of 256 MiB with `cp -r` and fsync."""
    multi, like, target = root / "large.h5", root / "large.json", root / "out"
    write_multi(multi, 16, 16 << 20)
    write_like(like, 16, 16 << 20)
    folder = root / "large"
    sources = copies(multi, folder, count)

    def copy() -> None:
        shutil.rmtree(target, ignore_errors=True)
        subprocess.run(["cp", "-r", folder, target], check=True)
        for path in target.iterdir():
            with path.open("rb") as file:
                os.fsync(file.fileno())

    ways = {
        "`cp -r` and fsync": copy,
        "`extract_many`, 2 jobs": lambda: converted(sources, target, like, jobs=2),
    }
    print(f"\n{count} files of {multi.stat().st_size >> 20} MiB, best of 3\n")
    print("| way | seconds | processor seconds |\n|---|---:|---:|")
    for name, work in ways.items():
        clock, processor = min(measured(work) for _ in range(3))
        print(f"| {name} | {clock:.2f} | {processor:.2f} |")


def memory(root: Path, count: int) -> None:
    """Watch the memory of the processes of a batch, and of the calling process with 100,000 names."""
    multi, like, target = root / "memory.h5", root / "memory.json", root / "out"
    write_multi(multi, 60, 4000)
    write_like(like, 60, 4000)
    sources = copies(multi, root / "memory", count)
    highest: Counter[str] = Counter()
    ended = threading.Event()

    def watch() -> None:
        while not ended.wait(0.02):
            for kind, resident in _of_children():
                highest[kind] = max(highest[kind], resident)

    watcher = threading.Thread(target=watch)
    watcher.start()
    converted(sources, target, like, jobs=2)
    ended.set()
    watcher.join()
    print(f"\nMemory, {count:,} files\n\n| process | most, MiB |\n|---|---:|")
    for kind, resident in sorted(highest.items()):
        print(f"| {kind} | {resident / (1 << 10):.1f} |")
    for names in (1_000, 100_000):
        code = (
            "import remap, sys\n"
            f"names = (f'missing/epoch{{number:06}}.h5' for number in range({names}))\n"
            f"results = remap.extract_many(names, sys.argv[1])\n"
            "status = open('/proc/self/status').read()\nresults.close()\nprint(status.split('VmHWM:')[1].split()[0])"
        )
        ran = subprocess.run(
            [sys.executable, "-c", code, root / "o"], capture_output=True, text=True, check=True
        )
        print(f"| calling process, {names:,} names | {int(ran.stdout) / (1 << 10):.1f} |")


def _of_children() -> Iterator[tuple[str, int]]:
    """Give the KiB of memory of the interpreters and of their children; shared pages are counted in each in part."""
    for child in _children(os.getpid()):
        yield "interpreter, its share", _kib(child, "Pss")
        yield "interpreter, resident", _kib(child, "Rss")
        for grandchild in _children(child):
            yield "child for a file, its share", _kib(grandchild, "Pss")
            yield "child for a file, resident", _kib(grandchild, "Rss")


def _children(process: int) -> list[int]:
    try:
        tasks = list(Path(f"/proc/{process}/task").iterdir())
        return [int(child) for task in tasks for child in (task / "children").read_text().split()]
    except OSError:
        return []


def _kib(process: int, field: str) -> int:
    try:
        lines = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return sum(int(line.split()[1]) for line in lines if line.startswith(f"{field}:"))


def dask(root: Path, count: int) -> None:
    """Compare one worker with two on a Dask cluster on this machine."""
    from distributed import Client, LocalCluster

    multi, like, target = root / "dask.h5", root / "dask.json", root / "out"
    write_multi(multi, 600, 4000)
    write_like(like, 600, 4000)
    sources = copies(multi, root / "dask", count)
    print(f"\nDask, {count} checkpoints of 600 tensors\n\n| workers | seconds |\n|---:|---:|")
    for workers in (1, 2):
        with (
            LocalCluster(n_workers=workers, threads_per_worker=1, dashboard_address=None) as cluster,
            Client(cluster) as client,
        ):
            executor = client.get_executor()
            converted(sources[: 2 * workers], target, like, executor=executor)
            clock, _ = measured(lambda executor=executor: converted(sources, target, like, executor=executor))  # type: ignore[misc]
        print(f"| {workers} | {clock:.2f} |")


def main() -> None:
    """Measure what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "kinds", nargs="*", choices=["small", "large", "memory", "dask", []], default=["small"]
    )
    parser.add_argument("--files", type=int)
    parser.add_argument("--directory", type=Path)
    given = parser.parse_args()
    defaults = {"small": 1000, "large": 64, "memory": 200, "dask": 60}
    works = {"small": small, "large": large, "memory": memory, "dask": dask}
    for kind in given.kinds:
        with tempfile.TemporaryDirectory(dir=given.directory) as folder:
            works[kind](Path(folder), given.files or defaults[kind])


if __name__ == "__main__":
    main()
