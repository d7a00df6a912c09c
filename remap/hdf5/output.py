"""All-or-nothing output: a file that is written, verified and on the disk before it has a name."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING

from remap.errors import InputRefused, OutputRefused, Remedy, UsageRefused
from remap.hdf5.copying import FlushedAlong, require_structure, verify, write
from remap.hdf5.file_image import lay_out
from remap.hdf5.identify import show, url_in
from remap.hdf5.reader import read_source
from remap.hdf5.source import Source

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from remap.checkpoint import Checkpoint
    from remap.conversion_plan import Plan
    from remap.hdf5.reader import OpenedCheckpoint

__all__ = ["Meter", "new_file", "publication", "publish", "status_of"]


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
        raise _there(path)
    with _told(path), _draft(path.parent) as draft:
        yield draft.file
        if status is not None and hasattr(os, "fchmod"):
            os.fchmod(draft.file.fileno(), stat.S_IMODE(status.st_mode) & 0o777)
        draft.name_it(path, overwrite=overwrite)


def status_of(path: Path) -> os.stat_result | None:
    """Tell what there is of that name, links followed; None for nothing. Raises OutputRefused for other errors."""
    try:
        return path.stat()
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise _refused(path, error) from error


class _Draft:
    """A file that nobody can see yet; `name` is None where it has none at all."""

    def __init__(self, file: io.FileIO, directory: Path, name: Path | None) -> None:
        self.file = file
        self.directory = directory
        self.name = name

    def close(self) -> None:
        """Close the file; what is to be published is on the disk already."""
        with contextlib.suppress(OSError):
            self.file.close()

    def name_it(self, path: Path, *, overwrite: bool) -> None:
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
def _draft(directory: Path) -> Iterator[_Draft]:
    """Make a draft that is gone at the end, unless it was given its name."""
    descriptor, name = _create(directory)
    file = io.FileIO(descriptor, "r+b")
    draft = _Draft(file, directory, name)
    try:
        yield draft
    finally:
        draft.close()
        if draft.name is not None:
            draft.name.unlink(missing_ok=True)


def _create(directory: Path) -> tuple[int, Path | None]:
    if hasattr(os, "O_TMPFILE"):
        # Refused by file systems that know no such files, each with an error of its own; what truly is wrong
        # with the directory, the named way below meets again.
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
    with _opened(path.parent) as directory:
        # With a directory given, Python asks the system to follow the link in /proc to the file itself.
        os.link(f"/proc/self/fd/{descriptor}", path.name, dst_dir_fd=directory, follow_symlinks=True)


def _link_or_rename(name: Path, path: Path) -> None:
    try:
        path.hardlink_to(name)
    except FileExistsError:
        raise
    except OSError:
        # No hard links here (FAT, some network file systems). Windows's rename never replaces; elsewhere this
        # leaves a moment between looking and renaming.
        if os.path.lexists(path):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(path)) from None
        name.rename(path)


def _sync_directory(path: Path) -> None:
    """Put the name on the disk too, where the system can: the content is there already."""
    if hasattr(os, "O_DIRECTORY"):
        with contextlib.suppress(OSError), _opened(path) as directory:
            os.fsync(directory)


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[int]:
    directory = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield directory
    finally:
        with contextlib.suppress(OSError):
            os.close(directory)


@contextlib.contextmanager
def _told(path: Path) -> Iterator[None]:
    """Say in words what the system says about the output."""
    try:
        yield
    except OSError as error:
        raise _refused(path, error) from error


def _refused(path: Path, error: OSError | ValueError) -> OutputRefused:
    number = error.errno if isinstance(error, OSError) else None
    where = show(str(path))
    if number == errno.EEXIST:
        return _there(path)
    if number in (errno.ENOSPC, errno.EDQUOT):
        return OutputRefused("the disk is full", where=where, hint="free some room or write to another disk")
    if number in (errno.ENOENT, errno.ENOTDIR):
        url = url_in(str(path))
        if url is not None:
            what = f"remote files are not supported yet: {url}"
            return OutputRefused(what, hint="write to this machine, then upload the file")
        return OutputRefused("there is no such directory", where=show(str(path.parent)), hint="make it first")
    reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
    return OutputRefused(
        f"the output cannot be written: {reason}", where=where, hint="write to another directory"
    )


def _there(path: Path) -> OutputRefused:
    return OutputRefused(
        "there is a file of that name already",
        where=show(str(path)),
        hint="give another name",
        remedies=(Remedy(option="overwrite"),),
    )


def publish(
    plan: Plan,
    opened: OpenedCheckpoint,
    target: str | os.PathLike[str],
    *,
    overwrite: bool,
    progress: Callable[[int, int], None] | None = None,
    check: Callable[[Checkpoint], None] | None = None,
) -> int:
    """Write a plan's output to `target` and return its size in bytes.

    The file is written without a name where the system knows such files, and under an unguessable one in the
    same directory elsewhere; its tensors are compared with the input, it is reopened and compared with the plan,
    `check` is called with what it says, and it is on the disk before it gets its name in one step. `progress` is
    called with the bytes done and the bytes in all.

    Raises UsageRefused when the target is the input, OutputRefused when it is there already and `overwrite`
    is False, or cannot be written; InputRefused when the input cannot be read or changes meanwhile;
    ValueError when the plan contradicts itself; and whatever `check` raises. Then nothing is left behind.
    """
    with publication(target, opened, overwrite=overwrite) as file:
        layout = lay_out(plan)
        tensors = [(place.offset, opened.extent(place.source).size) for place in layout.places]
        report = Meter(progress, sum(size for _, size in tensors))
        with FlushedAlong(file, layout.size):
            write(layout, opened, file, report)
            require_structure(file, layout.pieces, ((offset, offset + size) for offset, size in tensors))
            with _reopened(file) as written:
                verify(plan, written, layout.places)
                if check is not None:
                    check(written.checkpoint)
    return layout.size


@contextlib.contextmanager
def publication(
    target: str | os.PathLike[str], opened: OpenedCheckpoint, *, overwrite: bool
) -> Iterator[io.FileIO]:
    """Give an empty file that has no name; it gets its name in one step when the block ends without an error.

    Raises UsageRefused and OutputRefused as `publish` does, and whatever the block raises; then nothing is
    left behind.
    """
    path = Path(target)
    status = status_of(path)
    if status is not None and opened.source.is_same(status):
        raise UsageRefused(
            "the output is the input",
            where=show(str(path)),
            hint="give another name: the input is never written to",
        )
    with new_file(path, overwrite=overwrite) as file:
        yield file
        os.fsync(file.fileno())
        opened.source.require_unchanged()


class Meter:
    """Tells a callback of bytes done and bytes in all."""

    def __init__(self, callback: Callable[[int, int], None] | None, total: int) -> None:
        self._callback = callback
        self._total = total
        self._done = 0

    def __call__(self, count: int) -> None:
        """Count bytes that are written and compared."""
        self._done += count
        if self._callback is not None:
            self._callback(self._done, self._total)


@contextlib.contextmanager
def _reopened(file: io.FileIO) -> Iterator[OpenedCheckpoint]:
    """Read the draft back through the gate; what the gate refuses there is the output's fault."""
    source = Source(os.dup(file.fileno()), "the output", refusal=OutputRefused)
    try:
        try:
            written = read_source(source, compared=True)
        except InputRefused as error:
            raise OutputRefused(
                f"what was written cannot be read back: {error.what}",
                where=error.where,
                hint="nothing was published: this disk loses data, or h5remap has a bug, which please report",
            ) from error
        yield written
    finally:
        source.close()
