"""Writing to the disk behind the back of whoever writes to the file."""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import io

__all__ = ["FlushedAlong"]

_WORTH = 32 << 20
"""Bytes of a file below which the disk is no slower than starting a thread."""
_PAUSE = 0.01


class FlushedAlong:
    """Let the system put a file on the disk while it is written and compared, in a `with` statement.

    The disk is what a large conversion waits for, and copying and comparing only use the processor. At the
    end, the first error that the disk gave is raised: the system tells each error only once.
    """

    def __init__(self, file: io.FileIO, size: int) -> None:
        self._descriptor = file.fileno()
        self._end = threading.Event()
        self._error: OSError | None = None
        self._thread = threading.Thread(target=self._run, daemon=True) if size >= _WORTH else None

    def __enter__(self) -> FlushedAlong:
        if self._thread is not None:
            self._thread.start()
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if self._thread is not None:
            self._end.set()
            self._thread.join()
        if error is None and self._error is not None:
            raise self._error

    def _run(self) -> None:
        try:
            while not self._end.wait(_PAUSE):
                os.fsync(self._descriptor)
        except OSError as error:
            self._error = error
