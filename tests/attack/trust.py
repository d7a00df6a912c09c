"""Measure what docs/trust.md promises, through the command line as people use it.

    python -m tests.attack.trust attacks     # every harmful file: exit code, time, memory, files opened
    python -m tests.attack.trust faults      # every system call, once with every fault
    python -m tests.attack.trust kills       # SIGKILL at 500 random moments
    python -m tests.attack.trust reproduce   # 20 varied runs, one digest
    python -m tests.attack.trust memory      # 4 GiB, and a file of each size

Linux only. `attacks` needs strace. Each ends with exit code 1 when a figure is missed.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import h5py
import numpy as np

from tests.attack.corpus import ATTACKS, base, make_canary, unpack
from tests.attack.test_faults import MODES, spoil
from tests.faults import KINDS, Faults
from tests.handmade import names

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

ROOT = Path(__file__).resolve().parents[2]
COMMAND = (sys.executable, "-m", "remap")
# A small process between, for the system counts the memory of whoever starts a process as that process's own.
METER = """
import os, resource, subprocess, sys, time
start = time.monotonic()
code = subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL).returncode
print(code, time.monotonic() - start, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
"""


@dataclass(frozen=True, slots=True)
class Ended:
    """How a command ended: exit code, seconds, peak memory in bytes, what it said."""

    code: int
    seconds: float
    memory: int
    words: str


def command(*arguments: str | Path, environment: Mapping[str, str] | None = None, cwd: Path = ROOT) -> Ended:
    """Run h5remap; the memory is the largest of the processes that it is made of."""
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", METER, *COMMAND, *map(str, arguments)],
        capture_output=True,
        env={**os.environ, "PYTHONPATH": str(ROOT), **(environment or {})},
        cwd=cwd,
        check=True,
    )
    code, seconds, memory = done.stdout.split()
    return Ended(int(code), float(seconds), int(memory) << 10, done.stderr.decode(errors="replace"))


def attacks() -> bool:
    """Give every harmful file to the command line, at every place where a file can be given."""
    worst_time = worst_memory = 0.0
    missed = []
    opened_elsewhere = written_elsewhere = 0
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name).resolve()
        make_canary(directory / "canary")
        (directory / "out").mkdir()
        (directory / "multi_weights.h5").write_bytes(base("weights"))
        (directory / "single.json").write_bytes(unpack("single.json"))
        for attack in ATTACKS:
            harm = directory / "harm.h5"
            attack.make(harm, directory / "canary")
            like = {"full": (), "weights": ("--like", directory / "single.json"), "like": ("--like", harm)}
            source = directory / "multi_weights.h5" if attack.base == "like" else harm
            arguments = ("extract", source, "-o", directory / "out" / "out.h5", *like[attack.base])
            ended = command(*arguments)
            worst_time, worst_memory = max(worst_time, ended.seconds), max(worst_memory, ended.memory)
            plain = " ".join(ended.words.split())
            right = ended.code == 3 and re.search(attack.what, plain) and attack.place in plain
            if not right or list((directory / "out").iterdir()):
                missed.append(attack.name)
                _say(f"  missed: {attack.name}: exit {ended.code}: {plain[:300]}")
            read, wrote = _opened(arguments, directory)
            opened_elsewhere += len(read)
            written_elsewhere += len(wrote)
            if read or wrote:
                _say(f"  {attack.name}: opened {read} {wrote}")
    _say(
        f"{len(ATTACKS)} attacks: {len(ATTACKS) - len(missed)} refused with exit 3, the reason and the place"
    )
    _say(f"longest {worst_time:.2f} s, largest {worst_memory / 2**20:.0f} MiB")
    _say(f"canary files opened: {opened_elsewhere}; files opened for writing elsewhere: {written_elsewhere}")
    return not missed and not opened_elsewhere and not written_elsewhere


_OPEN = re.compile(r'(?:openat|openat2|open|creat)\((?:[^"]*, )?"([^"]*)", ?([A-Z_|{}=a-z ]*)')


def _opened(arguments: tuple[str | Path, ...], directory: Path) -> tuple[set[str], set[str]]:
    """List the canary files that the command opens, and what it opens for writing elsewhere than it may."""
    log = directory / "trace"
    subprocess.run(
        [
            "strace",
            "-f",
            "-qq",
            "-e",
            "trace=open,openat,openat2,creat",
            "-o",
            log,
            *COMMAND,
            *map(str, arguments),
        ],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"},
        check=False,
    )
    read, wrote = set(), set()
    for path, flags in _OPEN.findall(log.read_text(errors="replace")):
        if path.startswith(str(directory / "canary")):
            read.add(path)
        if ("O_WRONLY" in flags or "O_RDWR" in flags) and not path.startswith(
            (str(directory / "out"), "/dev/")
        ):
            wrote.add(path)
    log.unlink()
    return read, wrote


def faults() -> bool:
    """Spoil every system call of a conversion, once with every fault."""
    counts: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as name:
        for number, mode in enumerate(MODES):
            overwrite, unnamed, archive = map(bool, mode.values)
            directory = Path(name) / str(number)
            directory.mkdir()
            whole = Faults()
            spoil(directory, whole, overwrite=overwrite, unnamed=unnamed, archive=archive)
            for kind in (*KINDS, "short", "lie"):
                for at in range(len(whole.log)):
                    faults = Faults(at, kind)
                    error, _ = spoil(directory, faults, overwrite=overwrite, unnamed=unnamed, archive=archive)
                    left = {path.name for path in directory.iterdir()} - {"in.h5", "out.h5"}
                    for leftover in left:
                        (directory / leftover).unlink()
                    ending = type(error).__name__ if error else "converted all the same"
                    counts[ending + (" (something left)" if left else "")] += 1
    _say(
        f"{sum(counts.values()):,} faults, each system call once with each of {', '.join(KINDS)}, short, lie:"
    )
    for ending, count in counts.most_common():
        _say(f"{count:>7,}  {ending}")
    return set(counts) <= {
        "InputRefused",
        "OutputRefused",
        "converted all the same",
        "OutputRefused (something left)",  # the system refuses to remove a draft that has a name
    }


def kills(count: int = 500) -> bool:
    """Kill the command at random moments; what is left may only be a whole output."""
    chance = random.Random(1)
    torn = left = whole = 0
    with tempfile.TemporaryDirectory(dir=_disk()) as name:
        directory = Path(name)
        source = write_wrapper(directory / "in.h5", tensors=16, size=4 << 20)
        like = write_like(directory / "like.h5", tensors=16, size=4 << 20)
        out = directory / "out"
        out.mkdir()
        arguments = ("extract", source, "-o", out / "out.h5", "--like", like)
        ended = command(*arguments)
        expected = _digest(out / "out.h5")
        (out / "out.h5").unlink()
        for _ in range(count):
            process = subprocess.Popen(
                [*COMMAND, *map(str, arguments)],
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                env={**os.environ, "PYTHONPATH": str(ROOT)},
                start_new_session=True,
            )
            time.sleep(chance.uniform(0, ended.seconds * 1.2))
            with suppress(ProcessLookupError):
                # Half of the time only the parent, as a person would.
                (os.killpg if chance.random() < 0.5 else os.kill)(process.pid, signal.SIGKILL)
            process.wait()
            _wait_for_session(process.pid)
            if (out / "out.h5").exists():
                whole += 1
                torn += _digest(out / "out.h5") != expected
                (out / "out.h5").unlink()
            for path in out.iterdir():
                left += 1
                path.unlink()
    _say(f"{count} kills: {whole} came after the output was whole; torn: {torn}; left over: {left}")
    return torn == left == 0


def _wait_for_session(session: int) -> None:
    """Wait until no process of a session is left: a child may outlive its parent for a moment."""
    while any(_session(process) == session for process in Path("/proc").glob("[0-9]*")):
        time.sleep(0.01)


def _session(process: Path) -> int:
    with suppress(OSError, IndexError, ValueError):
        return int((process / "stat").read_text().rpartition(")")[2].split()[3])
    return -1


def reproduce(count: int = 20) -> bool:
    """Convert one file in varied circumstances."""
    chance = random.Random(2)
    digests = set()
    with tempfile.TemporaryDirectory() as name:
        for number in range(count):
            directory = Path(name) / ("d" * chance.randrange(1, 60) + f" {number} é")
            directory.mkdir()
            source = directory / f"input {number}.h5"
            source.write_bytes(base("full"))
            os.utime(source, (chance.randrange(1 << 30),) * 2)
            before = os.umask(chance.choice([0o000, 0o022, 0o077]))
            environment = {
                "PYTHONHASHSEED": str(chance.randrange(1 << 32)),
                "TZ": chance.choice(["UTC", "Asia/Tokyo", "America/Lima"]),
                "LC_ALL": chance.choice(["C", "C.UTF-8", "POSIX"]),
                "HOME": str(directory),
                "COLUMNS": str(chance.randrange(40, 200)),
            }
            target = directory / f"out{number}.h5"
            ended = command("extract", source, "-o", target, environment=environment, cwd=directory)
            os.umask(before)
            digests.add(_digest(target) if ended.code == 0 else f"exit {ended.code}")
    _say(f"{count} runs, {len(digests)} digest(s): {', '.join(sorted(digests))}")
    return len(digests) == 1


def memory() -> bool:
    """Convert files of few large and of many small tensors; report the peak of memory."""
    kept = True
    with tempfile.TemporaryDirectory(dir=_disk()) as name:
        directory = Path(name)
        for tensors, size in (
            (16, 1 << 16),
            (16, 1 << 25),
            (16, 1 << 28),
            (1000, 400),
            (6000, 400),
            (20_000, 400),
        ):
            source = write_wrapper(directory / "in.h5", tensors=tensors, size=size)
            like = write_like(directory / "like.h5", tensors=tensors, size=size)
            ended = command("extract", source, "-o", directory / "out.h5", "--like", like, "--overwrite")
            limit = (64 << 20) + tensors * (16 << 10)
            kept = kept and ended.code == 0 and ended.memory <= limit
            _say(
                f"{tensors:>6,} tensors of {size:>11,} bytes: exit {ended.code}, "
                f"{ended.memory / 2**20:6.1f} MiB of at most {limit / 2**20:6.1f}, {ended.seconds:.2f} s"
            )
            shutil.rmtree(directory)
            directory.mkdir()
    return kept


def _leaves(tensors: int) -> list[tuple[str, list[str]]]:
    return [(f"dense_{layer}", ["kernel:0", "bias:0"]) for layer in range(tensors // 2)]


def write_wrapper(path: Path, *, tensors: int, size: int) -> Path:
    """Write a multi-GPU weights file of as many tensors of `size` bytes; large ones are holes."""
    with h5py.File(path, "w") as file:
        file.attrs["layer_names"] = names(["input_1", "lambda_1", "lambda_2", "model_1", "out"])
        file.attrs["backend"], file.attrs["keras_version"] = b"tensorflow", b"2.2.4"
        for layer in ("input_1", "lambda_1", "lambda_2", "out"):
            file.create_group(layer).attrs["weight_names"] = names([])
        group = file.create_group("model_1")
        listed = [f"{layer}/{leaf}" for layer, leaves in _leaves(tensors) for leaf in leaves]
        _write_list(group, listed)
        _write_tensors(group, listed, size)
    return path


def write_like(path: Path, *, tensors: int, size: int) -> Path:
    """Write a file of the single model's shapes; its values are holes."""
    with h5py.File(path, "w") as file:
        layers = _leaves(tensors)
        _write_list(file, [layer for layer, _ in layers], "layer_names")
        file.attrs["backend"], file.attrs["keras_version"] = b"tensorflow", b"2.2.4"
        for layer, leaves in layers:
            group = file.create_group(layer)
            group.attrs["weight_names"] = names(f"{layer}/{leaf}" for leaf in leaves)
            _write_tensors(group, [f"{layer}/{leaf}" for leaf in leaves], size)
    return path


def _write_list(group: h5py.Group, listed: list[str], attribute: str = "weight_names") -> None:
    whole = names(listed)
    pieces = np.array_split(whole, -(-whole.nbytes // 60_000))
    for number, piece in enumerate(pieces):
        group.attrs[attribute if len(pieces) == 1 else f"{attribute}{number}"] = piece


def _write_tensors(group: h5py.Group, listed: list[str], size: int) -> None:
    options = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    options.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
    options.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
    for number, name in enumerate(listed):
        parent, _, leaf = name.rpartition("/")
        shape = (size // 8, 2) if leaf.startswith("kernel") else (size // 4,)
        space = h5py.h5s.create_simple(shape)
        inside = group.require_group(parent).id
        dataset = h5py.h5d.create(inside, leaf.encode(), h5py.h5t.IEEE_F32LE, space, options)
        if size <= 1 << 20:
            dataset.write(h5py.h5s.ALL, h5py.h5s.ALL, np.full(shape, number, "<f4"))


def _disk() -> Path:
    """Give a directory on a real disk, which that of temporary files need not be."""
    directory = ROOT / "build"
    directory.mkdir(exist_ok=True)
    return directory


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


PROOFS: dict[str, Callable[[], bool]] = {
    "attacks": attacks,
    "faults": faults,
    "kills": kills,
    "reproduce": reproduce,
    "memory": memory,
}


def main() -> None:
    """Measure what is named on the command line, everything without a name."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("proof", nargs="*", choices=[*PROOFS, []])
    wanted: Iterator[str] = iter(parser.parse_args().proof or PROOFS)
    kept = [PROOFS[name]() for name in wanted]
    sys.exit(0 if all(kept) else 1)


if __name__ == "__main__":
    main()
