"""The side of the caller: child processes are started, told what to call, listened to and ended."""

from __future__ import annotations

import importlib
import io
import os
import pickle
import signal
import sys
import time
from contextlib import suppress
from typing import IO, TYPE_CHECKING, Any, NoReturn

from remap.errors import InputRefused, RemapError
from remap.isolation.child import (
    DAMAGED,
    ENVIRONMENT,
    EXHAUSTED,
    HEAD,
    LIMITED,
    PROGRESS,
    TIMED_OUT,
    Order,
    exhausted,
    serve,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from subprocess import Popen

    Progress = Callable[[int, int], None]

__all__ = ["DEADLINE", "MEMORY", "Isolation", "IsolationFailed", "run"]

DEADLINE = 30
"""Seconds of processor time that may pass without progress; real files need less than two in all."""
MEMORY = 1 << 30
"""Bytes that the work may take; real files need less than a tenth."""

_LARGEST_MESSAGE = 1 << 28  # bytes
_GRACE = 5  # seconds
_BOOT = "import sys; sys.path[:] = {path!r}; from remap.isolation.child import serve_fresh; serve_fresh({preload!r})"


class IsolationFailed(Exception):
    """A bug met in the child process; the message is the child's traceback."""


def run(
    function: str,
    *args: Any,
    where: str,
    progress: Progress | None = None,
    deadline: int = DEADLINE,
    memory: int = MEMORY,
    **named: Any,
) -> Any:
    """Call a function in a new child process and return what it returns.

    Args:
        function: module and name, such as ``remap.inspect``.
        *args: its arguments, which must be picklable.
        where: the file to name in messages.
        progress: called in this process with the bytes done and the bytes in all that the function reports;
            the function is then given a `progress` of its own.
        deadline: seconds of processor time (on Windows: of time), counted anew at every report of progress.
        memory: bytes on top of what the child has when it begins.
        **named: its keyword arguments.

    Returns:
        What the function returns: values of this package and plain Python, nothing else is taken from the child.

    Raises:
        RemapError: what the function raises; InputRefused when the child crashes, meets a limit or cannot be
            started.
        IsolationFailed: for any other exception in the child.
    """
    with Isolation() as isolation:
        return isolation.run(
            function, *args, where=where, progress=progress, deadline=deadline, memory=memory, **named
        )


class Isolation:
    """Calls in child processes, of which the first can be started before it is known what to call.

    With `fork` a child is a copy of this process, which takes half a millisecond but is safe only where no other
    thread runs, as on our own command line; otherwise, and where the system cannot fork, it is a new interpreter.
    One child serves up to `calls` calls, as long as each returns: a call that is refused or crashes in a child that
    served others is made again in a new one, whose word counts, and after it comes another child.
    A context manager that ends a child which was told nothing.
    """

    def __init__(self, *, fork: bool = False, calls: int = 1) -> None:
        self._fork = fork and hasattr(os, "fork")
        self._calls = calls
        self._child: _Child | None = None

    def __enter__(self) -> Isolation:
        return self

    def __exit__(self, *_: object) -> None:
        if self._child is not None:
            self._child.abandon()

    def start(self, *preload: str) -> None:
        """Start the child, and let it load the modules of functions that it may have to call."""
        with suppress(OSError):  # `run` tries again, and says what is wrong
            self._child = _started(preload, fork=self._fork)

    def run(
        self,
        function: str,
        *args: Any,
        where: str,
        progress: Progress | None = None,
        deadline: int = DEADLINE,
        memory: int = MEMORY,
        **named: Any,
    ) -> Any:
        """Call a function as the module's `run` does."""
        order = pickle.dumps(
            Order(
                function=function,
                args=tuple(map(_portable, args)),
                named={key: _portable(value) for key, value in named.items()},
                reporting=progress is not None,
                deadline=deadline,
                memory=memory,
                parent=os.getpid(),
            )
        )
        used = self._child is not None and self._child.calls > 0
        outcome, status = self._obeyed(order, progress, where)
        if used and (outcome is None or outcome[0] == b"e"):
            outcome, status = self._obeyed(order, progress, where)
        return _conclude(outcome, status, where, deadline)

    def _obeyed(
        self, order: bytes, progress: Progress | None, where: str
    ) -> tuple[tuple[bytes, bytes] | None, int]:
        """Have a child carry out an order; give its last message, if any, and its exit status if it ended."""
        child, self._child = self._child, None
        try:
            child = child or _started((), fork=self._fork)
        except OSError as error:
            raise _not_started(error, where) from None
        with _Terminable():
            outcome = child.obey(order, progress, last=child.calls + 1 >= self._calls)
            if outcome is not None and outcome[0] == b"r" and child.calls < self._calls:
                self._child = child
                return outcome, 0
            return outcome, child.wait()


def _portable(value: Any) -> Any:
    """Give a path as text: its class may not be known in the child."""
    return os.fspath(value) if isinstance(value, os.PathLike) else value


class _Forked:
    """A forked child, used like subprocess.Popen."""

    def __init__(self, process: int) -> None:
        self._process = process
        self._status: int | None = None

    def poll(self) -> int | None:
        return self._reaped(os.WNOHANG)

    def wait(self) -> int:
        status = self._reaped(0)
        assert status is not None  # noqa: S101 - for the type checker: without WNOHANG there is one
        return status

    def terminate(self) -> None:
        self._send(signal.SIGTERM)

    def kill(self) -> None:
        self._send(signal.SIGKILL)

    def _send(self, number: signal.Signals) -> None:
        with suppress(ProcessLookupError):  # whose SIGCHLD is ignored vanishes without a status
            os.kill(self._process, number)

    def _reaped(self, options: int) -> int | None:
        if self._status is None:
            try:
                process, status = os.waitpid(self._process, options)
            except ChildProcessError:  # who ignores SIGCHLD learns no status of its children
                self._status = 0
            else:
                self._status = os.waitstatus_to_exitcode(status) if process else None
        return self._status


class _Child:
    """A child process, a pipe for its orders and a pipe for its messages."""

    def __init__(self, process: Popen[bytes] | _Forked, orders: IO[bytes], messages: IO[bytes]) -> None:
        self.calls = 0
        self._process = process
        self._orders = orders
        self._messages = messages

    def obey(self, order: bytes, progress: Progress | None, *, last: bool) -> tuple[bytes, bytes] | None:
        """Let it do its work; give its last message, if any."""
        self.calls += 1
        try:
            # Where the child is gone already, how it ended says more.
            with suppress(BrokenPipeError, OSError):
                self._orders.write(order)
                self._orders.flush()
            if last:
                self._close(self._orders)
            return _listen(self._messages, progress)
        except BaseException:
            self._stop()
            raise

    def wait(self) -> int:
        """Wait for its end, which has come or comes when no more orders do; give its exit status."""
        try:
            self._close(self._orders)
            self._close(self._messages)
            return self._process.wait()
        except BaseException:
            self._stop()
            raise

    def abandon(self) -> None:
        """End it at once; it is at work on nothing."""
        self._close(self._orders)
        self._close(self._messages)
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()

    @staticmethod
    def _close(pipe: IO[bytes]) -> None:
        with suppress(OSError):  # what is still in its buffer has nowhere to go
            pipe.close()

    def _stop(self) -> None:
        """End it, and let it clean up unless it takes too long."""
        end = time.monotonic() + _GRACE
        if self._process.poll() is None:
            self._process.terminate()
        while self._process.poll() is None:
            if time.monotonic() > end:
                self._process.kill()
                self._process.wait()
            time.sleep(0.01)
        self._close(self._orders)
        self._close(self._messages)


def _started(preload: Sequence[str], *, fork: bool) -> _Child:
    return _forked(preload) if fork else _new(preload)


def _forked(preload: Sequence[str]) -> _Child:
    sys.stdout.flush()
    sys.stderr.flush()
    pipes: list[int] = []
    try:
        pipes += os.pipe()
        pipes += os.pipe()
        parent = os.getpid()
        process = os.fork()
    except OSError:
        for pipe in pipes:
            os.close(pipe)
        raise
    orders, order_end, message_end, messages = pipes
    if process == 0:
        os.close(order_end)
        os.close(message_end)
        serve(orders, messages, preload, parent)
    os.close(orders)
    os.close(messages)
    return _Child(_Forked(process), os.fdopen(order_end, "wb"), os.fdopen(message_end, "rb"))


def _new(preload: Sequence[str]) -> _Child:
    import subprocess

    if not sys.executable or getattr(sys, "frozen", False):
        raise OSError("this program has no Python interpreter to start")
    process = subprocess.Popen(  # noqa: S603 - the interpreter that runs this
        [sys.executable, "-c", _BOOT.format(path=[*map(str, sys.path)], preload=tuple(preload))],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=os.environ | ENVIRONMENT,
    )
    assert process.stdin is not None  # noqa: S101 - for the type checker
    assert process.stdout is not None  # noqa: S101
    return _Child(process, process.stdin, process.stdout)


def _not_started(error: OSError, where: str) -> InputRefused:
    if error.errno in EXHAUSTED:
        return exhausted(error, where=where)
    return InputRefused(
        f"no child process can be started: {error.strerror or error}",
        where=where,
        hint="run this in a Python interpreter, which sys.executable has to name, or leave out isolated=True",
    )


def _listen(messages: IO[bytes], progress: Progress | None) -> tuple[bytes, bytes] | None:
    """Pass progress on until the child has said how it ended; None when it ended without a message."""
    while True:
        head = messages.read(HEAD.size)
        if len(head) < HEAD.size:
            return None
        kind, size = HEAD.unpack(head)
        content = messages.read(min(size, _LARGEST_MESSAGE))
        if len(content) < size:
            return None
        if kind != b"p":
            return kind, content
        if progress is not None:
            progress(*PROGRESS.unpack(content))


def _conclude(outcome: tuple[bytes, bytes] | None, status: int, where: str, deadline: int) -> Any:
    if outcome is None:
        raise _death(status, where, deadline)
    kind, content = outcome
    try:
        value = _Values(io.BytesIO(content)).load()
    except Exception as error:
        raise IsolationFailed(f"the child process sent an unexpected value: {error}") from error
    if kind == b"r":
        return value
    if kind == b"i":
        raise KeyboardInterrupt
    raise value if isinstance(value, RemapError) else IsolationFailed(value)


def _death(status: int, where: str, deadline: int) -> InputRefused:
    if status == -getattr(signal, "SIGXCPU", 0) or (status == TIMED_OUT and not LIMITED):
        return InputRefused(
            f"stopped at the time limit: {deadline} s of work without progress",
            where=where,
            hint="a damaged file can cause this, an extremely large model too; the Python functions, such as "
            "remap.inspect, have no time limit unless isolated=True is given",
        )
    if status == -getattr(signal, "SIGKILL", 0):
        return InputRefused(
            "the process that read this file was killed, perhaps by the system for lack of memory",
            where=where,
            hint="try again with more free memory, and without a limit on processor time (ulimit -t)",
        )
    if status >= 0:
        return InputRefused(
            "the process that reads the file ended before it had a result",
            where=where,
            hint="it may have had too little memory (ulimit -v, -d) or too few open files (ulimit -n)",
        )
    return InputRefused("the HDF5 library crashed on this file", where=where, hint=DAMAGED)


class _Terminable:
    """Let SIGTERM and SIGHUP end this process by an exception, so that it can end its child first."""

    def __enter__(self) -> None:
        self._before: dict[signal.Signals, Any] = {}
        for name in ("SIGTERM", "SIGHUP"):
            # Only the main thread may handle signals, and handlers of others are theirs.
            with suppress(ValueError, AttributeError):
                number = getattr(signal, name)
                if signal.getsignal(number) == signal.SIG_DFL:
                    self._before[number] = signal.signal(number, _terminate)

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)


def _terminate(number: int, _: object) -> NoReturn:
    raise SystemExit(128 + number)


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
