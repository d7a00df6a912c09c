"""Damage real files at random and see that each is refused in our words or converts to exactly what it holds.

    python -m tests.attack.fuzz --runs 2000            # a fixed number
    python -m tests.attack.fuzz --minutes 60 --seed 7  # a campaign

Every run is named by what was damaged and a number, and can be repeated alone: `--only
multi.h5@keras-2.2.4/conv_bn#17`. Runs happen in children, for libhdf5 may loop for ever or crash on what we
make; whoever dies is given to the command line afterwards, which must refuse it with exit code 3. The judge
of what a damaged file holds is h5py, not our reader.
"""

from __future__ import annotations

import argparse
import io
import lzma
import os
import random
import resource
import signal
import struct
import subprocess
import sys
import tarfile
import tempfile
import time
import traceback
import zipfile
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import h5py
import numpy as np

from remap import RemapError, extract, plan

if TYPE_CHECKING:
    from collections.abc import Iterator

    from remap.conversion_plan import Plan

FIXTURES = Path(__file__).resolve().parents[2] / "fixtures"
BATCH = 40
DEADLINE = 10
MEMORY = 1 << 30

# What may be damaged, and what else the conversion is given: the file to convert and the one to be like.
ROLES = {
    "multi.h5": ("multi.h5", None),
    "multi_weights.h5": ("multi_weights.h5", "single.json"),
    "fresh_weights.h5": ("multi_weights.h5", "fresh_weights.h5"),
    "single.json": ("multi_weights.h5", "single.json"),
    "single.keras": ("multi_weights.h5", "single.keras"),
}


@dataclass(frozen=True, slots=True)
class Subject:
    """A member of a fixture that is damaged, and the files that take part in its conversion."""

    name: str
    member: str
    files: dict[str, bytes]


@dataclass(frozen=True, slots=True)
class Run:
    """One damaged file."""

    subject: int
    number: int


def subjects(pattern: str = "*/*") -> list[Subject]:
    """Unpack every fixture and list what of it can be damaged."""
    found = []
    for archive in sorted(FIXTURES.glob(f"{pattern}.tar.xz")):
        with lzma.open(archive) as packed, tarfile.open(fileobj=packed) as members:
            files = {
                member.name: content.read()
                for member in members
                if (content := members.extractfile(member)) is not None
                and member.name.endswith((".h5", ".json"))
            }
        if "single.json" in files:
            files["single.keras"] = _archived(files["single.json"])
        case = f"{archive.parent.name}/{archive.name.split('.')[0]}"
        for damaged, needed in ROLES.items():
            names = {damaged, *(name for name in needed if name)}
            if names <= set(files):
                found.append(
                    Subject(f"{damaged}@{case}", damaged, {name: files[name] for name in sorted(names)})
                )
    return found


def _archived(config: bytes) -> bytes:
    """Put an architecture where Keras 3 has it; the archive's other members are never looked at."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(zipfile.ZipInfo("config.json"), config, zipfile.ZIP_DEFLATED)
    return packed.getvalue()


# Damage.

_NUMBERS = [
    0,
    1,
    2,
    7,
    8,
    16,
    0x7F,
    0x80,
    0xFF,
    0x100,
    0x7FFF,
    0xFFFF,
    1 << 20,
    0x7FFFFFFF,
    0xFFFFFFFF,
    (1 << 63) - 1,
]


def damage(content: bytes, chance: random.Random) -> bytes:
    """Damage a file in one of the ways that disks, networks and attackers do."""
    data = bytearray(content)
    ways = [_bits, _bits, _bytes, _bytes, _numbers, _numbers, _cut, _zeros, _splice, _swap, _insert, _erase]
    chance.choice(ways)(data, chance)
    return bytes(data)


def _place(data: bytearray, chance: random.Random) -> int:
    """Choose a byte, more often one near a structure than inside a tensor."""
    if chance.random() < 0.5:
        signature = chance.choice(
            [b"TREE", b"SNOD", b"HEAP", b"GCOL", b"OHDR", b"weight_names", b"layer_names", b":0", b"PK"]
        )
        places: list[int] = []
        start = data.find(signature)
        while start >= 0 and len(places) < 200:
            places.append(start)
            start = data.find(signature, start + 1)
        if places:
            return min(len(data) - 1, max(0, chance.choice(places) + chance.randrange(-64, 200)))
    return chance.randrange(len(data))


def _bits(data: bytearray, chance: random.Random) -> None:
    for _ in range(chance.choice([1, 1, 1, 2, 8])):
        data[_place(data, chance)] ^= 1 << chance.randrange(8)


def _bytes(data: bytearray, chance: random.Random) -> None:
    for _ in range(chance.choice([1, 1, 1, 2, 8, 64])):
        data[_place(data, chance)] = chance.randrange(256)


def _numbers(data: bytearray, chance: random.Random) -> None:
    width = chance.choice([2, 4, 8])
    place = _place(data, chance) & ~1
    number = chance.choice([*_NUMBERS, len(data), chance.randrange(len(data))]) & ((1 << 8 * width) - 1)
    data[place : place + width] = struct.pack("<Q", number)[:width]


def _cut(data: bytearray, chance: random.Random) -> None:
    del data[chance.randrange(len(data)) :]


def _zeros(data: bytearray, chance: random.Random) -> None:
    start = chance.randrange(len(data))
    size = min(chance.choice([8, 64, 512, 4096, 65536]), len(data) - start)
    data[start : start + size] = bytes(size)


def _splice(data: bytearray, chance: random.Random) -> None:
    source, size = _place(data, chance), chance.choice([8, 16, 40, 328, 544, 1024, 4096])
    target = _place(data, chance)
    piece = data[source : source + size]
    data[target : target + len(piece)] = piece


def _swap(data: bytearray, chance: random.Random) -> None:
    size = chance.choice([8, 16, 24, 40])
    one, other = _place(data, chance) & ~7, _place(data, chance) & ~7
    data[one : one + size], data[other : other + size] = data[other : other + size], data[one : one + size]


def _insert(data: bytearray, chance: random.Random) -> None:
    place = _place(data, chance)
    data[place:place] = chance.randbytes(chance.choice([1, 8, 512]))


def _erase(data: bytearray, chance: random.Random) -> None:
    place = _place(data, chance)
    del data[place : place + chance.choice([1, 8, 512])]


# One run.


def attempt(subject: Subject, number: int, directory: Path) -> str:
    """Damage, convert, judge; say how it ended. Raises AssertionError when it ended as it never may."""
    source, like, target = prepare(subject, number, directory)
    refusal: RemapError | None = None
    try:
        extract(source, target, like=like, overwrite=True)
    except RemapError as error:
        refusal = error
    if refusal is None:
        judge(plan(source, like=like), source, target)
        return "converted"
    assert not target.exists(), "refused, but something was left"
    assert str(refusal).isprintable(), "the message would do things to a terminal"
    return f"refused ({type(refusal).__name__})"


def prepare(subject: Subject, number: int, directory: Path) -> tuple[Path, Path | None, Path]:
    """Write the files of a run; give the one to convert, the one to be like, and the output's name."""
    chance = random.Random(f"{subject.name}#{number}")
    for name, content in subject.files.items():
        path = directory / name
        path.write_bytes(damage(content, chance) if name == subject.member else content)
    source, like = ROLES[subject.member]
    target = directory / "out.h5"
    target.unlink(missing_ok=True)
    return directory / source, directory / like if like else None, target


def judge(planned: Plan, source: Path, target: Path) -> None:
    """Compare the output with the input by h5py alone: every tensor, its type, shape and bytes."""
    with h5py.File(source) as before, h5py.File(target) as after:
        full = "model_weights" in after and "layer_names" not in after.attrs
        root = after["model_weights"] if full else after
        places = [
            (weight, root[f"{layer.name}/{weight.name}"])
            for layer in planned.layers
            for weight in layer.weights
        ]
        if planned.optimizer is not None and full:
            places += [(weight, after[f"optimizer_weights/{weight.name}"]) for weight in planned.optimizer]
        for weight, written in places:
            given = before[weight.source.path]
            assert written.dtype == given.dtype, f"{written.name} has another type than {given.name}"
            assert written.shape == given.shape, f"{written.name} has another shape than {given.name}"
            assert _bytes_of(written) == _bytes_of(given), f"{written.name} has other bytes than {given.name}"


def _bytes_of(dataset: h5py.Dataset) -> bytes:
    return np.asarray(dataset[()]).tobytes()


# Many runs.


def batch(runs: list[Run], known: list[Subject], directory: Path) -> Iterator[tuple[Run, str]]:
    """Do runs in one child after the other; give how each ended. A child that dies is followed by another."""
    while runs:
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:
            _serve(runs, known, directory, writing)
        os.close(writing)
        done = 0
        with os.fdopen(reading, "rb") as messages:
            while (size := messages.read(4)) and len(size) == 4:
                yield runs[done], messages.read(int.from_bytes(size, "little")).decode()
                done += 1
        status = os.waitpid(child, 0)[1]
        runs = runs[done:]
        if runs:
            yield runs[0], "died: " + signal.Signals(os.WTERMSIG(status)).name
            runs = runs[1:]


def _serve(runs: list[Run], known: list[Subject], directory: Path, writing: int) -> None:
    try:
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY * 4, MEMORY * 4))
        silent = os.open(os.devnull, os.O_WRONLY)
        os.dup2(silent, 2)
        for run in runs:
            used = resource.getrusage(resource.RUSAGE_SELF)
            hard = resource.getrlimit(resource.RLIMIT_CPU)[1]
            resource.setrlimit(resource.RLIMIT_CPU, (int(used.ru_utime + used.ru_stime) + DEADLINE, hard))
            try:
                outcome = attempt(known[run.subject], run.number, directory)
            except BaseException:
                outcome = "FAILED " + traceback.format_exc()
            content = outcome.encode()
            os.write(writing, len(content).to_bytes(4, "little") + content)
    finally:
        os._exit(0)


def by_command_line(subject: Subject, number: int, directory: Path) -> tuple[int, float]:
    """Give a run to the command line; return its exit code and the seconds it took."""
    source, like, target = prepare(subject, number, directory)
    command = [sys.executable, "-m", "remap", "extract", str(source), "-o", str(target), "--overwrite"]
    start = time.monotonic()
    done = subprocess.run(
        [*command, *(["--like", str(like)] if like else [])], capture_output=True, check=False, timeout=120
    )
    if b"Traceback" in done.stderr:
        return 1, time.monotonic() - start
    return done.returncode, time.monotonic() - start


def campaign(*, runs: int | None, minutes: float | None, seed: int, cases: str = "*/*") -> int:
    """Run until the number or the time is reached; return how many runs ended as none may."""
    known = subjects(cases)
    chance = random.Random(seed)
    base = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None  # noqa: S108 - a fresh directory is made in it
    counts: Counter[str] = Counter()
    failures: list[tuple[str, str]] = []
    end = time.monotonic() + minutes * 60 if minutes else None
    total = 0
    with tempfile.TemporaryDirectory(dir=base) as name:
        directory = Path(name)
        while (runs is None or total < runs) and (end is None or time.monotonic() < end):
            size = min(BATCH, runs - total) if runs else BATCH
            todo = [Run(chance.randrange(len(known)), chance.randrange(1 << 40)) for _ in range(size)]
            for run, outcome in batch(todo, known, directory):
                total += 1
                label = f"{known[run.subject].name}#{run.number}"
                if outcome.startswith("died"):
                    code, seconds = by_command_line(known[run.subject], run.number, directory)
                    _say(f"{label}: {outcome}; command line: exit {code} in {seconds:.1f} s")
                    if code not in (0, 3, 4, 5):
                        failures.append((label, outcome))
                if outcome.startswith("FAILED"):
                    failures.append((label, outcome))
                    _say(f"{label}: {outcome}")
                    outcome = "FAILED"
                counts[outcome] += 1
    _say(f"{total:,} damaged files made from {len(known)} real ones, seed {seed}")
    for outcome, count in counts.most_common():
        _say(f"{count:>9,}  {outcome}")
    _say(f"{len(failures):>9,}  ended as none may")
    return len(failures)


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def main() -> None:
    """Parse the command line and run."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=int)
    parser.add_argument("--minutes", type=float)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--cases", default="*/*", help="which fixtures, as a file pattern")
    parser.add_argument("--only", help="repeat one run by its name")
    given = parser.parse_args()
    if given.only:
        name, _, number = given.only.rpartition("#")
        (subject,) = [subject for subject in subjects() if subject.name == name]
        with tempfile.TemporaryDirectory() as directory:
            _say(attempt(subject, int(number), Path(directory)))
        return
    if given.runs is None and given.minutes is None:
        parser.error("give --runs or --minutes")
    failures = campaign(runs=given.runs, minutes=given.minutes, seed=given.seed, cases=given.cases)
    sys.exit(1 if failures else 0)


if __name__ == "__main__":
    main()
