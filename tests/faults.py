"""A system whose calls fail, fall short, lie, or never return, each at a chosen moment."""

from __future__ import annotations

import errno
import io
import os
import signal
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    import pytest

__all__ = ["KINDS", "Faults"]

KINDS = {
    "full": errno.ENOSPC,
    "broken": errno.EIO,
    "quota": errno.EDQUOT,
}
_MODULES = ("remap.hdf5.source", "remap.hdf5.output", "remap.hdf5.copying", "remap.hdf5.verification")
_CALLS = (
    "open",
    "close",
    "fsync",
    "link",
    "replace",
    "rename",
    "unlink",
    "posix_fallocate",
    "copy_file_range",
    "fstat",
)


class Faults:
    """Count the system calls that reading and publishing make, and spoil number `at`.

    `kind` is one of KINDS for an error of that number, ``short`` for a transfer of half of what was asked,
    ``lie`` for a write of other bytes, ``kill`` for the end of the process before the call and ``killed`` for
    its end after it. `log` holds the names of the calls so far.
    """

    def __init__(self, at: int | None = None, kind: str = "") -> None:
        self.log: list[str] = []
        self.hit: str | None = None
        self._at = at
        self._kind = kind

    def install(self, patch: pytest.MonkeyPatch) -> Faults:
        """Put the spoilt system under the modules that touch files."""
        faulty = SimpleNamespace(**{name: getattr(os, name) for name in dir(os)})
        for name in _CALLS:
            if hasattr(os, name):
                setattr(faulty, name, self._spoilt(name, getattr(os, name)))
        faults = self

        class FileIO(io.FileIO):
            def readinto(self, buffer: Any, /) -> int:
                return faults._transfer("read", super().readinto, memoryview(buffer))

            def write(self, buffer: Any, /) -> int:
                return faults._transfer("write", super().write, memoryview(buffer))

        for module in _MODULES:
            patch.setattr(f"{module}.os", faulty)
            patch.setattr(f"{module}.io", SimpleNamespace(FileIO=FileIO), raising=False)
        return self

    def _due(self, name: str) -> bool:
        self.log.append(name)
        if len(self.log) - 1 != self._at:
            return False
        self.hit = name
        if self._kind in KINDS:
            raise OSError(KINDS[self._kind], os.strerror(KINDS[self._kind]))
        if self._kind == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        return True

    def _spoilt(self, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def spoilt(*given: Any, **named: Any) -> Any:
            due = self._due(name)
            if due and name == "copy_file_range" and self._kind == "short":
                given = (*given[:2], given[2] // 2, *given[3:])
            if due and name == "copy_file_range" and self._kind == "lie":
                given = (*given[:3], max(0, given[3] - 1), *given[4:])
            done = call(*given, **named)
            if due and self._kind == "killed":
                os.kill(os.getpid(), signal.SIGKILL)
            return done

        return spoilt

    def _transfer(self, name: str, call: Callable[[Any], Any], view: memoryview) -> int:
        due = self._due(name)
        if due and self._kind == "short":
            view = view[: len(view) // 2]
        if due and self._kind == "lie" and name == "write":
            view = memoryview(bytes(byte ^ 1 for byte in view))
        done = call(view)
        if due and self._kind == "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        return int(done)
