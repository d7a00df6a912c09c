"""A file that is read, as bytes: opened once, read-only, and every fault in reading it remembered.

Where the bytes come from, a file of this machine or a URL, nothing else of the package needs to know.
"""

from __future__ import annotations

import errno
import io
import os
import stat
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

from remap.errors import InputRefused, RemapError
from remap.hdf5.identify import identify, show
from remap.urls import SCHEMES, masked, remote, url_in

if TYPE_CHECKING:
    from collections.abc import Iterator

    from remap.remote.reading import RemoteFile

__all__ = ["CHUNK", "DAMAGED", "UNFINISHED", "FileSource", "Refused", "RemoteSource", "Source"]

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


class Source(ABC):
    """A file, or a part of it, read by position, that libhdf5 can be given as its driver.

    libhdf5 crashes or reports a wrong error when a driver raises, so `read` and `readinto` never do: they keep the first
    error, give zeros from then on, and the caller of libhdf5 calls `raise_fault` afterwards.

    `name` is what messages call the file, `refusal` the error that is raised when it cannot be read. The part begins at
    byte `begin` of the file and has `size` bytes; None is for all bytes to the end. `descriptor` is that of a file of this
    machine, None for others.
    """

    descriptor: int | None = None

    def __init__(
        self, name: str, whole: int, refusal: type[RemapError], begin: int, size: int | None
    ) -> None:
        self.name = name
        self.fault: BaseException | None = None
        self._refusal = refusal
        self._begin = begin
        self._position = 0
        rest = max(0, whole - begin)
        self.size = rest if size is None else min(size, rest)

    @staticmethod
    def open(path: str | os.PathLike[str]) -> Source:
        """Open a regular file, or a URL, for reading only.

        Raises InputRefused when there is none, when it may not be read, and when it is a directory, a pipe or
        a device: opening never waits for a writer.
        """
        name = os.fsdecode(path)
        url = remote(name)
        return _open_file(name) if url is None else _open_url(url)

    @abstractmethod
    def close(self) -> None:
        """Close the file; a second call does nothing."""

    @abstractmethod
    def part(self, begin: int, size: int) -> Source:
        """Give a part of the file as a file of its own, which stays open when this one is closed."""

    @abstractmethod
    def is_same(self, path: str) -> bool:
        """Tell whether a path or URL leads to this very file."""

    @abstractmethod
    def require_unchanged(self) -> None:
        """Raise InputRefused when the file is no longer what it was at the start."""

    def confirm(self) -> None:  # noqa: B027 - there is nothing on the way from a disk
        """Raise InputRefused when what was read may have been changed on its way, and reads differently again."""

    @abstractmethod
    def _read_at(self, view: memoryview, offset: int) -> None:
        """Fill `view` from a byte of the whole file on."""

    def read_into(self, view: memoryview, offset: int) -> None:
        """Fill `view` with the bytes from `offset` on.

        Raises `refusal` when the file ends before or the system cannot read it.
        """
        if offset + len(view) > self.size:
            raise self._cut_short()
        self._read_at(view, self._begin + offset)

    def chunks(self, offset: int, size: int) -> Iterator[memoryview]:
        """Give `size` bytes from `offset` on in pieces of at most CHUNK bytes; the next overwrites each."""
        buffer = memoryview(bytearray(min(size, CHUNK)))
        for start in range(0, size, CHUNK):
            piece = buffer[: min(CHUNK, size - start)]
            self.read_into(piece, offset + start)
            yield piece

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

    def flush(self) -> None:  # noqa: B027 - h5py calls it
        """Do nothing: the file is never written to."""

    def _cut_short(self) -> RemapError:
        return self._refusal(
            "the file ends before what it says it holds",
            where=show(self.name),
            hint="it is cut short, or changed while it was read: get it again from its origin",
        )


class FileSource(Source):
    """A file of this machine that is open; from here on the descriptor is its own."""

    descriptor: int

    def __init__(
        self,
        descriptor: int,
        name: str,
        *,
        refusal: type[RemapError] = InputRefused,
        begin: int = 0,
        size: int | None = None,
    ) -> None:
        self.descriptor = descriptor
        self.name, self._refusal = name, refusal  # for what can go wrong from here on
        self._status = self._stat()
        super().__init__(name, self._status.st_size, refusal, begin, size)
        self._file = io.FileIO(descriptor, "rb")

    def close(self) -> None:
        """Close the file; a second call does nothing."""
        self._file.close()

    def part(self, begin: int, size: int) -> Source:
        """Give a part of the file as a file of its own, which stays open when this one is closed."""
        return FileSource(
            os.dup(self.descriptor), self.name, refusal=self._refusal, begin=self._begin + begin, size=size
        )

    def is_same(self, path: str) -> bool:
        """Tell whether a path leads to this very file."""
        if remote(path) is not None:
            return False
        try:
            return os.path.samestat(self._status, os.stat(path))  # noqa: PTH116 - a call that tests can spoil
        except (OSError, ValueError):
            return False

    def require_unchanged(self) -> None:
        """Raise InputRefused when the file's size or its time of change is not what it was at the start."""
        if _stamp(self._stat()) != _stamp(self._status):
            raise InputRefused(
                "the file was changed while it was read",
                where=show(self.name),
                hint="wait until nothing writes to it and try again",
            )

    def _read_at(self, view: memoryview, offset: int) -> None:
        missing = len(view)
        try:
            self._file.seek(offset)
            while missing:
                count = self._file.readinto(view)
                if not count:
                    raise self._cut_short()
                missing -= count
                if missing:
                    view = view[count:]
        except OSError as error:
            raise self._unreadable(error) from error

    def _stat(self) -> os.stat_result:
        try:
            return os.fstat(self.descriptor)
        except OSError as error:
            raise self._unreadable(error) from error

    def _unreadable(self, error: OSError) -> RemapError:
        return self._refusal(
            f"the system cannot read the file: {error.strerror or error}",
            where=show(self.name),
            hint="copy it to another disk and try there",
        )


class RemoteSource(Source):
    """A file behind a URL."""

    def __init__(self, file: RemoteFile, *, begin: int = 0, size: int | None = None) -> None:
        super().__init__(file.store.shown, file.size, InputRefused, begin, size)
        self._file = file

    def close(self) -> None:
        """Do nothing: between requests nothing is held open."""

    def part(self, begin: int, size: int) -> Source:
        """Give a part of the file as a file of its own."""
        return RemoteSource(self._file, begin=self._begin + begin, size=size)

    def is_same(self, path: str) -> bool:
        """Tell whether a URL is that of this file."""
        return remote(path) == self._file.store.url

    def require_unchanged(self) -> None:
        """Raise InputRefused when the store has another object there than at the start."""
        self._file.require_unchanged()

    def confirm(self) -> None:
        """Raise InputRefused when what was read over a connection without encryption reads differently again."""
        self._file.confirm()

    def chunks(self, offset: int, size: int) -> Iterator[memoryview]:
        """Give `size` bytes as other sources do, and read many pieces with one request."""
        if offset + size > self.size:
            raise self._cut_short()
        while size:
            ready = self._file.expect(self._begin + offset, size)
            yield from super().chunks(offset, ready)
            offset, size = offset + ready, size - ready

    def _read_at(self, view: memoryview, offset: int) -> None:
        self._file.read_into(view, offset)


def _open_file(name: str) -> Source:
    try:
        descriptor = os.open(name, _OPEN)
        try:
            kind = os.fstat(descriptor).st_mode
            if not stat.S_ISREG(kind):
                raise InputRefused(identify(name, kind=kind), where=show(name))
            return FileSource(descriptor, name)
        except BaseException:
            os.close(descriptor)
            raise
    except (OSError, ValueError) as error:
        raise _cannot_open(name, error) from error


def _open_url(url: str) -> Source:
    from remap.remote.reading import RemoteFile  # fsspec is needed only here

    file = RemoteFile(url)
    copy = file.copied()
    if copy is None:
        return RemoteSource(file)
    with copy:
        return FileSource(os.dup(copy.fileno()), file.store.shown)


def _stamp(status: os.stat_result) -> tuple[int, int, int]:
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns


def _cannot_open(name: str, error: OSError | ValueError) -> InputRefused:
    number = error.errno if isinstance(error, OSError) else None
    url = url_in(name)
    if url is not None:
        return InputRefused(
            f"URLs of this kind are not supported: {show(masked(url))}",
            hint=f"download the file first, or give a URL of {', '.join(sorted(SCHEMES))}",
        )
    if number == errno.ENOENT:
        return InputRefused("there is no such file", where=show(name), hint="check the path")
    if number == errno.EISDIR:
        return InputRefused(identify(name, kind=stat.S_IFDIR), where=show(name))
    reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
    return InputRefused(
        f"the file cannot be opened: {reason}", where=show(name), hint="check its permissions"
    )
