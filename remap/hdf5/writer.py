"""From a layout and the input to the bytes of the output."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

from remap.hdf5.copying import copy, write_at

if TYPE_CHECKING:
    import io
    from collections.abc import Callable

    from remap.hdf5.layout import Layout
    from remap.hdf5.reader import OpenedCheckpoint

__all__ = ["write"]

_UNSUPPORTED = {errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP}


def write(layout: Layout, opened: OpenedCheckpoint, output: io.FileIO, report: Callable[[int], None]) -> None:
    """Write a whole output into an empty file, reserving all its room before the first byte.

    Every tensor is compared with the input's once it is there; `report` is told of every number of bytes that are.
    Raises OSError for whatever goes wrong with the output, OutputRefused where a tensor reads back differently, and
    InputRefused for the input.
    """
    _reserve(output, layout.size)
    for offset, piece in layout.pieces:
        write_at(output, offset, memoryview(piece))
    copy(layout.places, opened, output, report)


def _reserve(output: io.FileIO, size: int) -> None:
    """Take the room on the disk where the system can, so that a full one is met now and not half-way."""
    try:
        os.posix_fallocate(output.fileno(), 0, size)
    except (AttributeError, OSError) as error:
        if isinstance(error, OSError) and error.errno not in _UNSUPPORTED:
            raise
        output.truncate(size)
