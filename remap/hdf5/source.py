"""A file that is read, as bytes: opened once, read-only, and every fault in reading it remembered."""

from __future__ import annotations

import errno
import io
import os
import stat
from typing import TYPE_CHECKING

from remap.errors import InputRefused, RemapError
from remap.hdf5.identify import identify, show, url_in

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["CHUNK", "DAMAGED", "UNFINISHED", "Refused", "Source"]

DAMAGED = "the file is damaged or malicious: get it again from its origin"
UNFINISHED = "the program that saved the file did not finish: use an earlier checkpoint"


class Refused(Exception):
    """Carry a sentence without a full stop, and what to do, up to the checked file, which adds the place."""

    def __init__(self, what: str, *, hint: str = DAMAGED) -> None:
        super().__init__(what)
        self.hint = hint


CHUNK = 1 << 20
"""Bytes read at a time where whole tensors are read: large enough for speed, small enough for a cache."""

_METADATA_READ = 16 << 20
_OPEN = os.O_RDONLY | getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NONBLOCK", 0)


class Source:
    """An open file, or a part of it, read by position, that libhdf5 can be given as its driver.

    libhdf5 crashes or reports a wrong error when a driver raises, so `read` and `readinto` never do: they keep the first
    error, give zeros from then on, and the caller of libhdf5 calls `raise_fault` afterwards.

    `name` is what messages call the file, `refusal` the error that is raised when it cannot be read. The part begins at
    byte `begin` of the file and has `size` bytes; None is for all bytes to the end.
    """

    def __init__(
        self,
        descriptor: int,
        name: str,
        *,
        refusal: type[RemapError] = InputRefused,
        begin: int = 0,
        size: int | None = None,
    ) -> None:
        self.name = name
        self.descriptor = descriptor
        self._refusal = refusal
        self._begin = begin
        self.fault: BaseException | None = None
        self._position = 0
        self._status = self._stat()
        rest = max(0, self._status.st_size - begin)
        self.size = rest if size is None else min(size, rest)
        self._file = io.FileIO(descriptor, "rb")  # from here on the descriptor is its own

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> Source:
        """Open a regular file for reading only.

        Raises InputRefused when there is none, when it may not be read, and when it is a directory, a pipe or
        a device: opening never waits for a writer.
        """
        name = os.fsdecode(path)
        try:
            descriptor = os.open(name, _OPEN)
            try:
                kind = os.fstat(descriptor).st_mode
                if not stat.S_ISREG(kind):
                    raise InputRefused(identify(name, kind=kind), where=show(name))
                return cls(descriptor, name)
            except BaseException:
                os.close(descriptor)
                raise
        except (OSError, ValueError) as error:
            raise _cannot_open(name, error) from error

    def close(self) -> None:
        """Close the file; a second call does nothing."""
        self._file.close()

    def read_into(self, view: memoryview, offset: int) -> None:
        """Fill `view` with the bytes from `offset` on.

        Raises `refusal` when the file ends before or the system cannot read it.
        """
        missing = len(view)
        if offset + missing > self.size:
            raise self._cut_short()
        try:
            self._file.seek(self._begin + offset)
            while missing:
                count = self._file.readinto(view)
                if not count:
                    raise self._cut_short()
                missing -= count
                if missing:
                    view = view[count:]
        except OSError as error:
            raise self._unreadable(error) from error

    def chunks(self, offset: int, size: int) -> Iterator[memoryview]:
        """Give `size` bytes from `offset` on in pieces of at most CHUNK bytes; the next overwrites each."""
        buffer = memoryview(bytearray(min(size, CHUNK)))
        for start in range(0, size, CHUNK):
            piece = buffer[: min(CHUNK, size - start)]
            self.read_into(piece, offset + start)
            yield piece

    def is_same(self, status: os.stat_result) -> bool:
        """Tell whether a path whose status is given leads to this very file."""
        return os.path.samestat(self._status, status)

    def require_unchanged(self) -> None:
        """Raise InputRefused when the file's size or its time of change is not what it was at the start."""
        if _stamp(self._stat()) != _stamp(self._status):
            raise InputRefused(
                "the file was changed while it was read",
                where=show(self.name),
                hint="wait until nothing writes to it and try again",
            )

    def raise_fault(self) -> None:
        """Raise the error that was met inside a call of libhdf5, where it could not be raised."""
        if self.fault is not None:
            raise self.fault

    # The methods that h5py's file-object driver calls from inside libhdf5.

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Set the offset of the next read."""
        self._position = self.size if whence == os.SEEK_END else offset
        return self._position

    def tell(self) -> int:
        """Give the offset of the next read."""
        return self._position

    def readinto(self, view: memoryview) -> int:
        """Fill the whole of `view`, with zeros after a fault."""
        size = len(view)
        try:
            if self.fault is None:
                if size > _METADATA_READ:
                    raise self._refusal(
                        f"a single part of the file's metadata claims {size:,} bytes",
                        where=show(self.name),
                        hint="the file is damaged or malicious",
                    )
                self.read_into(view, self._position)
                return size
        except BaseException as error:
            self.fault = error
        view[:] = bytes(size)
        return size

    def read(self, size: int) -> bytes:
        """Give exactly `size` bytes, as the driver of older h5py asks for them."""
        data = bytearray(min(size, _METADATA_READ))
        self.readinto(memoryview(data))
        return bytes(data)

    def flush(self) -> None:
        """Do nothing: the file is never written to."""

    def _cut_short(self) -> RemapError:
        return self._refusal(
            "the file ends before what it says it holds",
            where=show(self.name),
            hint="it is cut short, or changed while it was read: get it again from its origin",
        )

    def _unreadable(self, error: OSError) -> RemapError:
        return self._refusal(
            f"the system cannot read the file: {error.strerror or error}",
            where=show(self.name),
            hint="copy it to another disk and try there",
        )

    def _stat(self) -> os.stat_result:
        try:
            return os.fstat(self.descriptor)
        except OSError as error:
            raise self._unreadable(error) from error


def _stamp(status: os.stat_result) -> tuple[int, int, int]:
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns


def _cannot_open(name: str, error: OSError | ValueError) -> InputRefused:
    number = error.errno if isinstance(error, OSError) else None
    url = url_in(name)
    if url is not None:
        return InputRefused(f"remote files are not supported yet: {url}", hint="download it first")
    if number == errno.ENOENT:
        return InputRefused("there is no such file", where=show(name), hint="check the path")
    if number == errno.EISDIR:
        return InputRefused(identify(name, kind=stat.S_IFDIR), where=show(name))
    reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
    return InputRefused(
        f"the file cannot be opened: {reason}", where=show(name), hint="check its permissions"
    )
