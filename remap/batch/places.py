"""Places of inputs and outputs of a batch, which are paths or URLs."""

from __future__ import annotations

import filecmp
import os
from dataclasses import dataclass
from pathlib import Path

from remap.errors import OutputRefused
from remap.urls import masked, parent, remote

__all__ = ["Identity", "absolute", "exists", "identity_of", "make_directory", "make_parent", "same_bytes"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """What tells whether a file is still the same: size in bytes, times of change of content and of status in ns.

    The second time cannot be set by programs, as copying tools set the first. Of a URL it is the size and the version
    that the store gives.
    """

    size: int
    mtime_ns: int = 0
    ctime_ns: int = 0
    version: str = ""


def absolute(place: str | os.PathLike[str]) -> str:
    """Give a path that holds in any working directory; a URL as it is."""
    return remote(place) or os.path.abspath(os.fspath(place))  # noqa: PTH100 - links are not to be resolved


def exists(place: str) -> bool:
    """Tell whether there is something, be it a link to nothing.

    Raises:
        OutputRefused: A server does not answer.
    """
    if remote(place) is None:
        return os.path.lexists(place)
    from remap.remote import listing

    return listing.exists(place)


def identity_of(place: str) -> Identity | None:
    """Identify a file as it is now; None where there is none, or nothing would tell of a change.

    Raises:
        RemapError: A server does not answer.
    """
    if remote(place) is not None:
        from remap.remote import listing

        found = listing.identity_of(place)
        return None if found is None else Identity(size=found[0], version=found[1])
    try:
        status = os.stat(place)  # noqa: PTH116 - called once or more a file, and a Path costs as much again
    except (OSError, ValueError):
        return None
    return Identity(size=status.st_size, mtime_ns=status.st_mtime_ns, ctime_ns=status.st_ctime_ns)


def make_directory(place: str) -> None:
    """Make a directory and those above it, where they are missing.

    Raises:
        OutputRefused: It cannot be made.
    """
    if remote(place) is not None:
        from remap.remote import listing

        listing.make_directory(place)
        return
    try:
        Path(place).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputRefused(f"the directory cannot be made: {error.strerror}", where=place) from None


def make_parent(place: str) -> None:
    """Make the directory of an output as `make_directory` does."""
    make_directory(str(Path(place).parent) if remote(place) is None else parent(place))


def same_bytes(path: str, place: str) -> bool:
    """Compare a file of this machine with an output that is there.

    Raises:
        OutputRefused: It cannot be read.
    """
    if remote(place) is None:
        return filecmp.cmp(path, place, shallow=False)
    from remap.remote.writing import holds

    try:
        with open(path, "rb", buffering=0) as file:  # noqa: PTH123 - no other call says so plainly that it is raw
            return holds(place, file)
    except OSError as error:
        raise OutputRefused(
            f"a temporary file cannot be read: {error.strerror}", where=masked(path)
        ) from None
