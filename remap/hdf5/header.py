"""Object headers as bytes: where their first piece lies (section IV.A.1 of the HDF5 File Format Specification, 3.0)."""

from __future__ import annotations

from struct import Struct
from typing import NamedTuple

__all__ = ["PREFIX", "Piece", "first_piece"]

PREFIX = 34
"""Bytes that stand before the messages of a header at most."""

_OLD = Struct("<BxHII4x")
_TIMES, _PHASES, _ORDER, _WIDTH = 0x20, 0x10, 0x04, 0x03


class Piece(NamedTuple):
    """The messages at the beginning of a header: `size` bytes from byte `begin` of it on.

    `new` is the form of header that has checksums; `ordered` that its messages bear the order of their creation.
    """

    begin: int
    size: int
    new: bool
    ordered: bool


def first_piece(head: bytes | bytearray) -> Piece | None:
    """Find the first piece of a header that begins with these bytes, PREFIX of them if the file has as many.

    None when no header that the format knows begins so.
    """
    if head[:4] == b"OHDR" and len(head) > 5:
        flags = head[5]
        begin = 6 + (16 if flags & _TIMES else 0) + (4 if flags & _PHASES else 0)
        width = 1 << (flags & _WIDTH)
        size = int.from_bytes(head[begin : begin + width], "little")
        return Piece(begin + width, size, new=True, ordered=bool(flags & _ORDER))
    if head[:1] == b"\1" and len(head) >= _OLD.size:
        return Piece(_OLD.size, _OLD.unpack_from(head)[3], new=False, ordered=False)
    return None
