"""Names as paths inside a file."""

from __future__ import annotations

from remap.hdf5.identify import show
from remap.hdf5.refused import Refused

__all__ = ["path_parts"]

_DEPTH = 64
"""Parts a name may have; the deepest that real models reach is about ten."""
_ODD = frozenset({"", ".", ".."})


def path_parts(name: str) -> tuple[bytes, ...]:
    """Split a name at its slashes into path parts, each of which can only mean itself.

    HDF5 drops empty parts and takes ``.`` for the group itself, ``..`` misleads people, and characters that
    cannot be printed do harm where they are. Raises Refused for a name with such a part, or with more parts
    than any model's.
    """
    parts = name.split("/")
    if not name.isprintable() or not _ODD.isdisjoint(parts) or len(parts) > _DEPTH:
        raise Refused(f"the name {show(name)[:200]!r} does not lead to one place in a file")
    return tuple(name.encode().split(b"/"))
