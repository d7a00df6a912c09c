"""From a layout and the input to the bytes of the output."""

from __future__ import annotations

import errno
import io
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from remap.hdf5.layout import Layout
    from remap.hdf5.reader import OpenedCheckpoint

__all__ = ["write", "write_at"]

_UNSUPPORTED = {errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP}
_STEP = 16 << 20
"""Bytes the kernel copies between two reports of progress."""


def write(layout: Layout, opened: OpenedCheckpoint, output: io.FileIO, report: Callable[[int], None]) -> None:
    """Write a whole output into an empty file, reserving all its room before the first byte.

    `report` is told of every number of bytes copied. Raises OSError for whatever goes wrong with the output
    and InputRefused for the input.
    """
    _reserve(output, layout.size)
    for offset, piece in layout.pieces:
        write_at(output, offset, memoryview(piece))
    for place in layout.places:
        extent = opened.extent(place.source)
        done = 0
        while done < extent.size:
            step = min(_STEP, extent.size - done)
            _copy(opened, extent.offset + done, output, place.offset + done, step)
            done += step
            report(step)


def _reserve(output: io.FileIO, size: int) -> None:
    """Take the room on the disk where the system can, so that a full one is met now and not half-way."""
    try:
        os.posix_fallocate(output.fileno(), 0, size)
    except (AttributeError, OSError) as error:
        if isinstance(error, OSError) and error.errno not in _UNSUPPORTED:
            raise
        output.truncate(size)


def _copy(opened: OpenedCheckpoint, start: int, output: io.FileIO, target: int, size: int) -> None:
    """Copy bytes inside the kernel; what it leaves, for whatever reason, is read and written here.

    So a fault is met again by the plain way, which tells the input's from the output's.
    """
    done = 0
    try:
        while done < size:
            count = os.copy_file_range(
                opened.source.descriptor, output.fileno(), size - done, start + done, target + done
            )
            if count == 0:
                break
            done += count
    except (AttributeError, OSError):
        pass
    for piece in opened.source.chunks(start + done, size - done):
        write_at(output, target + done, piece)
        done += len(piece)


def write_at(output: io.FileIO, offset: int, data: memoryview) -> None:
    """Write all of `data` from byte `offset` on, however little the system takes at a time."""
    output.seek(offset)
    while data:
        data = data[output.write(data) or 0 :]
