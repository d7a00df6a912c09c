"""Look at many files: `inspect` and `check` for each, in isolation, in the order in which they were given."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Generator, Iterable, Iterator
from concurrent.futures import Future
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from remap.batch.files import FOUND, Files, Selection, Work
from remap.batch.places import absolute
from remap.batch.work import AHEAD, INTERPRETERS, as_named, bug, local_executor, processors, require_jobs
from remap.errors import InputRefused, RemapError
from remap.isolation import IsolationFailed
from remap.reference_file import names_network
from remap.urls import libraries, masked

if TYPE_CHECKING:
    from remap.checking import Check
    from remap.results import Inspection

__all__ = ["Look", "check_here", "check_many", "inspect_many"]

_Value = TypeVar("_Value", "Inspection", "Check")


@dataclass(frozen=True, slots=True, kw_only=True)
class Look(Generic[_Value]):
    """What was found in one of many files.

    Attributes:
        source: The file.
        size: Bytes of the file, 0 if it could not be found.
        value: What the function for one file gives; None if it refused the file.
        error: Why it was refused, None if it was not.
    """

    source: str
    size: int
    value: _Value | None = None
    error: RemapError | None = None


def inspect_many(
    sources: Iterable[str | os.PathLike[str]],
    *,
    recursive: bool = False,
    include: Iterable[str] = (),
    exclude: Iterable[str] = (),
    jobs: int | None = None,
) -> Generator[Look[Inspection], None, None]:
    """Describe what many Keras files hold, each as `remap.inspect` does, in a process of its own.

    >>> import remap
    >>> [look.value.kind for look in remap.inspect_many(["epoch1.h5", "epoch2.h5"])]
    ['multi-gpu', 'multi-gpu']

    Args:
        sources: Files and URLs; also directories where `recursive` is True.
        recursive: Look at the files below directories.
        include: Patterns such as ``weights.*.h5``; only files that match one are looked at. By default, files found in
            directories have to end in .h5, .hdf5, .hdf or .keras.
        exclude: Patterns of files to leave out.
        jobs: How many files to look at a time, by default one for each processor.

    Returns:
        An iterator of one result for each file, in order. No file stops the others.

    Raises:
        UsageRefused: A directory is among the sources without `recursive`.
        InputRefused: A directory cannot be read.
    """
    selection = _selection(recursive, include, exclude)
    return _looks("remap.inspect", (), sources, selection, jobs)


def check_many(
    sources: Iterable[str | os.PathLike[str]],
    like: str | os.PathLike[str] | None = None,
    *,
    by_order: bool = False,
    recursive: bool = False,
    include: Iterable[str] = (),
    exclude: Iterable[str] = (),
    jobs: int | None = None,
) -> Generator[Look[Check], None, None]:
    """Replay what Keras's loaders do with many files, each as `remap.check` does it, in a process of its own.

    Args:
        sources: Files and URLs; also directories where `recursive` is True.
        like: The model, as for `remap.check`: a file, a URL, or a network by its name.
        by_order: Whether the order of layers is known to be right.
        recursive: As for `inspect_many`, and so the rest.
        include: See there.
        exclude: See there.
        jobs: See there.

    Returns:
        An iterator of one result for each file, in order.

    Raises:
        UsageRefused: As `inspect_many`.
        InputRefused: As `inspect_many`.
    """
    selection = _selection(recursive, include, exclude)
    named = like is None or names_network(like)
    place = like if like is None else os.fsdecode(like) if named else absolute(like)
    given = (place, None if like is None else masked(like), by_order)
    return _looks("remap.batch.look.check_here", given, sources, selection, jobs)


def _selection(recursive: bool, include: Iterable[str], exclude: Iterable[str]) -> Selection:
    return Selection(
        recursive=recursive, include=tuple(include), exclude=tuple(exclude), found=(*FOUND, "*.keras")
    )


def check_here(source: str, like: str | None, shown: str | None, by_order: bool) -> Check:
    """Check a file in this process.

    Args:
        source: The file.
        like: The model.
        shown: The name of the model in the result.
        by_order: Whether the order of layers is known to be right.

    Returns:
        The result.
    """
    from remap.checking import check

    return replace(check(source, like, by_order=by_order), like=shown)


def _looks(
    function: str,
    given: tuple[Any, ...],
    sources: Iterable[str | os.PathLike[str]],
    selection: Selection,
    jobs: int | None,
) -> Generator[Look[Any], None, None]:
    require_jobs(jobs)
    files = Files(None, "h5", selection)
    try:
        files.add(sources)
        if not files.count:
            raise InputRefused("no file was found", hint="check the names and patterns")
    except BaseException:
        files.close()
        raise
    return _each(partial(_look, function, given), files, jobs or processors())


def _each(look: Any, files: Files, jobs: int) -> Generator[Look[Any], None, None]:
    waiting: deque[Future[Look[Any]]] = deque()
    with ExitStack() as stack:
        stack.callback(files.close)
        executor = stack.enter_context(local_executor(jobs, lambda: bool(waiting)))
        pending: Iterator[Work] = iter(files)
        while True:
            waiting.extend(
                executor.submit(look, work) for work in islice(pending, AHEAD * jobs - len(waiting))
            )
            if not waiting:
                return
            found = waiting[0].result()
            waiting.popleft()
            yield found


def _look(function: str, given: tuple[Any, ...], work: Work) -> Look[Any]:
    shown = masked(work.source)
    place = absolute(work.source)
    try:
        value = INTERPRETERS.run(function, place, *given, where=shown, modules=libraries(place))
    except RemapError as error:
        return Look(source=shown, size=work.size, error=as_named(error, work.source))
    except IsolationFailed as error:
        told = bug(error, where=shown, hint="look at this file alone, and report it")
        return Look(source=shown, size=work.size, error=told)
    return Look(source=shown, size=work.size, value=replace(value, source=shown))
