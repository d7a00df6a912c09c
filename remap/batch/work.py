"""Convert one file of a batch, in whatever process an executor chose."""

from __future__ import annotations

import filecmp
import os
import tempfile
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from remap.batch.warm import Interpreters
from remap.errors import OutputRefused, RemapError, Remedy
from remap.isolation import IsolationFailed
from remap.options import Options
from remap.results import Report

if TYPE_CHECKING:
    from collections.abc import Callable

    from remap.conversion import Settled

__all__ = [
    "INTERPRETERS",
    "Identity",
    "Outcome",
    "Task",
    "convert",
    "convert_here",
    "identity_of",
]

INTERPRETERS = Interpreters(
    "remap.batch.work",
    "remap.conversion",
    "remap.hdf5.reader",
    "remap.hdf5.output",
    "remap.keras3.conversion",
)
"""The interpreters of this process: of the one that called, or of a worker of an executor of processes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """A file to convert. `repeatable` says that an output which is there may be of this task, done before."""

    source: str
    target: str
    options: Options
    repeatable: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """What tells whether a file is still the same: size in bytes, times of change of content and of status in ns.

    The second time cannot be set by programs, as copying tools set the first.
    """

    size: int
    mtime_ns: int
    ctime_ns: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How a task ended: with a report and the files as they were then, or with an error.

    `found` says that the output was there already, with the bytes that the task would have written.
    """

    report: Report | None = None
    source: Identity | None = None
    target: Identity | None = None
    found: bool = False
    error: RemapError | None = None


def convert(task: Task) -> Outcome:
    """Convert a file in isolation. The function that executors are given: it raises nothing that a file can cause.

    A task may be carried out again, by an executor that lost the worker: the output is complete or absent, and
    one that is complete is compared with what would be written.

    Args:
        task: The file, its output and the options.

    Returns:
        The outcome.
    """
    try:
        outcome: Outcome = INTERPRETERS.run(
            "remap.batch.work.convert_here", task, where=task.source, progress=_extend
        )
    except RemapError as error:
        return Outcome(error=error)
    except IsolationFailed as error:
        last = str(error).strip().rpartition("\n")[2]
        return Outcome(
            error=RemapError(
                f"a bug in h5remap: {last}",
                where=task.source,
                hint="convert this file alone to see the whole traceback, and report it",
            )
        )
    return outcome


def _extend(done: int, total: int) -> None:
    """Take a report of progress: the time limit counts anew from each."""


def convert_here(task: Task, progress: Callable[[int, int], None] | None = None) -> Outcome:
    """Convert a file in this process; `convert` calls it in a child with limits.

    Args:
        task: The file, its output and the options.
        progress: Called with the bytes done and the bytes in all.

    Returns:
        The outcome, never with an error.

    Raises:
        RemapError: What `remap.extract` raises.
    """
    source = identity_of(task.source)
    try:
        Path(task.target).parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputRefused(
            f"the directory cannot be made: {error.strerror}", where=str(Path(task.target).parent)
        ) from None
    try:
        report, found = _extracted(task, task.target, progress), False
    except OutputRefused:
        if task.options.overwrite or not (task.repeatable and Path(task.target).is_file()):
            raise
        report, found = _compared(task, progress), True
    return Outcome(report=report, source=source, target=identity_of(task.target), found=found)


@cache
def _settled() -> Settled:
    """Keep what was settled for the file before, in a child that converts several."""
    from remap.conversion import Settled

    return Settled()


def _extracted(task: Task, target: str, progress: Callable[[int, int], None] | None) -> Report:
    from remap.conversion import extract_with

    return extract_with(task.source, target, task.options, settled=_settled(), progress=progress)


def _compared(task: Task, progress: Callable[[int, int], None] | None) -> Report:
    """Convert once more, to a file that does not stay, and require that the output has the same bytes."""
    with tempfile.TemporaryDirectory(prefix="h5remap-") as directory:
        again = Path(directory, Path(task.target).name)
        report = _extracted(task, str(again), progress)
        if filecmp.cmp(again, task.target, shallow=False):
            return replace(report, target=task.target)
    raise OutputRefused(
        "the output is there already and is not what this input and these settings give",
        where=task.target,
        hint="give another directory, or have the file replaced",
        remedies=(Remedy(option="overwrite"),),
    )


def identity_of(path: str) -> Identity | None:
    """Identify a file as it is now; None where there is none."""
    try:
        status = os.stat(path)  # noqa: PTH116 - called once or more a file, and a Path costs as much again
    except (OSError, ValueError):
        return None
    return Identity(size=status.st_size, mtime_ns=status.st_mtime_ns, ctime_ns=status.st_ctime_ns)
