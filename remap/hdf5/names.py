"""Names as paths inside a file."""

from __future__ import annotations

__all__ = ["DEPTH", "path_parts"]

DEPTH = 64
"""Parts a path may have; the deepest that real models reach is about ten."""


def path_parts(name: str) -> tuple[bytes, ...]:
    """Split a name at its slashes into path parts, each of which can only mean itself.

    HDF5 drops empty parts and takes ``.`` for the group itself, ``..`` misleads people, and characters that
    cannot be printed do harm where they are. Raises ValueError for a name with such a part or with more than
    DEPTH parts.
    """
    parts = name.split("/")
    if len(parts) > DEPTH:
        raise ValueError(f"it has more than {DEPTH} parts")
    for part in parts:
        if part in ("", ".", "..") or not part.isprintable():
            raise ValueError("it does not name one place in the file")
    return tuple(part.encode() for part in parts)
