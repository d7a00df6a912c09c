"""Variable-length strings of an attribute, read without libhdf5.

libhdf5 reads such an attribute only as a whole, and its strings may all point at the same megabyte: a small
file then takes all memory. Damaged heaps, where the strings lie, make it loop for ever with the interpreter
locked. So the few structures on the way to them are followed here, every length checked before anything is
read: object header, attribute message, global heap (sections IV.A, IV.A.2.m and III.E of the HDF5 File Format
Specification, version 3.0).
"""

from __future__ import annotations

from struct import Struct
from typing import TYPE_CHECKING

from remap.hdf5.header import PREFIX, Piece, first_piece
from remap.hdf5.refused import Refused

if TYPE_CHECKING:
    from collections.abc import Iterator

    from remap.hdf5.source import Source

__all__ = ["Strings"]

_ATTRIBUTE, _CONTINUATION = 0x0C, 0x10
_SHARED = 0x02
_CHUNKS = 256
"""Pieces an object header may have; libhdf5 makes one for every few attributes."""
_HEADER = 1 << 20
"""Bytes a piece of an object header may have: sixteen times what one message can."""
_HEAP = 16 << 20
"""Bytes a heap may have; libhdf5 makes them as large as the largest string in them."""

_MESSAGE_1 = Struct("<HHB3x")
_MESSAGE_2 = Struct("<BHB")
_RANGE = Struct("<QQ")
_ATTRIBUTE_HEAD = Struct("<BBHHH")
_REFERENCE = Struct("<IQI")
_HEAP_HEAD = Struct("<4sB3xQ")
_HEAP_OBJECT = Struct("<HHxxxxQ")


class Strings:
    """The variable-length strings of one file."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._heaps: dict[int, dict[int, tuple[int, int]]] = {}

    def read(self, header: int, attribute: bytes, count: int, limit: int) -> list[bytes]:
        """Read the `count` strings of an attribute of the object whose header begins at byte `header`.

        Raises Refused when they have more than `limit` bytes together or something on the way to them is
        not as the format says, and InputRefused when the file ends before.
        """
        data = self._attribute(header, attribute)
        if len(data) < count * _REFERENCE.size:
            raise Refused("the attribute is shorter than its shape says")
        references = [_REFERENCE.unpack_from(data, index * _REFERENCE.size) for index in range(count)]
        total = sum(length for length, _, _ in references)
        if total > limit:
            raise Refused(f"its strings claim {total:,} bytes, and {limit:,} are the most that is read")
        return [self._string(*reference) for reference in references]

    def _string(self, length: int, heap: int, index: int) -> bytes:
        if length == 0:
            return b""
        if heap not in self._heaps:
            self._heaps[heap] = self._index(heap)
        offset, size = self._heaps[heap].get(index, (0, -1))
        if size != length:
            raise Refused(f"a string of {length:,} bytes is not where it should be")
        return self._take(offset, length)

    def _index(self, heap: int) -> dict[int, tuple[int, int]]:
        """List the strings of a heap: offset in the file and size by number."""
        signature, version, size = _HEAP_HEAD.unpack(self._take(heap, _HEAP_HEAD.size))
        if signature != b"GCOL" or version != 1 or size > _HEAP:
            raise Refused("there is no heap where its strings should be")
        data = self._take(heap, size)
        found: dict[int, tuple[int, int]] = {}
        place = _HEAP_HEAD.size
        while place + _HEAP_OBJECT.size <= size:
            index, _, length = _HEAP_OBJECT.unpack_from(data, place)
            start = place + _HEAP_OBJECT.size
            if index == 0:  # the room that is left
                break
            if start + length > size or index in found:
                raise Refused("the heap of its strings contradicts itself")
            found[index] = heap + start, length
            place = start + -(-length // 8) * 8
        return found

    def _attribute(self, header: int, name: bytes) -> bytes:
        """Find an attribute's data among the messages of an object header."""
        for kind, flags, message in self._messages(header):
            if kind == _ATTRIBUTE and not flags & _SHARED:
                found = _attribute_data(message)
                if found[0] == name:
                    return found[1]
        raise Refused("it is stored in a way that Keras's files never are (dense or shared attributes)")

    def _messages(self, header: int) -> Iterator[tuple[int, int, bytes]]:
        """Give the messages of an object header: type, flags, content."""
        first = first_piece(self._take(header, min(PREFIX, max(16, self._source.size - header))))
        if first is None:
            raise Refused("its group has no header that the format knows")
        chunks = [(header + first.begin, first.size)]
        for number, (start, size) in enumerate(chunks):  # grows while it is walked
            if number == _CHUNKS or size > _HEADER:
                raise Refused("its group's header is larger than any that Keras makes")
            for kind, flags, message in _split(self._take(start, size), first):
                if kind != _CONTINUATION:
                    yield kind, flags, message
                elif len(message) >= _RANGE.size:
                    chunks.append(_continuation(*_RANGE.unpack_from(message), new=first.new))

    def _take(self, offset: int, size: int) -> bytes:
        if offset + size > self._source.size:
            raise Refused("it points past the end of the file")
        data = bytearray(size)
        self._source.read_into(memoryview(data), offset)
        return bytes(data)


def _continuation(offset: int, size: int, *, new: bool) -> tuple[int, int]:
    """Give where the next piece has its messages: new ones stand between signature and checksum."""
    return (offset + 4, max(0, size - 8)) if new else (offset, size)


def _split(data: bytes, header: Piece) -> Iterator[tuple[int, int, bytes]]:
    """Split a piece of an object header into messages."""
    place = 0
    form = _MESSAGE_2 if header.new else _MESSAGE_1
    head = form.size + (2 if header.ordered else 0)
    while place + head <= len(data):
        kind, size, flags = form.unpack_from(data, place)
        place += head
        yield kind, flags, data[place : place + size]
        place += size


def _attribute_data(message: bytes) -> tuple[bytes, bytes]:
    """Give the name in an attribute message and what follows its type and shape."""
    if len(message) < _ATTRIBUTE_HEAD.size:
        raise Refused("its group has an attribute without content")
    version, _, *sizes = _ATTRIBUTE_HEAD.unpack_from(message)
    start = _ATTRIBUTE_HEAD.size + (version == 3)  # the third form says how the name is encoded
    name = message[start : start + sizes[0]].split(b"\0")[0]
    if version == 1:
        sizes = [-(-size // 8) * 8 for size in sizes]
    return name, message[start + sum(sizes) :]
