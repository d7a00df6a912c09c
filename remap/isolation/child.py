"""The child process of `remap.isolation`: it limits itself, calls what it is told to, and says how that ended."""

from __future__ import annotations

import errno
import gc
import importlib
import io
import os
import pickle
import signal
import struct
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NoReturn

from remap.errors import InputRefused, RemapError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = [
    "DAMAGED",
    "ENVIRONMENT",
    "EXHAUSTED",
    "HEAD",
    "LIMITED",
    "PROGRESS",
    "TIMED_OUT",
    "Order",
    "exhausted",
    "serve",
    "serve_fresh",
]

EXHAUSTED = (errno.EMFILE, errno.ENFILE, errno.EAGAIN, errno.ENOMEM)
"""What the system says when it has no files, processes, threads or memory left."""
ENVIRONMENT = {"HDF5_PLUGIN_PRELOAD": "::", "OPENBLAS_NUM_THREADS": "1"}
"""Variables to set before the libraries are loaded: no plug-ins, no threads that nothing here would use."""
HEAD = struct.Struct("<cQ")
"""How a message to the parent begins: its kind, and the bytes that follow."""
PROGRESS = struct.Struct("<QQ")
"""The content of a message of progress: bytes done, bytes in all."""
LIMITED = hasattr(signal, "SIGXCPU")
"""Whether this system lets a process limit itself."""
TIMED_OUT = 1
"""The exit status of a child that faulthandler ended at its time limit; every other end has status 0 or a signal."""
DAMAGED = "the file may be damaged; get it again from where it came from"
"""The hint where the work was too much."""

_REPORT_INTERVAL = 0.05  # seconds
_NO_THREAD = "can't start new thread"  # what the threading module says, as a RuntimeError
# What glibc says of a shared library that there is no memory for.
_NO_ROOM_TO_LOAD = ("failed to map segment", "cannot map zero-fill pages", "annot allocate memory")


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What the child is to call, and how far it may go."""

    function: str
    args: tuple[Any, ...]
    named: Mapping[str, Any]
    reporting: bool
    deadline: int
    memory: int
    parent: int


def exhausted(error: OSError | RuntimeError, *, where: str = "") -> InputRefused:
    """Put into words that the system has no files, processes, threads or memory left."""
    return InputRefused(
        f"a limit of the system was reached: {getattr(error, 'strerror', None) or error}",
        where=where,
        hint="raise the limits of this session (ulimit -n, -u, -v, -d) or end other programs",
    )


def serve_fresh(preload: Sequence[str]) -> NoReturn:
    """Serve in an interpreter that was started for it: the order is on stdin, messages go to stdout."""
    serve(os.dup(0), os.dup(1), preload, os.getppid())


def serve(orders: int, messages: int, preload: Sequence[str], parent: int) -> NoReturn:
    """Carry out orders and say how each ended; leave after one that did not return, or when no more come."""
    try:
        _end_with(parent)
        _prepare()
        for name in preload:
            with suppress(Exception):  # it will be met again by the call
                _found(name)
        with suppress(EOFError), os.fdopen(orders, "rb") as file:
            order: Order = pickle.load(file)  # noqa: S301 - from the parent, which reads no file
            # A parent that was killed before this process could ask for its death signal.
            orphaned = sys.platform == "linux" and os.getppid() != order.parent
            while not orphaned and _carry_out(order, _Reporter(messages, order)):
                order = pickle.load(file)  # noqa: S301
                gc.collect()  # the call before left cycles; after the last call they are nobody's concern
    finally:
        os._exit(0)


def _carry_out(order: Order, reporter: _Reporter) -> bool:
    """Call the function and send how that ended; tell whether it returned."""
    try:
        kind, value = _outcome(order, reporter)
        reporter.send(kind, _pickled(value))
    except BaseException:  # the parent is gone, or what was returned cannot be sent
        import traceback

        with suppress(BaseException):
            reporter.send(b"e", pickle.dumps(traceback.format_exc()))
        return False
    return kind == b"r"


def _pickled(value: Any) -> bytes:
    """Pickle a value as its class says, whatever else is registered for it.

    A fork inherits what the calling program registered: tblib, which Dask loads, has functions for all exceptions.
    """
    content = io.BytesIO()
    pickler = pickle.Pickler(content)
    pickler.dispatch_table = {}
    pickler.dump(value)
    return content.getvalue()


def _outcome(order: Order, reporter: _Reporter) -> tuple[bytes, Any]:
    named = {**order.named, "progress": reporter} if order.reporting else order.named
    try:
        reporter.limit()
        return b"r", _found(order.function)(*order.args, **named)
    except RemapError as error:
        return b"e", error
    except MemoryError:
        return b"e", reporter.out_of_memory()
    except KeyboardInterrupt:
        return b"i", None
    except ImportError as error:
        if any(words in str(error) for words in _NO_ROOM_TO_LOAD):
            return b"e", exhausted(_no_memory())
        raise
    except (OSError, RuntimeError) as error:
        if getattr(error, "errno", None) in EXHAUSTED or str(error) == _NO_THREAD:
            return b"e", exhausted(error)
        raise


def _no_memory() -> OSError:
    return OSError(errno.ENOMEM, os.strerror(errno.ENOMEM))


def _found(name: str) -> Any:
    """Find a function by its module's name and its own, and load what it needs."""
    module, _, own = name.rpartition(".")
    return getattr(importlib.import_module(module), own)


def _end_with(parent: int) -> None:
    """Have the system kill this process when its parent ends, where the system can."""
    if sys.platform != "linux":
        return
    with suppress(ImportError, OSError, AttributeError):
        import ctypes

        set_death_signal = 1  # PR_SET_PDEATHSIG of prctl(2)
        ctypes.CDLL(None).prctl(set_death_signal, int(signal.SIGKILL), 0, 0, 0)
    if os.getppid() != parent:
        os._exit(0)


def _prepare() -> None:
    for name in ("SIGINT", "SIGTERM", "SIGHUP"):
        number = getattr(signal, name, None)
        if number is not None and signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, _interrupt)
    silent = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):  # what a dying library prints is for nobody
        os.dup2(silent, stream)
    os.environ.update(ENVIRONMENT)
    gc.disable()  # what is built here lives until the end, and the end is near


def _interrupt(*_: object) -> NoReturn:
    """Interrupt the work once; nothing may interrupt the cleaning up."""
    for name in ("SIGINT", "SIGTERM", "SIGHUP"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)
    raise KeyboardInterrupt


class _Reporter:
    """Tells the parent of progress, and keeps the child to its limits."""

    def __init__(self, messages: int, order: Order) -> None:
        self._messages = messages
        self._order = order
        self._reported = 0.0
        self._lowered = False  # by a limit of the session

    def __call__(self, done: int, total: int) -> None:
        """Tell the parent of progress, not too often, and begin to count the deadline anew."""
        now = time.monotonic()
        if now - self._reported >= _REPORT_INTERVAL or done == total:
            self._reported = now
            self._extend()
            self.send(b"p", PROGRESS.pack(done, total))

    def limit(self) -> None:
        """Set the limits of memory and time."""
        if LIMITED:
            import resource

            total, data = _memory_used()
            _set_limit(resource.RLIMIT_CORE, 0)
            _set_limit(resource.RLIMIT_DATA, data + self._order.memory)
            self._lowered = any(
                0 <= resource.getrlimit(kind)[0] < used + self._order.memory
                for kind, used in ((resource.RLIMIT_DATA, data), (resource.RLIMIT_AS, total))
            )
        self._extend()

    def out_of_memory(self) -> InputRefused:
        """Say whose limit of memory was met: that of the order, or a lower one of the session."""
        if self._lowered:
            return exhausted(_no_memory())
        limit = f"{self._order.memory / (1 << 30):.3g} GiB"
        return InputRefused(f"reading this file takes more memory than {limit}", hint=DAMAGED)

    def send(self, kind: bytes, content: bytes) -> None:
        """Write one message."""
        view = memoryview(HEAD.pack(kind, len(content)) + content)
        while view:
            view = view[os.write(self._messages, view) :]

    def _extend(self) -> None:
        if LIMITED:
            import resource

            used = resource.getrusage(resource.RUSAGE_SELF)
            spent = int(used.ru_utime + used.ru_stime)
            _set_limit(resource.RLIMIT_CPU, spent + 1 + self._order.deadline)
        else:
            import faulthandler

            # Its watchdog needs no Python code to run, and ends the process with status TIMED_OUT.
            faulthandler.dump_traceback_later(max(self._order.deadline, 1), exit=True, file=2)


def _set_limit(kind: int, value: int) -> None:
    import resource

    hard = resource.getrlimit(kind)[1]
    if hard != resource.RLIM_INFINITY:
        value = min(value, hard)
    with suppress(ValueError, OSError):  # macOS takes not every limit
        resource.setrlimit(kind, (value, hard))


def _memory_used() -> tuple[int, int]:
    """Give the bytes of address space and of data that this process has, where the system tells."""
    with suppress(OSError), open("/proc/self/statm", "rb") as file:  # noqa: PTH123 - pathlib is not needed else
        pages = file.read().split()
        size = os.sysconf("SC_PAGESIZE")
        return int(pages[0]) * size, int(pages[5]) * size
    return 0, 0
