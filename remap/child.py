"""The child's side of the work on files from strangers: its limits, its messages, its end."""

from __future__ import annotations

import gc
import importlib
import os
import pickle
import signal
import struct
import time
import traceback
from contextlib import suppress
from typing import TYPE_CHECKING, Any, BinaryIO, NoReturn

from remap.errors import InputRefused, RemapError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = ["HEAD", "HINT", "PROGRESS", "Child", "found", "obey", "serve"]

HEAD = struct.Struct("<cQ")
"""How a message to the parent begins: its kind, and the bytes that follow."""
PROGRESS = struct.Struct("<QQ")
"""Bytes done, and bytes in all."""

_PAUSE = 0.05
HINT = "the file is damaged or made to do harm: get it again from its origin"
"""What to do about a file that the work does not survive."""


class Child:
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
            self.send(b"p", PROGRESS.pack(done, total))

    def send(self, kind: bytes, content: bytes) -> None:
        """Write one message."""
        view = memoryview(HEAD.pack(kind, len(content)) + content)
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


def serve(child: Child, work: Callable[[Child], Any]) -> NoReturn:
    """Do the work, say how it ended, and leave."""
    try:
        _prepare()
        kind, value = _outcome(child, work)
        child.send(kind, pickle.dumps(value))
    except BaseException:  # the parent is gone, or what was returned is no value
        with suppress(BaseException):
            child.send(b"e", pickle.dumps(traceback.format_exc()))
    finally:
        os._exit(0)


def obey(orders: BinaryIO, names: Sequence[str], progress: Callable[[int, int], None]) -> Any:
    """Load what the functions of these names need, wait for the order to call one, and call it.

    `orders` holds one pickle: the function's name, its arguments, those with names, and whether it is to report
    its progress. Leaves when the parent closes it without an order.
    """
    for name in names:
        found(name)
    order = orders.read()
    if not order:
        os._exit(0)
    name, args, named, reporting = pickle.loads(order)  # noqa: S301 - from the parent, which reads no file
    if reporting:
        named["progress"] = progress
    return found(name)(*args, **named)


def found(name: str) -> Any:
    """Find a function by its module's name and its own, and load what it needs."""
    module, _, own = name.rpartition(".")
    return getattr(importlib.import_module(module), own)


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


def _outcome(child: Child, work: Callable[[Child], Any]) -> tuple[bytes, Any]:
    try:
        return b"r", work(child)
    except RemapError as error:
        return b"e", error
    except MemoryError:
        return b"e", InputRefused("reading this file takes more memory than any real one", hint=HINT)
    except KeyboardInterrupt:
        return b"i", None
