"""Structures of HDF5 metadata as bytes: found, changed and given their right checksums again."""

from __future__ import annotations

import struct
from contextlib import suppress
from typing import TYPE_CHECKING

from remap.hdf5.object_headers import read_header
from remap.hdf5.source import Refused, Source

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from remap.hdf5.object_headers import Header

__all__ = ["edit", "headers", "lookup3", "signed", "structures"]

_WORD = 0xFFFFFFFF
_SIGNATURES = (
    b"OHDR",
    b"OCHK",
    b"BTHD",
    b"BTLF",
    b"BTIN",
    b"FRHP",
    b"FHDB",
    b"FHIB",
    b"SMTB",
    b"SMLI",
    b"FSHD",
)
_LONGEST = 600


def lookup3(data: bytes) -> int:
    """Give the checksum of HDF5's newer metadata: `hashlittle` of Bob Jenkins's lookup3, begun at zero."""
    a: int
    b: int
    c: int
    a = b = c = (0xDEADBEEF + len(data)) & _WORD
    full = max(0, (len(data) - 1) // 12) * 12
    for x, y, z in struct.iter_unpack("<III", data[:full]):
        a, b, c = (a + x) & _WORD, (b + y) & _WORD, (c + z) & _WORD
        a = ((a - c) & _WORD) ^ _turn(c, 4)
        c = (c + b) & _WORD
        b = ((b - a) & _WORD) ^ _turn(a, 6)
        a = (a + c) & _WORD
        c = ((c - b) & _WORD) ^ _turn(b, 8)
        b = (b + a) & _WORD
        a = ((a - c) & _WORD) ^ _turn(c, 16)
        c = (c + b) & _WORD
        b = ((b - a) & _WORD) ^ _turn(a, 19)
        a = (a + c) & _WORD
        c = ((c - b) & _WORD) ^ _turn(b, 4)
        b = (b + a) & _WORD
    if not data:
        return c
    x, y, z = struct.unpack("<III", data[full:].ljust(12, b"\0"))
    a, b, c = (a + x) & _WORD, (b + y) & _WORD, (c + z) & _WORD
    for turn in (14, 11, 25, 16, 4, 14, 24):
        c = ((c ^ b) - _turn(b, turn)) & _WORD
        a, b, c = b, c, a  # the next to be mixed is c, the one that was just mixed is b
    return b


def _turn(word: int, by: int) -> int:
    return ((word << by) | (word >> (32 - by))) & _WORD


def signed(data: bytes | bytearray, start: int) -> int | None:
    """Say where a structure that begins at `start` ends with its right checksum; None when it does not nearby."""
    for end in range(start + 12, min(len(data), start + _LONGEST) + 1):
        if lookup3(bytes(data[start : end - 4])) == int.from_bytes(data[end - 4 : end], "little"):
            return end
    return None


def edit(data: bytearray, start: int, end: int, change: Callable[[], None]) -> None:
    """Change a structure, and give it the right checksum if it had one at its end before."""
    had = lookup3(bytes(data[start : end - 4])) == int.from_bytes(data[end - 4 : end], "little")
    change()
    if had:
        struct.pack_into("<I", data, end - 4, lookup3(bytes(data[start : end - 4])))


def structures(data: bytes | bytearray) -> list[int]:
    """List where structures with a signature begin."""
    found = []
    for signature in _SIGNATURES:
        at = data.find(signature)
        while at >= 0:
            found.append(at)
            at = data.find(signature, at + 1)
    return found


def headers(path: Path, addresses: list[int]) -> dict[int, Header]:
    """Read the object headers at these addresses, as far as they have a form that is known."""
    source = Source.open(path)
    found = {}
    try:
        for address in addresses:
            with suppress(Refused):
                found[address] = read_header(source, address, source.size)
    finally:
        source.close()
    return found
