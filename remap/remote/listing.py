"""What is at a URL and below it, for work on many files."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from remap.errors import InputRefused, OutputRefused, UsageRefused
from remap.remote.store import Store, identity_in
from remap.urls import WRITABLE, join, masked, scheme_of

__all__ = ["Entry", "entry_of", "exists", "files_below", "identity_of", "make_directory", "require_writable"]


class Entry(NamedTuple):
    """What a store knows of a URL: whether it is a directory, its size in bytes, and its version, "" if it has none."""

    directory: bool
    size: int
    version: str


def entry_of(url: str) -> Entry | None:
    """Ask what is at a URL.

    Args:
        url: The URL.

    Returns:
        The answer, None if there is nothing.

    Raises:
        RemapError: The server does not answer.
    """
    info = Store(url, InputRefused).found()
    if info is None:
        return None
    return Entry(info.get("type") == "directory", int(info.get("size") or 0), identity_in(info))


def identity_of(url: str) -> tuple[int, str] | None:
    """Identify a file: its size and version; None if there is none, or nothing would tell of a change.

    Args:
        url: The URL.

    Returns:
        The identity.

    Raises:
        RemapError: The server does not answer.
    """
    entry = entry_of(url)
    return (entry.size, entry.version) if entry is not None and entry.version else None


def exists(url: str) -> bool:
    """Tell whether there is a file at a URL where an output is to be.

    Args:
        url: The URL.

    Raises:
        OutputRefused: The server does not answer.
    """
    return Store(url, OutputRefused).exists()


def files_below(url: str) -> Iterator[tuple[str, str, int]]:
    """List the files below a directory, in order.

    Args:
        url: The URL of the directory.

    Yields:
        The path of each below the directory, its URL, and its size in bytes.

    Raises:
        UsageRefused: Directories of servers of the web cannot be listed.
        InputRefused: The directory cannot be listed.
    """
    if scheme_of(url) in ("http", "https"):
        raise UsageRefused(
            "directories of the web cannot be listed", where=masked(url), hint="give the URLs of the files"
        )
    store = Store(url, InputRefused)
    top = store.path.rstrip("/") + "/"
    found = store.asked(lambda: store.files.find(store.path, detail=True))
    for path in sorted(found):
        relative = path.removeprefix(top) if path.startswith(top) else path.removeprefix(top.lstrip("/"))
        if relative and not relative.endswith("/"):
            yield relative, join(url, relative), int(found[path].get("size") or 0)


def require_writable(url: str) -> None:
    """Refuse a URL that nothing can be written to.

    Args:
        url: The URL of an output.

    Raises:
        UsageRefused: It is one of the web.
    """
    if scheme_of(url) not in WRITABLE:
        raise UsageRefused(
            "files cannot be written to URLs of the web",
            where=masked(url),
            hint="write to a store or to this machine",
        )


def make_directory(url: str) -> None:
    """Make a directory where a store has such things: on SFTP servers; the others only have files.

    Args:
        url: The URL of the directory.

    Raises:
        UsageRefused: Nothing can be written to URLs of this scheme.
        OutputRefused: It cannot be made.
    """
    require_writable(url)
    if scheme_of(url) in ("sftp", "ssh"):
        store = Store(url, OutputRefused)
        store.asked(lambda: store.files.makedirs(store.path, exist_ok=True))
