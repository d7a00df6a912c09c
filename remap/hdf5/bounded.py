"""A source as a file object, of which no more is read at once than a limit."""

from __future__ import annotations

import io
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing_extensions import Buffer

    from remap.hdf5.source import Source

__all__ = ["LARGEST_TABLE", "BoundedReader"]

LARGEST_TABLE = 4 << 20
"""Bytes of a zip archive's table of contents. A .keras file has fewer than ten members, each of which takes less than a
hundred bytes in it; Python makes of each entry an object of ten times its size."""


class BoundedReader(io.BufferedReader):
    """A file for the standard library's `zipfile`, which reads the table of contents first.

    The source stays open when the file is closed. `largest` is the limit in bytes: raise it to read members.
    """

    def __init__(self, source: Source) -> None:
        super().__init__(_Raw(source))
        self.largest = LARGEST_TABLE

    def read(self, size: int | None = -1, /) -> bytes:
        """Read as the class does; raises BadZipFile for more than the limit."""
        from zipfile import BadZipFile

        if size is not None and size > self.largest:
            raise BadZipFile("its table of contents is larger than that of any .keras file")
        return super().read(size)


class _Raw(io.RawIOBase):
    def __init__(self, source: Source) -> None:
        self._source = source
        self._position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        start = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._source.size}[whence]
        if start + offset < 0:
            raise OSError("the position is before the file")  # as of a real file, which `zipfile` expects
        self._position = start + offset
        return self._position

    def tell(self) -> int:
        return self._position

    def readinto(self, buffer: Buffer, /) -> int:
        view = memoryview(buffer)
        view = view[: max(0, min(len(view), self._source.size - self._position))]
        self._source.read_into(view, self._position)
        self._position += len(view)
        return len(view)
