"""Atomic output: a file is written, verified and on the disk before it has a name."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import stat
import zlib
from pathlib import Path
from typing import TYPE_CHECKING

from remap.errors import OutputRefused, Remedy, UsageRefused
from remap.formats.archive import Archive
from remap.hdf5.copying import FlushedAlong, Progress, write_at, write_image
from remap.hdf5.file_image import build_image
from remap.hdf5.identify import show
from remap.hdf5.verification import read_back, require_description, require_stored, require_structure
from remap.urls import masked, remote, url_in

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from remap.formats.description import FileDescription
    from remap.hdf5.reader import OpenedCheckpoint

__all__ = ["new_file", "publish", "require_other_file", "status_of"]


@contextlib.contextmanager
def new_file(path: Path, *, overwrite: bool) -> Iterator[io.FileIO]:
    """Give an empty file that has no name; it gets its name in one step when the block ends without an error.

    A file that is replaced leaves its permissions to the new one. Raises OutputRefused where `path` cannot be
    written, is there already and `overwrite` is False, or is no regular file, and whatever the block raises; then
    nothing is left behind.
    """
    status = status_of(path)
    if status is not None and not stat.S_ISREG(status.st_mode):
        what = "a directory" if stat.S_ISDIR(status.st_mode) else "a device, pipe or socket"
        hint = "give the name of a file in it" if stat.S_ISDIR(status.st_mode) else "give the name of a file"
        raise OutputRefused(f"the output is {what}", where=show(str(path)), hint=hint)
    if not overwrite and os.path.lexists(path):
        raise _exists_already(path)
    with _reported(path), _unpublished(path.parent) as unpublished:
        yield unpublished.file
        if status is not None and hasattr(os, "fchmod"):
            os.fchmod(unpublished.file.fileno(), stat.S_IMODE(status.st_mode) & 0o777)
        unpublished.publish_as(path, overwrite=overwrite)


def status_of(path: Path) -> os.stat_result | None:
    """Give the status of a path, links followed; None where there is nothing. Raises OutputRefused for other errors."""
    try:
        return path.stat()
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise _refused(path, error) from error


class _Unpublished:
    """A file that is not published yet; `name` is a temporary one, or None where it has none at all."""

    def __init__(self, file: io.FileIO, directory: Path, name: Path | None) -> None:
        self.file = file
        self.directory = directory
        self.name = name

    def close(self) -> None:
        """Close the file; what is to be published is on the disk already."""
        with contextlib.suppress(OSError):
            self.file.close()

    def publish_as(self, path: Path, *, overwrite: bool) -> None:
        """Give the file its name in one step, never over another file unless told to."""
        if self.name is None and not overwrite:
            _link_descriptor(self.file.fileno(), path)
        else:
            if self.name is None:
                name = _hidden(self.directory)
                _link_descriptor(self.file.fileno(), name)
                self.name = name
            self.close()  # Windows renames no open file
            if overwrite:
                self.name.replace(path)
            else:
                _link_or_rename(self.name, path)
        _sync_directory(self.directory)


@contextlib.contextmanager
def _unpublished(directory: Path) -> Iterator[_Unpublished]:
    """Create a file that is gone at the end, unless it was given its name."""
    descriptor, name = _create(directory)
    file = io.FileIO(descriptor, "r+b")
    unpublished = _Unpublished(file, directory, name)
    try:
        yield unpublished
    finally:
        unpublished.close()
        if unpublished.name is not None:
            unpublished.name.unlink(missing_ok=True)


def _create(directory: Path) -> tuple[int, Path | None]:
    if hasattr(os, "O_TMPFILE"):
        # Refused by file systems that know no such files, each with an error of its own; creating a file with a
        # name, below, meets again whatever else is wrong with the directory.
        with contextlib.suppress(OSError):
            descriptor = os.open(directory, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o666)
            if Path(f"/proc/self/fd/{descriptor}").exists():
                return descriptor, None
            os.close(descriptor)
    name = _hidden(directory)
    flags = os.O_CREAT | os.O_EXCL | os.O_RDWR | getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0)
    return os.open(name, flags, 0o666), name


def _hidden(directory: Path) -> Path:
    return directory / f".h5remap-{os.urandom(8).hex()}.tmp"


def _link_descriptor(descriptor: int, path: Path) -> None:
    with _open_directory(path.parent) as directory:
        # With a directory given, Python asks the system to follow the link in /proc to the file itself.
        os.link(f"/proc/self/fd/{descriptor}", path.name, dst_dir_fd=directory, follow_symlinks=True)


def _link_or_rename(name: Path, path: Path) -> None:
    try:
        os.link(name, path)
    except FileExistsError:
        raise
    except OSError:
        # No hard links here (FAT, some network file systems). Renaming on Windows never replaces a file; elsewhere
        # another program could create it between the test and the renaming.
        if os.path.lexists(path):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(path)) from None
        name.rename(path)


def _sync_directory(path: Path) -> None:
    """Flush the directory to the disk, where the system can: the content of the file is there already."""
    if hasattr(os, "O_DIRECTORY"):
        with contextlib.suppress(OSError), _open_directory(path) as directory:
            os.fsync(directory)


@contextlib.contextmanager
def _open_directory(path: Path) -> Iterator[int]:
    directory = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield directory
    finally:
        with contextlib.suppress(OSError):
            os.close(directory)


@contextlib.contextmanager
def _reported(path: Path) -> Iterator[None]:
    """Turn an error of the system about the output into OutputRefused."""
    try:
        yield
    except OSError as error:
        raise _refused(path, error) from error


def _refused(path: Path, error: OSError | ValueError) -> OutputRefused:
    number = error.errno if isinstance(error, OSError) else None
    where = show(str(path))
    if number == errno.EEXIST:
        return _exists_already(path)
    if number in (errno.ENOSPC, errno.EDQUOT):
        return OutputRefused("the disk is full", where=where, hint="free some space or write to another disk")
    if number in (errno.ENOENT, errno.ENOTDIR):
        url = url_in(str(path))
        if url is not None:
            what = f"URLs of this kind are not supported: {show(masked(url))}"
            return OutputRefused(what, hint="write to this machine, then upload the file")
        return OutputRefused(
            "there is no such directory", where=show(str(path.parent)), hint="create it first"
        )
    reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
    return OutputRefused(
        f"the output cannot be written: {reason}", where=where, hint="write to another directory"
    )


def _exists_already(path: Path) -> OutputRefused:
    return OutputRefused(
        "there is a file of that name already",
        where=show(str(path)),
        hint="give another name",
        remedies=(Remedy(option="overwrite", when="the file may be replaced"),),
    )


def publish(
    file: FileDescription,
    opened: OpenedCheckpoint,
    target: str | os.PathLike[str],
    *,
    overwrite: bool,
    progress: Callable[[int, int], None] | None = None,
) -> int:
    """Write a file as it is described to `target`, with tensors of a checkpoint, and return its size in bytes.

    The file is written without a name where the system knows such files, and under an unguessable one in the
    same directory elsewhere; its tensors are compared with the input and the rest with what libhdf5 wrote, it is reopened
    and compared with its description, and it is on the disk before it gets its name in one step. `progress` is
    called with the bytes done and the bytes in all.

    Raises UsageRefused when the target is the input, OutputRefused when it is there already and `overwrite`
    is False, or cannot be written; InputRefused when the input cannot be read or changes meanwhile. Then nothing is left
    behind.
    """
    name = os.fsdecode(target)
    url = remote(name)
    require_other_file(name, opened)
    if url is None:
        new = new_file(Path(name), overwrite=overwrite)
        writing = progress
    else:
        from remap.remote.writing import new_object  # fsspec is needed only here

        new = new_object(url, overwrite=overwrite, progress=progress)
        # Sending the file and comparing it are the other two thirds.
        writing = None if progress is None else lambda done, total: progress(done, 3 * total)
    with new as output:
        size = _write(file, opened, output, writing)
        os.fsync(output.fileno())
        opened.source.confirm()
        opened.source.require_unchanged()
    return size


def require_other_file(name: str, opened: OpenedCheckpoint) -> None:
    """Refuse the input as the output, by whatever name."""
    if opened.source.is_same(name):
        raise UsageRefused(
            "the output is the input",
            where=show(masked(name)),
            hint="give another name: the input is never written to",
        )


def _write(
    file: FileDescription,
    opened: OpenedCheckpoint,
    output: io.FileIO,
    progress: Callable[[int, int], None] | None,
) -> int:
    """Write and verify a whole file, with the archive around it where it has one; return its size."""
    image = build_image(file)
    inner = image.size
    archive = Archive(members=file.members, name=file.member, size=inner) if file.member else None
    begin = 0 if archive is None else archive.start
    image = image.moved(begin)
    size = image.size if archive is None else image.size + len(archive.tail(0))
    tensors = [(placed.offset, placed.offset + placed.tensor.size) for placed in image.tensors]
    total = sum(end - start for start, end in tensors)
    with FlushedAlong(output, size):
        write_image(image, opened, output, size, Progress(progress, total))
        require_structure(output, image.pieces, tensors)
        require_description(file, output, image.tensors, begin=begin, size=inner)
        if archive is not None:
            _write_archive(archive, output)
    return size


def _write_archive(archive: Archive, output: io.FileIO) -> None:
    """Write and compare an archive around the member that is in the file already."""
    checksum = 0
    for piece in read_back(output, archive.start, archive.size):
        checksum = zlib.crc32(piece, checksum)
    head, tail = archive.head(checksum), archive.tail(checksum)
    for offset, part in ((0, head), (archive.start + archive.size, tail)):
        write_at(output, offset, memoryview(part))
        require_stored(output, offset, memoryview(part), "the archive's table of contents")
