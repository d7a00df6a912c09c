"""An output behind a URL: written and verified on this machine, sent, compared, and only then given its name.

What is sent is compared with what the store says that it has. To S3 it is sent in parts, of which the store returns the MD5
sum; the upload is completed when all are right. Everywhere else, and where the sums are none of MD5, it is sent under a
temporary name beside the output, read back byte by byte, and then moved.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import tempfile
from collections.abc import Callable, Iterator
from typing import Any

from remap.errors import OutputRefused, Remedy
from remap.remote.listing import require_writable
from remap.remote.reading import STEP, RemoteFile
from remap.remote.store import Store
from remap.urls import join, parent

__all__ = ["holds", "new_object", "replace"]

PART = 16 << 20
"""Bytes of a part of an upload; S3 takes at most 10,000 parts."""
Progress = Callable[[int, int], None]


@contextlib.contextmanager
def new_object(url: str, *, overwrite: bool, progress: Progress | None = None) -> Iterator[io.FileIO]:
    """Give an empty local file; what is in it when the block ends without an error appears at the URL in one step.

    Args:
        url: The URL.
        overwrite: Whether to replace what is there.
        progress: Called with the bytes done and the bytes in all, of which the block itself does a third.

    Yields:
        The local file, which has no name.

    Raises:
        UsageRefused: Nothing can be written to URLs of this scheme, or the extra `remote` is not installed.
        OutputRefused: There is a file of that name already, or it cannot be written or compared. Then nothing
            appears.
    """
    require_writable(url)
    store = Store(url, OutputRefused)
    if not overwrite and store.exists():
        raise _exists_already(store)
    try:
        with tempfile.TemporaryFile() as kept, io.FileIO(os.dup(kept.fileno()), "r+b") as file:
            yield file
            sent = _Sent(file, progress)
            _publish(store, sent, overwrite=overwrite)
            sent.ended()
    except OSError as error:
        raise OutputRefused(
            f"the temporary file cannot be written: {error.strerror or error}",
            where=tempfile.gettempdir(),
            hint="free some space, or let TMPDIR name another directory",
        ) from None


def replace(url: str, content: bytes) -> None:
    """Write a small file of our own, and replace what is there.

    Args:
        url: The URL.
        content: The whole content.

    Raises:
        OutputRefused: It cannot be written.
    """
    store = Store(url, OutputRefused)
    store.asked(lambda: store.files.pipe_file(store.path, content))


def holds(url: str, file: io.FileIO) -> bool:
    """Tell whether a URL leads to the same bytes as a local file.

    Args:
        url: The URL.
        file: The file.

    Raises:
        OutputRefused: The URL cannot be read.
    """
    return _same(RemoteFile(url, OutputRefused), _Sent(file, None))


class _Sent:
    """A complete local file, read in pieces as often as is needed."""

    def __init__(self, file: io.FileIO, progress: Progress | None) -> None:
        self._file = file
        self._progress = progress
        self.size = file.seek(0, os.SEEK_END)
        self._done = self.size

    def pieces(self) -> Iterator[bytes]:
        self._file.seek(0)
        while piece := self._whole(PART):
            yield piece
            self._report(len(piece))

    def ended(self) -> None:
        """Report that all is done: some stores need not be read back."""
        self._report(2 * self.size)

    def _report(self, count: int) -> None:
        self._done = min(self._done + count, 3 * self.size)
        if self._progress is not None:
            self._progress(self._done, 3 * self.size)

    def _whole(self, size: int) -> bytes:
        data = b""
        while len(data) < size and (more := self._file.read(size - len(data))):
            data += more
        return data


def _publish(store: Store, sent: _Sent, *, overwrite: bool) -> None:
    if store.scheme in ("s3", "s3a") and _sent_in_parts(store, sent, overwrite=overwrite):
        return
    name = join(parent(store.url), f".h5remap-{os.urandom(8).hex()}.tmp")
    temporary = Store(name, OutputRefused)
    try:
        temporary.asked(lambda: _send(temporary, sent))
        _compare(name, sent)
        _move(temporary, store, overwrite=overwrite)
    except BaseException:
        with contextlib.suppress(Exception):  # it may not be there at all
            temporary.files.rm_file(temporary.path)
        raise
    if store.info().get("size") != sent.size:
        raise OutputRefused("the store has another file there than the one that was moved", where=store.shown)


def _send(store: Store, sent: _Sent) -> None:
    with store.files.open(store.path, "wb", block_size=PART) as target:
        for piece in sent.pieces():
            target.write(piece)


def _compare(url: str, sent: _Sent) -> None:
    """Read everything back, and compare it."""
    stored = RemoteFile(url, OutputRefused)
    if not _same(stored, sent):
        raise _differs(stored.store)


def _same(stored: RemoteFile, sent: _Sent) -> bool:
    if stored.size != sent.size:
        return False
    offset = 0
    buffer = bytearray(STEP)
    for piece in sent.pieces():
        view = memoryview(buffer)[: len(piece)]
        stored.read_into(view, offset)
        if view != piece:
            return False
        offset += len(piece)
    return True


def _move(temporary: Store, store: Store, *, overwrite: bool) -> None:
    """Give the output its name, never over another file unless told to."""
    if not overwrite and store.exists():
        raise _exists_already(store)
    try:
        if store.scheme in ("sftp", "ssh") and not overwrite:
            temporary.files.ftp.rename(
                temporary.path, store.path
            )  # refused by servers where the name is taken
        else:
            temporary.files.mv(temporary.path, store.path)
    except Exception as error:
        raise store.refused(error) from None


def _sent_in_parts(store: Store, sent: _Sent, *, overwrite: bool) -> bool:
    """Send a file to S3; tell whether the store returned the MD5 sums of its parts. If not, nothing has appeared."""
    sums: list[bytes] = []

    def upload() -> Any:
        # "x" has the store itself refuse to replace an object when the upload is completed.
        target = store.files.open(store.path, "wb" if overwrite else "xb", block_size=PART, autocommit=False)
        try:
            for piece in sent.pieces():
                sums.append(hashlib.md5(piece, usedforsecurity=False).digest())
                target.write(piece)
            target.close()  # sends the last part, and completes nothing
        except BaseException:
            with contextlib.suppress(Exception):
                target.discard()
            raise
        return target

    target = store.asked(upload)
    stored = [part["ETag"].strip('"') for part in target.parts]
    if stored != [one.hex() for one in sums]:
        with contextlib.suppress(Exception):
            target.discard()
        return False
    try:
        target.commit()
    except Exception as error:
        with contextlib.suppress(Exception):
            target.discard()
        if _is_taken(error):
            raise _exists_already(store) from None
        raise store.refused(error) from None
    whole = f"{hashlib.md5(b''.join(sums), usedforsecurity=False).hexdigest()}-{len(sums)}"
    info = store.info()
    if info.get("size") != sent.size or str(info.get("ETag", "")).strip('"') != whole:
        _compare(store.url, sent)
    return True


def _is_taken(error: BaseException) -> bool:
    text = str(error)
    return isinstance(error, FileExistsError) or "PreconditionFailed" in text or "pre-conditions" in text


def _exists_already(store: Store) -> OutputRefused:
    return OutputRefused(
        "there is a file of that name already",
        where=store.shown,
        hint="give another name",
        remedies=(Remedy(option="overwrite", when="the file may be replaced"),),
    )


def _differs(store: Store) -> OutputRefused:
    return OutputRefused(
        "the store returns other bytes than were sent",
        where=store.shown,
        hint="nothing was published: try again over an encrypted connection",
    )
