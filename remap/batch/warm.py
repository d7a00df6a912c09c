"""Call functions in isolation without the start of an interpreter for each call.

A new interpreter needs about ten times as long to load h5py as a small checkpoint needs to be converted. So an
interpreter that has loaded everything stays, reads no file itself, and forks children for the calls: each call has
the limits of `remap.isolation`, and its crash ends nothing else. The interpreter runs one thread, which makes fork
safe whatever the threads of the calling process. Where the system cannot fork, each call starts an interpreter.
"""

from __future__ import annotations

import atexit
import gc
import importlib
import os
import pickle
import signal
import subprocess
import sys
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from remap.errors import RemapError
from remap.isolation import DEADLINE, ENVIRONMENT, Isolation, IsolationFailed, exhausted, run

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Interpreters", "serve"]

_BOOT = "import sys; sys.path[:] = {path!r}; from remap.batch.warm import serve; serve({preload!r})"
_ATTEMPTS = 3
_CALLS = 32
"""How many calls a child serves, if each returns. A fork costs as much time as a small checkpoint, a child that stays
next to none; it ends at the first call that does not return, which is then made again in a new one."""


class _Lost(Exception):
    """The interpreter ended before it answered."""


class Interpreters:
    """Interpreters that wait for calls: as many as there ever were calls at one time. Safe to use from threads.

    >>> interpreters = Interpreters("remap.errors")
    >>> interpreters.run("os.path.basename", "runs/epoch.h5", where="runs/epoch.h5")
    'epoch.h5'
    >>> interpreters.close()
    """

    def __init__(self, *preload: str) -> None:
        """Name the modules to load before the first call."""
        self._preload = preload
        self._lock = threading.Lock()
        self._idle: list[_Interpreter] = []
        self._busy: set[_Interpreter] = set()
        atexit.register(self.close)

    def run(
        self,
        function: str,
        *args: Any,
        where: str,
        progress: Callable[[int, int], None] | None = None,
        deadline: int = DEADLINE,
        modules: tuple[str, ...] = (),
    ) -> Any:
        """Call a function as `remap.isolation.run` does.

        Args:
            function: Module and name.
            *args: Its arguments, which must be picklable.
            where: The file to name in messages.
            progress: Called with the bytes done and the bytes in all that the function reports.
            deadline: Seconds of processor time, counted anew at every report of progress.
            modules: Modules that the function will load if they are installed; the interpreter keeps them loaded.

        Returns:
            What the function returns.

        Raises:
            RemapError: What the function raises; InputRefused when the child crashes, meets a limit or cannot be
                started; RemapError itself when the interpreter was ended again and again.
            IsolationFailed: For any other exception in the child.
        """
        if not hasattr(os, "fork"):
            return run(function, *args, where=where, progress=progress, deadline=deadline)
        for _ in range(_ATTEMPTS):
            interpreter = self._take(where)
            try:
                answer = interpreter.call(function, args, where, progress, deadline, modules)
            except _Lost:
                self._drop(interpreter)
                if interpreter.interrupted:
                    break
            except BaseException:
                self._drop(interpreter)
                raise
            else:
                self._give_back(interpreter)
                if isinstance(answer, _Failure):
                    raise answer.error
                return answer
        raise RemapError(
            "the process that converts files was ended by the system or a user",
            where=where,
            hint="try again on a machine with more free memory",
        )

    def close(self) -> None:
        """End the interpreters that wait for a call."""
        with self._lock:
            idle, self._idle = self._idle, []
        for interpreter in idle:
            interpreter.close()

    def interrupt(self) -> None:
        """End the interpreters that are at work, too; their calls end with an error, their children clean up."""
        with self._lock:
            busy = list(self._busy)
        for interpreter in busy:
            interpreter.interrupted = True
            interpreter.terminate()
        self.close()

    def _take(self, where: str) -> _Interpreter:
        with self._lock:
            interpreter = self._idle.pop() if self._idle else None
        if interpreter is None:
            try:
                interpreter = _Interpreter(self._preload)
            except OSError as error:
                raise exhausted(error, where=where) from None
        with self._lock:
            self._busy.add(interpreter)
        return interpreter

    def _give_back(self, interpreter: _Interpreter) -> None:
        with self._lock:
            self._busy.discard(interpreter)
            self._idle.append(interpreter)

    def _drop(self, interpreter: _Interpreter) -> None:
        with self._lock:
            self._busy.discard(interpreter)
        interpreter.terminate()
        interpreter.close()


class _Failure:
    """An exception of the call, told apart from an exception that was returned."""

    def __init__(self, error: Exception) -> None:
        self.error = error


class _Interpreter:
    """One interpreter, which is told its calls on stdin and answers on stdout, pickled on both ways."""

    def __init__(self, preload: tuple[str, ...]) -> None:
        self.interrupted = False
        if not sys.executable or getattr(sys, "frozen", False):
            raise OSError("this program has no Python interpreter to start")
        self._process = subprocess.Popen(  # noqa: S603 - the interpreter that runs this
            [sys.executable, "-c", _BOOT.format(path=sys.path, preload=preload)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=os.environ | ENVIRONMENT,
        )

    def call(
        self,
        function: str,
        args: tuple[Any, ...],
        where: str,
        progress: Callable[[int, int], None] | None,
        deadline: int,
        modules: tuple[str, ...],
    ) -> Any:
        orders, answers = self._process.stdin, self._process.stdout
        assert orders is not None  # noqa: S101 - for the type checker
        assert answers is not None  # noqa: S101
        order = pickle.dumps((function, args, where, progress is not None, deadline, modules))
        try:
            orders.write(order)
            orders.flush()
            while True:
                # What came out of the child has passed the reader of `remap.isolation`, which takes values only.
                kind, value = pickle.load(answers)  # noqa: S301
                if kind != "progress":
                    break
                if progress is not None:
                    progress(*value)
        except (EOFError, OSError, pickle.UnpicklingError):
            raise _Lost from None
        return _Failure(value) if kind == "error" else value

    def terminate(self) -> None:
        with suppress(OSError):
            self._process.terminate()

    def close(self) -> None:
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                with suppress(OSError):
                    stream.close()
        try:
            self._process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


# In the interpreter


def serve(preload: tuple[str, ...]) -> None:
    """Answer calls until stdin ends."""
    # Ctrl-C reaches every process of the terminal; the calling process ends the others as it sees fit.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with open(0, "rb", closefd=False) as orders, open(1, "wb", closefd=False) as answers:
        sys.stdout = sys.stderr
        for name in preload:
            importlib.import_module(name)
        gc.collect()
        gc.freeze()  # the collector of a child would otherwise copy the pages of all that is loaded

        def send(kind: str, value: object) -> None:
            pickle.dump((kind, value), answers)
            answers.flush()

        with Isolation(fork=True, calls=_CALLS) as isolation:
            while True:
                try:
                    order = pickle.load(orders)  # noqa: S301 - from the parent, which reads no file
                except EOFError:
                    return
                function, args, where, reporting, deadline, modules = order
                for name in modules:
                    with suppress(ImportError):  # the call tells of it
                        importlib.import_module(name)
                report = (lambda *step: send("progress", step)) if reporting else None
                try:
                    value = isolation.run(function, *args, where=where, progress=report, deadline=deadline)
                    send("value", value)
                except BrokenPipeError:
                    return
                except (RemapError, IsolationFailed) as error:
                    send("error", error)
