"""Run a batch: hand files to an executor, a few at a time, and give results as files end."""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Executor, Future
from contextlib import ExitStack
from dataclasses import replace
from itertools import islice
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import NamedTuple

from remap.batch.files import Files, Selection, Work
from remap.batch.places import absolute, exists, make_directory
from remap.batch.record import Record, fingerprint, record_in
from remap.batch.results import FORMATS, FormatName, Progress, Result, status_of
from remap.batch.work import AHEAD, Outcome, Task, as_named, convert, local_executor, processors, require_jobs
from remap.errors import RemapError, UsageRefused
from remap.options import Options
from remap.reference_file import names_network
from remap.urls import masked, remote

__all__ = ["extract_many"]

_AHEAD_ELSEWHERE = 1024


def extract_many(
    sources: Iterable[str | os.PathLike[str]],
    target: str | os.PathLike[str],
    *,
    executor: Executor | None = None,
    format: FormatName = "h5",  # noqa: A002 - the name that the command line and other libraries have for it
    recursive: bool = False,
    include: Iterable[str] = (),
    exclude: Iterable[str] = (),
    like: str | os.PathLike[str] | None = None,
    plain: bool = False,
    keep_flags: bool = False,
    submodel: str | None = None,
    weights_only: bool = False,
    overwrite: bool = False,
    resume: bool = False,
    fail_fast: bool = False,
    jobs: int | None = None,
    progress: Callable[[Progress], None] | None = None,
) -> Generator[Result, None, None]:
    """Write the single models in many multi-GPU checkpoints to files in a directory.

    Each file is converted as `remap.extract` does it, in a process of its own with limits on time and memory: one
    that is refused, crashes or never ends does not stop the others. Outputs have the names of their inputs, with the
    extension of the format, and the places below `target` that files found in a directory have below that directory.
    A record beside the outputs, ``.h5remap.jsonl``, tells what was made from what.

    >>> import remap
    >>> results = list(remap.extract_many(["epoch1.h5", "epoch2.h5"], "single"))
    >>> [result.status for result in results]
    ['written', 'written']

    Args:
        sources: Files; also directories where `recursive` is True. May be a generator of any length: names are kept
            on disk.
        target: The directory of the outputs, made if it is not there.
        executor: Where to convert: an executor of threads or processes, or one of a cluster, such as Dask's
            ``Client.get_executor()``, whose workers have this release of h5remap and see the same files. By default
            this machine.
        format: Format, and so the extension, of the outputs.
        recursive: Convert the files below directories. Links to directories are not followed.
        include: Patterns such as ``weights.*.h5``; only files that match one are converted. Matched with the name,
            and with the path below the directory if the pattern has a slash. By default, files found in directories
            have to end in .h5, .hdf5 or .hdf.
        exclude: Patterns of files to leave out.
        like: The reference model, as for `remap.extract`, and so the next four.
        plain: Nothing was frozen, and no model is nested.
        keep_flags: Keep the order of the checkpoint's trainable flags.
        submodel: A model inside each model, which is extracted alone: its name or its path.
        weights_only: Leave architecture and training state behind.
        overwrite: Replace outputs that are there.
        resume: Skip outputs that are there and were made from the same input by the same settings, as the record
            tells; of outputs that it does not tell of, skip those that have the bytes that would be written.
        fail_fast: Begin no other file after one was refused or failed.
        jobs: How many files to convert at a time, by default one for each processor; with an executor, how many to
            hand to it at a time.
        progress: Called at the beginning and after each file.

    Returns:
        An iterator of one result for each file, as files end. To close it ends the batch: files at work are
        abandoned, and no output is ever incomplete.

    Raises:
        UsageRefused: Two inputs would get one output, an output is an input, a directory is among the sources
            without `recursive`, the target is a file, or arguments have values they cannot have. Nothing was
            written.
        InputRefused: The reference model or a directory cannot be read.
        OutputRefused: The directory cannot be made; from the iterator, the record cannot be written.
    """
    if format not in FORMATS:
        raise UsageRefused(f"no such format: {format}", hint=f"formats are {', '.join(FORMATS)}")
    require_jobs(jobs)
    directory = remote(target) or os.fsdecode(target)
    if remote(directory) is None and Path(directory).exists() and not Path(directory).is_dir():
        raise UsageRefused(
            "the output is a file", where=directory, hint="many files need a directory for their outputs"
        )
    options = Options(
        like=None if like is None else os.fsdecode(like) if names_network(like) else absolute(like),
        plain=plain,
        keep_flags=keep_flags,
        submodel=submodel,
        weights_only=weights_only,
        overwrite=overwrite,
    )
    mark = fingerprint(options)
    files = Files(
        directory,
        format,
        Selection(recursive=recursive, include=tuple(include), exclude=tuple(exclude)),
    )
    try:
        files.add(sources)
        files.check()
        make_directory(directory)
        record = record_in(directory, mark)
        if resume:
            record.read()
    except BaseException:
        files.close()
        raise
    batch = _Batch(files, record, options, resume=resume, fail_fast=fail_fast, progress=progress)
    return batch.run(executor, jobs)


class _Ended(NamedTuple):
    """A file that is no longer at work."""

    work: Work
    repeated: bool
    future: Future[Outcome] | None


class _Batch:
    """The state of a running batch."""

    def __init__(
        self,
        files: Files,
        record: Record,
        options: Options,
        *,
        resume: bool,
        fail_fast: bool,
        progress: Callable[[Progress], None] | None,
    ) -> None:
        self._files = files
        self._record = record
        self._options = options
        self._resume = resume
        self._fail_fast = fail_fast
        self._progress = progress
        self._done = Progress(files_done=0, files=files.count, bytes_done=0, bytes=files.bytes)
        self._ended: SimpleQueue[_Ended] = SimpleQueue()
        self._at_work: set[Future[Outcome]] = set()

    def run(self, executor: Executor | None, jobs: int | None) -> Generator[Result, None, None]:
        """Yield results; whatever ends this, nothing stays at work and what was written is recorded."""
        if self._progress is not None:
            self._progress(self._done)
        with ExitStack() as stack:
            stack.callback(self._files.close)
            stack.enter_context(self._record)
            stack.callback(self._record_rest)
            ahead = jobs or _AHEAD_ELSEWHERE
            if executor is None:
                jobs = jobs or processors()
                ahead = AHEAD * jobs
                executor = stack.enter_context(local_executor(jobs, lambda: bool(self._at_work)))
            stack.callback(self._cancel)
            yield from self._results(executor, ahead)

    def _results(self, executor: Executor, ahead: int) -> Generator[Result, None, None]:
        pending = iter(self._files)
        waiting = 0
        while True:
            for work in islice(pending, ahead - waiting):
                self._begin(executor, work)
                waiting += 1
            if not waiting:
                return
            ended = self._ended.get()
            waiting -= 1
            if ended.future is not None and ended.future.cancelled():
                continue
            result = self._result(ended)
            self._count(result)
            if self._fail_fast and result.status in ("refused", "failed"):
                pending = iter(())
                self._cancel()
            yield result

    def _begin(self, executor: Executor, work: Work) -> None:
        if self._resume and self._record.holds(work.source, work.target):
            self._ended.put(_Ended(work, True, None))
            return
        there = exists(work.target)
        # A worker may run in another directory.
        task = Task(
            source=absolute(work.source),
            target=absolute(work.target),
            options=self._options,
            repeatable=self._resume or not there,
        )
        future = executor.submit(convert, task)
        self._at_work.add(future)

        def end(future: Future[Outcome]) -> None:
            self._at_work.discard(future)
            self._ended.put(_Ended(work, there, future))

        future.add_done_callback(end)

    def _result(self, ended: _Ended) -> Result:
        work = ended.work
        if ended.future is None:
            return Result(
                source=masked(work.source), target=masked(work.target), size=work.size, status="already done"
            )
        outcome = _outcome(work, ended.future)
        if outcome.error is not None:
            return Result(
                source=masked(work.source),
                target=masked(work.target),
                size=work.size,
                status=status_of(outcome.error),
                error=as_named(outcome.error, work.source, work.target),
            )
        self._record.add(work.source, work.target, outcome)
        return Result(
            source=masked(work.source),
            target=masked(work.target),
            size=work.size,
            status="already done" if outcome.found and ended.repeated else "written",
            report=outcome.report
            and replace(outcome.report, source=masked(work.source), target=masked(work.target)),
        )

    def _count(self, result: Result) -> None:
        done = self._done
        self._done = Progress(
            files_done=done.files_done + 1,
            files=done.files,
            bytes_done=done.bytes_done + result.size,
            bytes=done.bytes,
        )
        if self._progress is not None:
            self._progress(self._done)

    def _cancel(self) -> None:
        for future in list(self._at_work):
            future.cancel()

    def _record_rest(self) -> None:
        """Record what was written but not yielded."""
        while True:
            try:
                ended = self._ended.get_nowait()
            except Empty:
                return
            if ended.future is not None and not ended.future.cancelled():
                self._result(ended)


def _outcome(work: Work, future: Future[Outcome]) -> Outcome:
    """Take what a future gave; an executor may have lost the task."""
    try:
        return future.result()
    except Exception as error:
        return Outcome(
            error=RemapError(
                f"the executor lost the file: {type(error).__name__}: {error}",
                where=masked(work.source),
                hint="run the batch again with resume: no output is incomplete",
            )
        )
