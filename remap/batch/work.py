"""Convert one file of a batch, in whatever process an executor chose."""

from __future__ import annotations

import os
import tempfile
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from remap.batch.places import Identity, absolute, identity_of, make_parent, same_bytes
from remap.batch.warm import Interpreters
from remap.errors import OutputRefused, RemapError, Remedy, UsageRefused
from remap.isolation import IsolationFailed
from remap.options import Options
from remap.results import Report
from remap.urls import base_name, libraries, masked, remote

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from remap.conversion import Settled

__all__ = [
    "AHEAD",
    "INTERPRETERS",
    "Outcome",
    "Task",
    "as_named",
    "bug",
    "convert",
    "convert_here",
    "local_executor",
    "processors",
    "require_jobs",
]

AHEAD = 4
"""How many files to hand to an executor for each that is at work, so that no worker waits."""

INTERPRETERS = Interpreters(
    "remap.batch.work",
    "remap.checking",
    "remap.conversion",
    "remap.inspection",
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
            "remap.batch.work.convert_here",
            task,
            where=masked(task.source),
            progress=_extend,
            modules=libraries(task.source, task.target),
        )
    except RemapError as error:
        return Outcome(error=error)
    except IsolationFailed as error:
        hint = "convert this file alone to see the whole traceback, and report it"
        return Outcome(error=bug(error, where=masked(task.source), hint=hint))
    return outcome


def bug(error: IsolationFailed, *, where: str, hint: str) -> RemapError:
    """Put a bug that was met in the child process into one line, so that it does not stop the other files."""
    last = str(error).strip().rpartition("\n")[2]
    return RemapError(f"a bug in h5remap: {last}", where=where, hint=hint)


def as_named(error: RemapError, *names: str) -> RemapError:
    """Name files in an error as the caller did, and not by the places that a worker was given."""
    where = error.where
    for name in names:
        where = where.replace(absolute(name), masked(name))
    return type(error)(error.what, where=where, hint=error.hint, remedies=error.remedies)


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
    make_parent(task.target)
    try:
        report, found = _extracted(task, task.target, progress), False
    except OutputRefused:
        if task.options.overwrite or not (task.repeatable and _is_file(task.target)):
            raise
        report, found = _compared(task, progress), True
    return Outcome(report=report, source=source, target=identity_of(task.target), found=found)


def _is_file(place: str) -> bool:
    return identity_of(place) is not None if remote(place) is not None else Path(place).is_file()


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
        again = Path(
            directory, Path(task.target).name if remote(task.target) is None else base_name(task.target)
        )
        report = _extracted(task, str(again), progress)
        if same_bytes(str(again), task.target):
            return replace(report, target=masked(task.target))
    raise OutputRefused(
        "the output is there already and is not what this input and these settings give",
        where=masked(task.target),
        hint="give another directory, or have the file replaced",
        remedies=(Remedy(option="overwrite"),),
    )


def require_jobs(jobs: int | None) -> None:
    """Refuse to work on less than one file at a time."""
    if jobs is not None and jobs < 1:
        raise UsageRefused(f"{jobs} files at a time are not possible", hint="give 1 or more")


@contextmanager
def local_executor(jobs: int, at_work: Callable[[], bool]) -> Iterator[Executor]:
    """Give an executor whose threads wait for the processes of `INTERPRETERS`; in the end neither is left.

    Args:
        jobs: How many files to work on at a time.
        at_work: Tells in the end whether files are still at work, which are abandoned then.
    """
    executor = ThreadPoolExecutor(jobs)
    try:
        yield executor
    finally:
        if at_work():
            INTERPRETERS.interrupt()
        executor.shutdown(cancel_futures=True)
        INTERPRETERS.close()


def processors() -> int:
    """Count the processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
