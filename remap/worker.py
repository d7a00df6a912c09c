"""Work on files from strangers in a process of its own, with an end to its time and its memory.

libhdf5 can loop for ever, die or take all memory on damaged metadata, with the interpreter locked: nothing
inside the process can stop it. So the work is done in a child that the system ends. It is forked before h5py
is imported, which costs half a millisecond; systems that cannot fork work in the process itself.
"""

from __future__ import annotations

import importlib
import io
import os
import pickle
import signal
import sys
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any, BinaryIO, NoReturn, TypeVar

from remap.child import HEAD, HINT, PROGRESS, Child, found, obey, serve
from remap.errors import InputRefused, RemapError

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["DEADLINE", "MEMORY", "Ahead", "WorkFailed", "run"]

DEADLINE = 30
"""Seconds of computing that may pass without progress; real files need less than two in all."""
MEMORY = 1 << 30
"""Bytes that the work may take; real files need less than a tenth."""

_R = TypeVar("_R")
_LARGEST = 1 << 28
_GRACE = 5


class WorkFailed(Exception):
    """A bug met in the child: the message is the child's traceback."""


def run(
    function: Callable[..., _R],
    *args: Any,
    where: str,
    deadline: int = DEADLINE,
    memory: int = MEMORY,
    progress: Callable[[int, int], None] | None = None,
    **named: Any,
) -> _R:
    """Call a function in a child process and return what it returns.

    `deadline` is in seconds of computing, counted anew whenever the function reports progress, so that no
    slow disk can exceed it; `memory` is in bytes on top of what the process has. `where` names the file in
    messages. With `progress`, the function is given a `progress` of its own, and what it reports arrives
    here.

    What is returned must be values of this package and plain Python; nothing else is taken from the child.
    Raises the function's RemapError; InputRefused when the child crashes or meets one of its limits, for then
    the file is to blame; WorkFailed for any other exception in the child.
    """
    if not hasattr(os, "fork"):
        return function(*args, **_reporting(named, progress))
    with _Terminable():

        def work(child: Child) -> _R:
            return function(*args, **_reporting(named, child.report if progress is not None else None))

        value: _R = _Running(work, deadline, memory).end(where, progress)
        return value


class Ahead:
    """A child that loads what the work will need while its parent still makes out what the work is.

    `names` are functions that the work may be, each by its module's name and its own. Where a system cannot fork, the
    work is done in the process itself. A context manager that ends a child which was told nothing.
    """

    def __init__(self, *names: str) -> None:
        self._running: _Running | None = None
        if not hasattr(os, "fork"):
            return
        reading, self._orders = os.pipe()

        def work(child: Child) -> Any:
            os.close(self._orders)
            with os.fdopen(reading, "rb") as orders:
                return obey(orders, names, child.report)

        self._running = _Running(work, DEADLINE, MEMORY)
        os.close(reading)

    def __enter__(self) -> Ahead:
        return self

    def __exit__(self, *_: object) -> None:
        if self._running is not None:
            os.close(self._orders)
            self._running.kill()

    def run(
        self,
        name: str,
        *args: Any,
        where: str,
        progress: Callable[[int, int], None] | None = None,
        **named: Any,
    ) -> Any:
        """Call the function of a name, once, as `run` would."""
        running, self._running = self._running, None
        if running is None:
            return run(found(name), *args, where=where, progress=progress, **named)
        with _Terminable():
            # Where the child is gone already, what it left says more.
            with suppress(BrokenPipeError), os.fdopen(self._orders, "wb") as orders:
                pickle.dump((name, args, named, progress is not None), orders)
            return running.end(where, progress)


def _reporting(named: dict[str, Any], progress: Callable[[int, int], None] | None) -> dict[str, Any]:
    return named if progress is None else {**named, "progress": progress}


class _Running:
    """A child at work."""

    def __init__(self, work: Callable[[Child], Any], deadline: int, memory: int) -> None:
        sys.stdout.flush()
        sys.stderr.flush()
        self._reading, writing = os.pipe()
        self._process = os.fork()
        if self._process == 0:
            os.close(self._reading)
            serve(Child(writing, deadline, memory), work)
        os.close(writing)

    def end(self, where: str, progress: Callable[[int, int], None] | None) -> Any:
        """Wait for its end, and give what it returned or raise what it raised."""
        try:
            with os.fdopen(self._reading, "rb") as messages:
                outcome = _listen(messages, progress)
        except BaseException:
            self._stop()
            raise
        return _conclude(outcome, os.waitpid(self._process, 0)[1], where)

    def kill(self) -> None:
        """End it at once; it has begun nothing."""
        os.close(self._reading)
        os.kill(self._process, signal.SIGKILL)
        os.waitpid(self._process, 0)

    def _stop(self) -> None:
        """End it, and let it clean up, unless it is beyond that."""
        with suppress(ProcessLookupError):
            os.kill(self._process, signal.SIGTERM)
        end = time.monotonic() + _GRACE
        while os.waitpid(self._process, os.WNOHANG) == (0, 0):
            if time.monotonic() > end:
                os.kill(self._process, signal.SIGKILL)
                os.waitpid(self._process, 0)
                return
            time.sleep(0.01)


def _listen(messages: BinaryIO, progress: Callable[[int, int], None] | None) -> tuple[bytes, bytes] | None:
    """Pass progress on until the child has said how it ended; None when it ended without a word."""
    while True:
        head = messages.read(HEAD.size)
        if len(head) < HEAD.size:
            return None
        kind, size = HEAD.unpack(head)
        content = messages.read(min(size, _LARGEST))
        if len(content) < size:
            return None
        if kind != b"p":
            return kind, content
        if progress is not None:
            progress(*PROGRESS.unpack(content))


def _conclude(outcome: tuple[bytes, bytes] | None, status: int, where: str) -> Any:
    if outcome is None:
        raise _death(status, where)
    kind, content = outcome
    try:
        value = _Values(io.BytesIO(content)).load()
    except Exception as error:
        raise WorkFailed(f"the child sent what is no value: {error}") from error
    if kind == b"r":
        return value
    if kind == b"i":
        raise KeyboardInterrupt
    raise value if isinstance(value, RemapError) else WorkFailed(value)


def _death(status: int, where: str) -> InputRefused:
    number = os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0
    if number == signal.SIGXCPU:
        return InputRefused("reading this file does not come to an end", where=where, hint=HINT)
    if number == signal.SIGKILL:
        what = "the process that read this file was killed, perhaps by the system for want of memory"
        return InputRefused(what, where=where, hint="try again on a machine with more free memory")
    return InputRefused("the HDF5 library crashed on this file", where=where, hint=HINT)


class _Terminable:
    """Let SIGTERM end this process by an exception, so that it can end its child first."""

    def __enter__(self) -> None:
        self._before: Any = None
        # Only the main thread may handle signals, and handlers of others are theirs.
        with suppress(ValueError):
            if signal.getsignal(signal.SIGTERM) == signal.SIG_DFL:
                self._before = signal.signal(signal.SIGTERM, _terminate)

    def __exit__(self, *_: object) -> None:
        if self._before is not None:
            signal.signal(signal.SIGTERM, self._before)


def _terminate(*_: object) -> NoReturn:
    raise SystemExit(128 + signal.SIGTERM)


class _Values(pickle.Unpickler):
    """Values that came from the child, which may be under somebody else's control by now."""

    def find_class(self, module: str, name: str) -> Any:
        """Find a class of this package, or what makes its errors again, and nothing else."""
        if module.split(".")[0] == "remap":
            value = getattr(importlib.import_module(module), name, None)
            if getattr(value, "__module__", None) == module and (
                isinstance(value, type) or module == "remap.errors"
            ):
                return value
        raise pickle.UnpicklingError(f"{module}.{name} is no value of this package")
