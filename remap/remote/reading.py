"""Bytes of a file behind a URL by position, in few requests and without reading much that is not asked for.

The metadata of an HDF5 file is small and spread over it. So what is read is kept in blocks; only what is read on from
where the last request ended is read ahead, twice as far each time. Tensors are read in steps of some mebibytes.

A server that gives no parts of files, or nothing that would tell of a change, is read once, to a temporary file.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Iterator
from typing import IO, Any

from remap.errors import InputRefused, RemapError
from remap.remote.store import Changed, Store, identity_in

__all__ = ["RemoteFile", "digest", "read_whole"]

WHOLE = 1 << 20
"""Bytes of a file that is read in one request."""
STEP = 16 << 20
"""Bytes of a tensor that are read in one request, and kept."""
_BLOCK = 1 << 9
"""Bytes of metadata that are kept together."""
_LEAST = 1 << 10
"""Bytes of metadata read at least: more save few requests, and read more in all."""
_FIRST = 1 << 14
"""Bytes that are read at first: the superblock, the root group and often all that it lists."""
_FURTHEST = 1 << 18
"""Bytes of metadata read ahead at most."""
_LARGE = 1 << 16
"""Bytes from which a read is one of a tensor, and not of metadata."""
_MOST_BLOCKS = 1 << 15
_COPIED = 1 << 20
"""Bytes copied at a time from a server that gives no parts of files."""


class RemoteFile:
    """A file behind a URL.

    Attributes:
        size: Its size in bytes.
        transferred: Bytes that were asked for so far, without what a protocol adds.
        requests: How many times bytes were asked for.
    """

    def __init__(self, url: str, refusal: type[RemapError] = InputRefused) -> None:
        """Connect, and ask for the size; the first bytes are read with the first read.

        Args:
            url: The URL.
            refusal: The error to raise.

        Raises:
            UsageRefused: The extra `remote` is not installed.
            RemapError: The file is not there, or cannot be read.
        """
        self.store = Store(url, refusal)
        self._refusal = refusal
        self.transferred = 0
        self.requests = 0
        self._blocks: dict[int, bytes] = {}
        self._ahead, self._next = _LEAST, -1
        self._window, self._window_start = memoryview(b""), 0
        info = self.store.info()
        self._require_file(info)
        self._size: int | None = info.get("size")
        self.size = self._size or 0
        self._identity = identity_in(info)
        # Only encrypted connections are sure to notice bytes that were changed on the way; on others all that an output
        # is made from is read twice.
        self._twice = not self.store.encrypted
        self._unconfirmed: list[tuple[int, int, bytes]] = []
        self._opened: Any = None
        self._failure: RemapError | None = None

    def read_into(self, view: memoryview, offset: int) -> None:
        """Fill `view` with the bytes from `offset` on, which have to be in the file.

        Raises:
            RemapError: The server does not give them, or the file was changed.
        """
        if not view:
            return
        if self._fill(view, offset):
            return
        if len(view) >= _LARGE or self.size <= WHOLE:
            # What is read on from where the last request ended is read ahead, twice as far each time.
            end = self._window_start + len(self._window)
            ahead = 2 * len(self._window) if offset == end else 0
            self.expect(offset, min(max(len(view), ahead), self.size - offset))
            if self._fill(view, offset):
                return
            view[:] = self._get(offset, offset + len(view))  # more than a step
            return
        first, last = offset // _BLOCK, (offset + len(view) - 1) // _BLOCK
        missing = [number for number in range(first, last + 1) if number not in self._blocks]
        if missing:
            self._load_blocks(missing[0], missing[-1])
        data = b"".join(self._blocks[number] for number in range(first, last + 1))
        begin = offset - first * _BLOCK
        view[:] = data[begin : begin + len(view)]

    def expect(self, offset: int, size: int) -> int:
        """Read bytes that will be asked for next in one request, if they are many.

        Args:
            offset: The first.
            size: How many will be asked for; they have to be in the file.

        Returns:
            How many of them one request reads.
        """
        size = min(size, STEP)
        begin, end = (0, self.size) if self.size <= WHOLE else (offset, offset + size)
        if size < _LARGE and self.size > WHOLE:
            return size
        if begin < self._window_start or end > self._window_start + len(self._window):
            self._window = memoryview(self._get(begin, end))
            self._window_start = begin
        return size

    def require_unchanged(self) -> None:
        """Raise `refusal` if the store has another object at the URL than the one that was opened."""
        info = self.store.info()
        if (info.get("size"), identity_in(info)) != (self._size, self._identity):
            raise self.store.refused(Changed())

    def confirm(self) -> None:
        """Read all metadata again that came over a connection without encryption; raise `refusal` if it differs."""
        while self._unconfirmed:
            begin, end, total = self._unconfirmed.pop()
            if hashlib.sha256(self._once(begin, end)).digest() != total:
                raise self._unsteady()

    def copied(self) -> IO[bytes] | None:
        """Give the whole file as a temporary file without a name if parts of it cannot be read, else None.

        That is where the server gives no parts, or does not tell by anything whether the file is still the same.
        """
        if self._size is not None and self._identity and (self.size <= WHOLE or self._gives_parts()):
            return None
        file = tempfile.TemporaryFile()  # noqa: SIM115 - the caller closes it
        try:
            self._copy(file)
        except BaseException:
            file.close()
            raise
        return file

    def _fill(self, view: memoryview, offset: int) -> bool:
        """Take bytes from the window if it has them."""
        begin = offset - self._window_start
        if begin < 0 or begin + len(view) > len(self._window):
            return False
        view[:] = self._window[begin : begin + len(view)]
        return True

    def _load_blocks(self, first: int, last: int) -> None:
        self._ahead = min(self._ahead * 2, _FURTHEST) if first == self._next else _LEAST
        stop = max(last + 1, first + (self._ahead if first else _FIRST) // _BLOCK)
        for number in range(last + 1, stop):
            if number in self._blocks:
                stop = number
                break
        self._next = stop
        begin = first * _BLOCK
        end = min(stop * _BLOCK, self.size)
        data = self._once(begin, end)
        if self._twice:
            self._unconfirmed.append((begin, end, hashlib.sha256(data).digest()))
        for start in range(0, len(data), _BLOCK):
            self._blocks[first + start // _BLOCK] = data[start : start + _BLOCK]
        while len(self._blocks) > _MOST_BLOCKS:
            number = next(iter(self._blocks))
            if first <= number < stop:
                break
            del self._blocks[number]

    def _get(self, begin: int, end: int) -> bytes:
        data = self._once(begin, end)
        if self._twice and data != self._once(begin, end):
            raise self._unsteady()
        return data

    def _once(self, begin: int, end: int) -> bytes:
        if self._failure is not None:
            raise self._failure
        try:
            return self.store.asked(lambda: self._read(begin, end))
        except RemapError as failure:  # whoever reads on does not wait for the server again
            self._failure = failure
            raise

    def _read(self, begin: int, end: int) -> bytes:
        if self._opened is None:
            self._opened = self._open()
        opened, self._opened = self._opened, None  # after an error it is opened again
        self.requests += 1
        opened.seek(begin)
        data = bytes(opened.read(end - begin))
        self.transferred += len(data)
        if len(data) != end - begin:
            raise EOFError(f"{len(data):,} bytes came where {end - begin:,} were asked for")
        self._opened = opened
        return data

    def _unsteady(self) -> RemapError:
        return self._refusal(
            "the connection delivers other bytes when they are read again",
            where=self.store.shown,
            hint="use an encrypted connection (https)",
        )

    def _open(self) -> Any:
        # With a size, HTTP asks for no more; without one, S3 is held to the entity tag that it finds.
        known = {"size": self._size} if self.store.scheme in ("http", "https") else {}
        return self.store.files.open(self.store.path, "rb", cache_type="none", block_size=_COPIED, **known)

    def _gives_parts(self) -> bool:
        """Tell whether the server gives the last byte of the file alone."""
        if self.store.scheme not in ("http", "https"):
            return True
        try:
            return len(self._read(self.size - 1, self.size)) == 1
        except ValueError:
            return False
        except Exception:  # met again, repeated and put into words by whatever is read first
            return True

    def _copy(self, file: IO[bytes]) -> None:
        """Copy the file, and on a connection that is not encrypted compare it with a second reading."""
        self.store.asked(lambda: self._stream(file, compare=False))
        if self._twice:
            self.store.asked(lambda: self._stream(file, compare=True))
        file.seek(0)

    def _stream(self, file: IO[bytes], *, compare: bool) -> None:
        file.seek(0)
        if not compare:
            file.truncate()
        done = 0
        self.requests += 1
        with self.store.files.open(self.store.path, "rb", block_size=0) as opened:
            while piece := opened.read(_COPIED):
                done += len(piece)
                self.transferred += len(piece)
                if not compare:
                    file.write(piece)
                elif file.read(len(piece)) != piece:
                    raise self._unsteady()
        file.flush()
        if self._size not in (None, done):
            raise EOFError(f"{done:,} bytes came, and {self.size:,} were announced")

    def _require_file(self, info: dict[str, Any]) -> None:
        if info.get("type") == "directory":
            raise self._refusal(
                "it is a directory", where=self.store.shown, hint="give the URL of a file in it"
            )
        if self.store.scheme == "https" and str(info.get("url", "")).startswith("http:"):
            raise self._refusal(
                "the server leads to an address without encryption",
                where=self.store.shown,
                hint="give that address itself (http) if you trust the network",
            )


def digest(url: str) -> str:
    """Sum up the bytes of a file (SHA-256).

    Args:
        url: The URL.

    Returns:
        The sum in hexadecimal.

    Raises:
        RemapError: The file cannot be read.
    """
    total = hashlib.sha256()
    for piece in _pieces(url):
        total.update(piece)
    return total.hexdigest()


def read_whole(url: str) -> bytes:
    """Read a small file of our own.

    Args:
        url: The URL.

    Returns:
        Its content.

    Raises:
        RemapError: The file cannot be read.
    """
    return b"".join(map(bytes, _pieces(url)))


def _pieces(url: str) -> Iterator[memoryview]:
    file = RemoteFile(url)
    buffer = memoryview(bytearray(min(file.size, STEP)))
    for start in range(0, file.size, STEP):
        piece = buffer[: min(STEP, file.size - start)]
        file.read_into(piece, start)
        yield piece
    file.require_unchanged()
