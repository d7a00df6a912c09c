"""What tests of isolation let a child process do; loaded there by name, so it imports little."""

from __future__ import annotations

import faulthandler
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from remap.errors import OutputRefused

if TYPE_CHECKING:
    from collections.abc import Callable


def refuse() -> None:
    raise OutputRefused("the disk is full", where="out.h5", hint="free some room")


def fail() -> float:
    return 1 / 0


def fail_with(number: int) -> None:
    raise OSError(number, os.strerror(number))


def load_nothing(message: str) -> None:
    raise ImportError(message)


def start_no_thread() -> None:
    raise RuntimeError("can't start new thread")


def die(number: int) -> None:
    faulthandler.disable()
    os.kill(os.getpid(), number)


def loop() -> None:
    while True:
        pass


def take(size: int) -> int:
    return len(bytearray(size))


def work_in_steps(progress: Callable[[int, int], None]) -> str:
    """Take longer than a deadline of one second, and report in time."""
    for step in range(4):
        start = time.process_time()
        while time.process_time() < start + 0.6:
            pass
        progress(step + 1, 4)
    return "done"


def work(seconds: float) -> None:
    start = time.process_time()
    while time.process_time() < start + seconds:
        pass


_CALLS: list[int] = []


def succeed_first() -> int:
    """Fail in a process in which it was called before."""
    _CALLS.append(1)
    if len(_CALLS) > 1:
        refuse()
    return len(_CALLS)


def report_often(progress: Callable[[int, int], None]) -> None:
    for step in range(10_000):
        progress(step, 10_000)
    progress(10_000, 10_000)


def report_once(progress: Callable[[int, int], None] | None = None) -> int:
    if progress is not None:
        progress(1, 2)
    return os.getpid()


def report_and_wait(progress: Callable[[int, int], None]) -> None:
    progress(os.getpid(), os.getpid())
    time.sleep(60)


def ignore_and_wait(progress: Callable[[int, int], None]) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    progress(1, 1)
    time.sleep(60)


def hold(path: str, progress: Callable[[int, int], None]) -> None:
    """Keep a file until the end, whatever the end is."""
    try:
        Path(path).touch()
        progress(1, 1)
        time.sleep(60)
    finally:
        Path(path).unlink()


def hold_open(path: str, progress: Callable[[int, int], None]) -> None:
    """Keep the writing end of a named pipe open, as long as this process lives."""
    with Path(path).open("wb", buffering=0) as pipe:
        pipe.write(b"x")
        progress(1, 1)
        time.sleep(60)


def limits() -> tuple[int, int]:
    import resource

    return resource.getrlimit(resource.RLIMIT_DATA)


def handling(name: str) -> bool:
    """Tell whether a signal is ignored."""
    return signal.getsignal(getattr(signal, name)) == signal.SIG_IGN


def loaded(module: str) -> bool:
    return module in sys.modules


def speak() -> None:
    os.write(1, b"out")
    os.write(2, b"err")


class Foreign:
    """No value of the package."""


VALUES: dict[str, Any] = {
    "function": os.system,
    "object": Foreign(),
    "path": Path(),
    "call": subprocess.run,
    "own function": refuse,
    "closure": lambda: None,
}


def give(name: str) -> Any:
    return VALUES[name]


def send(message: bytes) -> None:
    """Write to the parent what is no whole message, and leave."""
    from remap.isolation import child

    def mutter(self: Any, *_: object) -> None:
        os.write(self._messages, message)
        os._exit(0)

    child._Reporter.send = mutter  # type: ignore[assignment, method-assign]
