"""Whether anybody opens files in a directory, as the kernel sees it."""

from __future__ import annotations

import ctypes
import os
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = ["opened_in"]

_OPENED = 0x20


@contextmanager
def opened_in(directory: Path) -> Iterator[list[bytes]]:
    """Collect what inotify tells of files being opened; the list is filled at the end. Linux only."""
    library = ctypes.CDLL(None, use_errno=True)
    descriptor = library.inotify_init1(os.O_NONBLOCK)
    assert descriptor >= 0
    events: list[bytes] = []
    try:
        assert library.inotify_add_watch(descriptor, os.fsencode(directory), _OPENED) >= 0
        yield events
        with suppress(BlockingIOError):
            events.append(os.read(descriptor, 4096))
    finally:
        os.close(descriptor)
