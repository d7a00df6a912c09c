"""Work on files from strangers in a process of its own, with an end to its time and its memory.

libhdf5 can loop for ever, die or take all memory on damaged metadata, with the interpreter locked: nothing
inside the process can stop it. So the work is done in a child that the system ends. It is forked before h5py
is imported, which costs half a millisecond; systems that cannot fork work in the process itself.
"""

from __future__ import annotations

import gc
import importlib
import io
import os
import pickle
import signal
import struct
import sys
import time
import traceback
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

from remap.errors import InputRefused, RemapError

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import BinaryIO

__all__ = ["DEADLINE", "MEMORY", "WorkFailed", "run"]

DEADLINE = 30
"""Seconds of computing that may pass without progress; real files need less than two in all."""
MEMORY = 1 << 30
"""Bytes that the work may take; real files need less than a tenth."""

_R = TypeVar("_R")
_HEAD = struct.Struct("<cQ")
_PROGRESS = struct.Struct("<QQ")
_LARGEST = 1 << 28
_PAUSE = 0.05
_GRACE = 5
_HINT = "the file is damaged or made to do harm: get it again from its origin"


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
        if progress is not None:
            named["progress"] = progress
        return function(*args, **named)
    sys.stdout.flush()
    sys.stderr.flush()
    reading, writing = os.pipe()
    with _Terminable():
        child = os.fork()
        if child == 0:
            os.close(reading)
            _serve(_Child(writing, deadline, memory), function, args, named, reporting=progress is not None)
        os.close(writing)
        try:
            with os.fdopen(reading, "rb") as messages:
                outcome = _listen(messages, progress)
        except BaseException:
            _stop(child)
            raise
        value: _R = _conclude(outcome, os.waitpid(child, 0)[1], where)
        return value


def _listen(messages: BinaryIO, progress: Callable[[int, int], None] | None) -> tuple[bytes, bytes] | None:
    """Pass progress on until the child has said how it ended; None when it ended without a word."""
    while True:
        head = messages.read(_HEAD.size)
        if len(head) < _HEAD.size:
            return None
        kind, size = _HEAD.unpack(head)
        content = messages.read(min(size, _LARGEST))
        if len(content) < size:
            return None
        if kind != b"p":
            return kind, content
        if progress is not None:
            progress(*_PROGRESS.unpack(content))


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
        return InputRefused("reading this file does not come to an end", where=where, hint=_HINT)
    if number == signal.SIGKILL:
        what = "the process that read this file was killed, perhaps by the system for want of memory"
        return InputRefused(what, where=where, hint="try again on a machine with more free memory")
    return InputRefused("the HDF5 library crashed on this file", where=where, hint=_HINT)


def _stop(child: int) -> None:
    """End the child: let it clean up, unless it is beyond that."""
    with suppress(ProcessLookupError):
        os.kill(child, signal.SIGTERM)
    end = time.monotonic() + _GRACE
    while os.waitpid(child, os.WNOHANG) == (0, 0):
        if time.monotonic() > end:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            return
        time.sleep(0.01)


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
            found = getattr(importlib.import_module(module), name, None)
            if getattr(found, "__module__", None) == module and (
                isinstance(found, type) or module == "remap.errors"
            ):
                return found
        raise pickle.UnpicklingError(f"{module}.{name} is no value of this package")


# The child.


class _Child:
    """The child's side: its limits and its messages."""

    def __init__(self, writing: int, deadline: int, memory: int) -> None:
        import resource

        self._resource = resource
        self._writing = writing
        self._deadline = deadline
        self._reported = 0.0
        self._limit(resource.RLIMIT_CORE, 0)
        self._limit(resource.RLIMIT_DATA, _data_size() + memory)
        self._extend()

    def report(self, done: int, total: int) -> None:
        """Tell the parent of progress, not too often, and begin to count the deadline anew."""
        now = time.monotonic()
        if now - self._reported >= _PAUSE or done == total:
            self._reported = now
            self._extend()
            self.send(b"p", _PROGRESS.pack(done, total))

    def send(self, kind: bytes, content: bytes) -> None:
        """Write one message."""
        view = memoryview(_HEAD.pack(kind, len(content)) + content)
        while view:
            view = view[os.write(self._writing, view) :]

    def _extend(self) -> None:
        used = self._resource.getrusage(self._resource.RUSAGE_SELF)
        self._limit(self._resource.RLIMIT_CPU, int(used.ru_utime + used.ru_stime) + 1 + self._deadline)

    def _limit(self, kind: int, value: int) -> None:
        hard = self._resource.getrlimit(kind)[1]
        if hard != self._resource.RLIM_INFINITY:
            value = min(value, hard)
        self._resource.setrlimit(kind, (value, hard))


def _data_size() -> int:
    """Give the bytes of data that this process has, where the system tells."""
    with suppress(OSError), open("/proc/self/statm", "rb") as file:  # noqa: PTH123 - pathlib is not needed else
        return int(file.read().split()[5]) * os.sysconf("SC_PAGESIZE")
    return 0


def _serve(
    child: _Child,
    function: Callable[..., Any],
    args: tuple[Any, ...],
    named: dict[str, Any],
    *,
    reporting: bool,
) -> NoReturn:
    """Do the work, say how it ended, and leave."""
    try:
        _prepare()
        if reporting:
            named["progress"] = child.report
        kind, value = _outcome(function, args, named)
        child.send(kind, pickle.dumps(value))
    except BaseException:  # the parent is gone, or what was returned is no value
        with suppress(BaseException):
            child.send(b"e", pickle.dumps(traceback.format_exc()))
    finally:
        os._exit(0)


def _prepare() -> None:
    signal.signal(signal.SIGINT, _interrupt)
    signal.signal(signal.SIGTERM, _interrupt)
    silent = os.open(os.devnull, os.O_RDWR)
    for stream in (1, 2):  # what a dying library prints is for nobody
        os.dup2(silent, stream)
    gc.disable()  # what is built here lives until the end, and the end is near
    # Read when the libraries are loaded: no plug-ins, no threads that nothing here would use.
    os.environ["HDF5_PLUGIN_PRELOAD"] = "::"
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")


def _interrupt(*_: object) -> NoReturn:
    """Interrupt the work once; nothing may interrupt the cleaning up."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    raise KeyboardInterrupt


def _outcome(function: Callable[..., Any], args: tuple[Any, ...], named: dict[str, Any]) -> tuple[bytes, Any]:
    try:
        return b"r", function(*args, **named)
    except RemapError as error:
        return b"e", error
    except MemoryError:
        return b"e", InputRefused("reading this file takes more memory than any real one", hint=_HINT)
    except KeyboardInterrupt:
        return b"i", None
