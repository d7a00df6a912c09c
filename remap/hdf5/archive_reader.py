"""A zip archive from a stranger: its members are checked against each other before one of them is read.

Keras 3 writes `metadata.json`, `config.json`, `model.weights.h5` and perhaps files below `assets/` into a `.keras`
file, all stored as they are (`_save_model_to_fileobj` in keras/src/saving/saving_lib.py).
"""

from __future__ import annotations

import errno
import io
import os
import struct
import zipfile
import zlib
from itertools import pairwise
from typing import IO, TYPE_CHECKING

from remap.errors import InputRefused
from remap.hdf5.identify import show
from remap.hdf5.source import CHUNK, FileSource

if TYPE_CHECKING:
    from collections.abc import Iterable

    from typing_extensions import Buffer

    from remap.hdf5.source import Source

__all__ = ["ArchiveReader"]

_LARGEST_TABLE = 4 << 20
"""Bytes of a zip archive's table of contents. A .keras file has fewer than ten members, each of which takes less than a
hundred bytes in it; Python makes of each entry an object of ten times its size."""
_LARGEST_TEXT = 64 << 20
_LARGEST_UNPACKED = 64 << 30
# Deflate makes at most 1032 bytes of one (RFC 1951: 258 bytes from two bits).
_LARGEST_RATIO = 1032
_ENCRYPTED = 0x1
_LOCAL_HEADER = struct.Struct("<4s5H3L2H")
_BROKEN = (KeyError, RuntimeError, ValueError, EOFError, zipfile.BadZipFile, zlib.error, struct.error)
_HINT = "get the file again from its origin, or load it in Keras and save it again"


class ArchiveReader:
    """The members of a zip archive, in a `with` statement.

    Every method raises InputRefused, with this hint, for an archive that Keras would not write.
    """

    def __init__(self, source: Source, *, hint: str = _HINT) -> None:
        self._source = source
        self._hint = hint
        self._file = _BoundedReader(source)
        try:
            self._archive = zipfile.ZipFile(self._file)
            self._entries = self._checked(self._archive.infolist())
        except (*_BROKEN, NotImplementedError) as error:
            self._file.close()
            raise self._refused(f"a zip archive, but no .keras file: {error}") from None
        except BaseException:
            self._file.close()
            raise
        self._file.largest = _LARGEST_TEXT

    def __enter__(self) -> ArchiveReader:
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        self._archive.close()
        self._file.close()

    @property
    def names(self) -> tuple[str, ...]:
        """Name the members."""
        return tuple(self._entries)

    def read(self, name: str, *, largest: int = _LARGEST_TEXT) -> bytes:
        """Read a whole member, of no more bytes than `largest`."""
        try:
            entry = self._archive.getinfo(name)
            if entry.file_size > largest:
                raise self._refused("the text is larger than any that Keras writes", name)
            with self._archive.open(entry) as member:
                return member.read(entry.file_size)
        except _BROKEN as error:
            raise self._refused(f"a zip archive, but no .keras file: {error}", name) from None

    def text(self, name: str) -> str:
        """Read a member that is text."""
        try:
            return self.read(name).decode()
        except UnicodeDecodeError as error:
            raise self._refused(f"the text cannot be read: {error}", name) from None

    def open(self, name: str) -> Source:
        """Open a member as a file of its own: in its place if it is stored, else unpacked to a file without a name."""
        entry = self._entries[name]
        if entry.compress_type == zipfile.ZIP_STORED:
            return self._source.part(self._start(entry), entry.file_size)
        if entry.file_size > min(_LARGEST_UNPACKED, entry.compress_size * _LARGEST_RATIO):
            raise self._refused(f"the member claims {entry.file_size:,} bytes when it is unpacked", name)
        import tempfile  # Keras stores this member; the module loads all of OpenSSL

        try:
            with tempfile.TemporaryFile() as unpacked:
                self._unpack(entry, unpacked)
                unpacked.flush()
                return FileSource(os.dup(unpacked.fileno()), self._source.name)
        except _BROKEN as error:
            raise self._refused(f"the member cannot be unpacked: {error}", name) from None
        except OSError as error:
            room = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
            raise InputRefused(
                f"the member cannot be unpacked: {error.strerror or error}",
                where=self._place(name),
                hint=f"{entry.file_size:,} bytes are needed in {tempfile.gettempdir()}" if room else _HINT,
            ) from None

    def _unpack(self, entry: zipfile.ZipInfo, target: IO[bytes]) -> None:
        left = entry.file_size
        with self._archive.open(entry) as member:
            while left and (piece := member.read(min(left, CHUNK))):
                target.write(piece)
                left -= len(piece)
            if left:
                raise zipfile.BadZipFile("it has another size than the table of contents says")

    def _checked(self, entries: Iterable[zipfile.ZipInfo]) -> dict[str, zipfile.ZipInfo]:
        """Require members with names of their own, that can be read, and that lie one behind the other."""
        found: dict[str, zipfile.ZipInfo] = {}
        extents = []
        for entry in entries:
            name = entry.filename
            if name in found:
                raise self._refused("two members have this name", name)
            if entry.header_offset < 0:
                raise self._refused("this member would begin before the file", name)
            if _leads_out(entry.orig_filename):
                raise self._refused("the name of this member leads out of the archive", name)
            if entry.flag_bits & _ENCRYPTED:
                raise self._refused("this member is encrypted, which Keras never does", name)
            if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                raise self._refused("this member is compressed by another method than Keras uses", name)
            if entry.compress_type == zipfile.ZIP_STORED and entry.compress_size != entry.file_size:
                raise self._refused("this member has two sizes", name)
            found[name] = entry
            extents.append((entry.header_offset, self._start(entry) + entry.compress_size, name))
        extents.sort()
        for (_, end, _), (start, _, name) in pairwise(extents):
            if start < end:
                raise self._refused("this member shares its bytes with another", name)
        if extents and max(end for _, end, _ in extents) > self._archive.start_dir:
            raise self._refused("this member shares its bytes with the table of contents", extents[-1][2])
        return found

    def _start(self, entry: zipfile.ZipInfo) -> int:
        """Give the offset of a member's first byte, once its own header agrees with the table of contents."""
        head = bytearray(_LOCAL_HEADER.size)
        self._source.read_into(memoryview(head), entry.header_offset)
        mark, _, flags, method, _, _, _, _, _, name_size, extra_size = _LOCAL_HEADER.unpack(head)
        name = bytearray(name_size)
        self._source.read_into(memoryview(name), entry.header_offset + len(head))
        encoding = "utf-8" if flags & 0x800 else "cp437"
        if (
            mark != b"PK\x03\x04"
            or method != entry.compress_type
            or flags & _ENCRYPTED
            or name.decode(encoding, "replace") != entry.orig_filename
        ):
            raise self._refused("the header of this member contradicts the table of contents", entry.filename)
        start: int = entry.header_offset + len(head) + name_size + extra_size
        return start

    def _refused(self, what: str, name: str = "") -> InputRefused:
        return InputRefused(what, where=self._place(name), hint=self._hint)

    def _place(self, name: str) -> str:
        return f"{show(name)[:200]} in {show(self._source.name)}" if name else show(self._source.name)


def _leads_out(name: str) -> bool:
    parts = name.removesuffix("/").split("/")
    return not name.isprintable() or "\\" in name or ":" in name or not {"", ".", ".."}.isdisjoint(parts)


class _BoundedReader(io.BufferedReader):
    """A file for the standard library's `zipfile`, which reads the table of contents first.

    The source stays open when the file is closed. `largest` is the limit in bytes: raise it to read members.
    """

    def __init__(self, source: Source) -> None:
        super().__init__(_Raw(source))
        self.largest = _LARGEST_TABLE

    def read(self, size: int | None = -1, /) -> bytes:
        """Read as the class does; raises BadZipFile for more than the limit."""
        if size is not None and size > self.largest:
            raise zipfile.BadZipFile("its table of contents is larger than that of any .keras file")
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
