"""What a batch converts: the files that were named or found, and the output of each."""

from __future__ import annotations

import os
import re
import sqlite3
import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, NamedTuple

from remap.errors import InputRefused, UsageRefused
from remap.urls import base_name, join, masked, remote

if TYPE_CHECKING:
    from remap.batch.results import FormatName

__all__ = ["FOUND", "Files", "Selection", "Work", "output_name"]

FOUND = ("*.h5", "*.hdf5", "*.hdf")
"""The names that are looked for in directories, unless others are asked for."""
_KERAS_NAME = re.compile(r"(\.weights)?\.(h5|hdf5|hdf|keras)$", re.IGNORECASE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """Which files to take. A pattern with a slash is matched with the path below a directory, else with the name."""

    recursive: bool = False
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    found: tuple[str, ...] = FOUND

    def takes(self, relative: PurePath, *, found: bool) -> bool:
        """Tell whether to take a file, which was `found` in a directory or named."""
        wanted = self.include or (self.found if found else ())
        return (not wanted or _matches(relative, wanted)) and not _matches(relative, self.exclude)


class Work(NamedTuple):
    """A file to convert, its output, and its size in bytes, 0 if it cannot be found."""

    source: str
    target: str
    size: int


def output_name(name: str, form: FormatName) -> str:
    """Give the name of the output for the name of a checkpoint.

    >>> output_name("weights.0001-0.52.hdf5", "keras")
    'weights.0001-0.52.keras'
    """
    return f"{_KERAS_NAME.sub('', name)}.{form}"


class Files:
    """The files of a batch, checked against each other before the first is converted.

    They are kept in a temporary database on disk, for there may be more of them than is good to have in memory.
    """

    def __init__(self, directory: str | None, form: FormatName, selection: Selection) -> None:
        """Begin with no files.

        Args:
            directory: Where the outputs go: a path or URL; None if there are none.
            form: The format of the outputs.
            selection: Which files to take.
        """
        self._directory = directory
        self._form = form
        self._selection = selection
        self._table = sqlite3.connect("", check_same_thread=False)  # a private file that the system removes
        self._table.execute(
            "CREATE TABLE files (id INTEGER PRIMARY KEY, source BLOB, target BLOB, folded BLOB, size INTEGER, "
            "file TEXT)"
        )
        self.count = 0
        self.bytes = 0

    def close(self) -> None:
        """Forget the files."""
        self._table.close()

    __del__ = close  # a batch that is never begun has no other end

    def add(self, sources: Iterable[str | os.PathLike[str]] | os.PathLike[str]) -> None:
        """Add files, and the files below directories.

        Args:
            sources: Names of files and directories, or one of these.

        Raises:
            UsageRefused: A directory is among them and `recursive` was not asked for.
            InputRefused: A directory cannot be read.
        """
        if isinstance(sources, str | os.PathLike):
            sources = [sources]
        self._table.executemany(
            "INSERT INTO files (source, target, folded, size, file) VALUES (?, ?, ?, ?, ?)",
            self._rows(sources),
        )
        self.count, self.bytes = self._table.execute("SELECT count(*), total(size) FROM files").fetchone()
        self.bytes = int(self.bytes)

    def __iter__(self) -> Iterator[Work]:
        for source, target, size in self._table.execute("SELECT source, target, size FROM files ORDER BY id"):
            yield Work(os.fsdecode(source), self._output(target), size)

    def check(self) -> None:
        """Require that no two files have one output, and that no output is one of the files.

        Raises:
            UsageRefused: Two or an output are.
        """
        self._table.execute("CREATE INDEX folded ON files (folded)")
        self._table.execute("CREATE INDEX file ON files (file)")
        ignored = self._directory is not None and _ignores_case(self._directory)
        pairs = """
            SELECT a.source, b.source, b.target FROM files a JOIN files b ON a.folded = b.folded AND a.id < b.id
            WHERE a.folded IN (SELECT folded FROM files GROUP BY folded HAVING count(*) > 1)
            AND (? OR a.target = b.target) LIMIT 1
        """
        for one, other, target in self._table.execute(pairs, (ignored,)):
            raise UsageRefused(
                f"two inputs would get one output: {_shown(one)} and {_shown(other)}",
                where=masked(self._output(target)),
                hint="convert them to two directories, or leave one out; nothing was written",
            )
        if self._directory is None or (
            remote(self._directory) is None and not Path(self._directory).exists()
        ):
            return
        for work in self:
            key = _key(work.target)
            same = "SELECT source FROM files WHERE file = ? LIMIT 1"
            for (source,) in self._table.execute(same, (key,)) if key else ():
                raise UsageRefused(
                    f"an output is one of the inputs: {_shown(source)}",
                    where=masked(work.target),
                    hint="give another directory; nothing was written",
                )

    def _output(self, target: bytes) -> str:
        if self._directory is None:
            return ""
        if remote(self._directory) is not None:
            return join(self._directory, os.fsdecode(target))
        return os.path.join(self._directory, os.fsdecode(target))  # noqa: PTH118 - made once a file

    def _rows(
        self, sources: Iterable[str | os.PathLike[str]]
    ) -> Iterator[tuple[bytes, bytes, bytes, int, str | None]]:
        for source in sources:
            url = remote(source)
            if url is not None:
                yield from self._remote_rows(url)
                continue
            path = Path(source)
            if not path.is_dir():
                if self._selection.takes(PurePath(path.name), found=False):
                    yield self._row(path, PurePath(path.name))
            elif self._selection.recursive:
                for relative in _found(path, self._directory):
                    if self._selection.takes(relative, found=True):
                        yield self._row(path / relative, relative)
            else:
                raise _is_directory(str(path))

    def _remote_rows(self, url: str) -> Iterator[tuple[bytes, bytes, bytes, int, str | None]]:
        from remap.remote.listing import entry_of, files_below

        entry = None if url.endswith("/") else entry_of(url)
        if not url.endswith("/") and not (entry is not None and entry.directory):
            relative = PurePath(base_name(url))
            if self._selection.takes(relative, found=False):
                yield self._placed(url, relative, 0 if entry is None else entry.size, url)
            return
        if not self._selection.recursive:
            raise _is_directory(masked(url))
        outputs = "\0" if self._directory is None else join(self._directory, "")
        for name, place, size in files_below(url):
            if self._selection.takes(PurePath(name), found=True) and not place.startswith(outputs):
                yield self._placed(place, PurePath(name), size, place)

    def _row(self, source: Path, relative: PurePath) -> tuple[bytes, bytes, bytes, int, str | None]:
        try:
            status = source.stat()
        except (OSError, ValueError):  # met again, and put into words, when it is its turn
            size, key = 0, None
        else:
            size, key = status.st_size, _status_key(status)
        return self._placed(source, relative, size, key)

    def _placed(
        self, source: str | Path, relative: PurePath, size: int, key: str | None
    ) -> tuple[bytes, bytes, bytes, int, str | None]:
        """Give the row of a file that is at a place below a directory."""
        target = relative.with_name(output_name(relative.name, self._form)).as_posix()
        folded = unicodedata.normalize("NFC", unicodedata.normalize("NFC", target).casefold())
        return os.fsencode(source), os.fsencode(target), folded.encode(errors="surrogatepass"), size, key


def _is_directory(where: str) -> UsageRefused:
    return UsageRefused(
        "an input is a directory",
        where=where,
        hint="say that directories are to be searched (recursive), or name files",
    )


def _shown(source: bytes) -> str:
    return masked(os.fsdecode(source))


def _found(top: Path, but: str | None) -> Iterator[PurePath]:
    """Name the files below a directory, in order; links to directories are not followed.

    A link to nothing is named, too, for it to be refused; pipes and devices are not.
    """
    for directory, inner, names in os.walk(top, onerror=_refuse):
        inner[:] = sorted(
            name for name in inner if but is None or not _is_same(Path(directory, name), Path(but))
        )
        for name in sorted(names):
            path = Path(directory, name)
            if path.is_file() or not path.exists():
                yield path.relative_to(top)


def _refuse(error: OSError) -> None:
    raise InputRefused(
        f"a directory cannot be read: {error.strerror}",
        where=os.fsdecode(error.filename or ""),
        hint="nothing was written",
    )


def _is_same(one: Path, other: Path) -> bool:
    try:
        return one.samefile(other)
    except (OSError, ValueError):
        return False


def _matches(relative: PurePath, patterns: Iterable[str]) -> bool:
    path = relative.as_posix()
    return any(fnmatchcase(path if "/" in pattern else relative.name, pattern) for pattern in patterns)


def _key(path: str) -> str | None:
    if remote(path) is not None:
        return path
    try:
        return _status_key(os.stat(path))  # noqa: PTH116 - called for every file
    except (OSError, ValueError):
        return None


def _status_key(status: os.stat_result) -> str:
    return f"{status.st_dev}:{status.st_ino}"


def _ignores_case(name: str) -> bool:
    """Tell whether names that differ in case are one name there, by another spelling of a name that exists."""
    if remote(name) is not None:
        return False
    directory = Path(name)
    for path in (directory.absolute(), *directory.absolute().parents):
        spelled = path.with_name(path.name.swapcase()) if path.name else path
        if spelled.name != path.name and path.exists():
            return _is_same(path, spelled)
    return os.name == "nt"
