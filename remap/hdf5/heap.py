"""What stands between libhdf5 and the variable-length strings of an attribute.

libhdf5 reads such an attribute only as a whole, and its strings may all point at the same megabyte: a small file then
takes all memory. Damaged heaps, where the strings lie, make it loop for ever with the interpreter locked. So the
structures on the way to them are checked here, completely, before libhdf5 reads the attribute: object header,
attribute message, global heap (sections IV.A, IV.A.2.m and III.E of the HDF5 File Format Specification, version 3.0).
"""

from __future__ import annotations

from struct import Struct
from typing import TYPE_CHECKING

from remap.hdf5.headers import ATTRIBUTE, ATTRIBUTE_INFO, SHARED, Header, Message, read_bytes, read_header
from remap.hdf5.refused import Refused

if TYPE_CHECKING:
    from remap.hdf5.headers import Superblock
    from remap.hdf5.source import Source

__all__ = ["Strings"]

_GROUP = frozenset({0x00, 0x02, 0x06, 0x0A, ATTRIBUTE, 0x0D, 0x0E, 0x10, 0x11, 0x12, ATTRIBUTE_INFO, 0x16})
"""Kinds of messages that the header of a group may have, the old and the new form of group together."""
_HEAP = 16 << 20
"""Bytes a heap may have; libhdf5 makes them as large as the largest string in them."""
_SMALLEST_HEAP = 4096
_NO_ADDRESS = b"\xff" * 8
_ORDERED = 0x01

_ATTRIBUTE_HEAD = Struct("<BBHHH")
_REFERENCE = Struct("<IQI")
_HEAP_HEAD = Struct("<4sB3xQ")
_HEAP_OBJECT = Struct("<HHxxxxQ")


class Strings:
    """The variable-length strings of one file.

    The heaps that are read have no more bytes together than the file: heaps that overlap are refused.
    """

    def __init__(self, source: Source, superblock: Superblock) -> None:
        self._source = source
        self._superblock = superblock
        self._heaps: dict[int, dict[int, tuple[int, int]]] = {}
        self._read = 0

    def check(self, address: int, attribute: bytes, count: int, limit: int) -> list[bytes]:
        """Check an attribute of `count` strings of the group whose header begins at `address`; give the strings.

        Raises Refused when they have more than `limit` bytes together or something on the way to them is
        not as the format says, and InputRefused when the file cannot be read.
        """
        if not self._superblock.plain:
            raise Refused("the file is built as Keras's never are (sizes of addresses, superblock extension)")
        data = _only(read_header(self._source, address, self._superblock.end), attribute)
        # Attributes of the old form are filled up to a multiple of eight bytes.
        if not 0 <= len(data) - count * _REFERENCE.size < 8:
            raise Refused("the attribute is not as long as its shape says")
        references = [_REFERENCE.unpack_from(data, index * _REFERENCE.size) for index in range(count)]
        total = sum(length for length, _, _ in references)
        if total > limit:
            raise Refused(f"its strings claim {total:,} bytes, and {limit:,} are the most that is read")
        return [self._string(*reference) for reference in references]

    def _string(self, length: int, heap: int, index: int) -> bytes:
        if length == heap == 0:
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
        if signature != b"GCOL" or version != 1 or not _SMALLEST_HEAP <= size <= _HEAP:
            raise Refused("there is no heap where its strings should be")
        data = self._take(heap, size)
        self._read += size
        if self._read > self._superblock.end:
            raise Refused("the heaps of its strings have more bytes together than the file")
        found: dict[int, tuple[int, int]] = {}
        place = _HEAP_HEAD.size
        while place + _HEAP_OBJECT.size <= size:
            index, _, length = _HEAP_OBJECT.unpack_from(data, place)
            start = place + _HEAP_OBJECT.size
            if index == 0:  # the room that is left, its own head included
                if length != size - place:
                    raise Refused("the heap of its strings contradicts itself")
                break
            place = start + -(-length // 8) * 8
            if place > size or index in found:
                raise Refused("the heap of its strings contradicts itself")
            found[index] = heap + start, length
        return found

    def _take(self, offset: int, size: int) -> bytes:
        return read_bytes(self._source, offset, size, self._superblock.end)


def _only(header: Header, name: bytes) -> bytes:
    """Give the data of an attribute that a group's header holds once, and holds itself."""
    found: dict[bytes, bytes] = {}
    for message in header.messages:
        if message.kind not in _GROUP or message.flags & SHARED:
            raise Refused("its group's header has messages that Keras's files never have")
        if message.kind == ATTRIBUTE_INFO and (not header.new or _is_dense(message.content)):
            raise Refused("its group's attributes are stored as Keras's never are (densely)")
        if message.kind == ATTRIBUTE:
            other, data = _attribute(message)
            if other in found:
                raise Refused("its group has two attributes of one name")
            found[other] = data
    if name not in found:
        raise Refused("it is not where its group keeps its attributes")
    return found[name]


def _is_dense(content: bytes) -> bool:
    """Tell whether an Attribute Info message (section IV.A.2.v) says that attributes lie in a heap of their own."""
    if len(content) < 2 or content[0] != 0:
        return True
    start = 2 + (2 if content[1] & _ORDERED else 0)
    return content[start : start + len(_NO_ADDRESS)] != _NO_ADDRESS


def _attribute(message: Message) -> tuple[bytes, bytes]:
    """Give the name in an attribute message and what follows its type and shape."""
    content = message.content
    if len(content) < _ATTRIBUTE_HEAD.size:
        raise Refused("its group has an attribute without content")
    version, flags, *sizes = _ATTRIBUTE_HEAD.unpack_from(content)
    if version not in (1, 2, 3) or (version > 1 and flags):
        raise Refused("its group has an attribute of a form that Keras's files never have")
    start = _ATTRIBUTE_HEAD.size + (version == 3)  # the third form says how the name is encoded
    name = content[start : start + sizes[0]]
    if not name or name.find(b"\0") != sizes[0] - 1:
        raise Refused("its group has an attribute whose name does not end where it should")
    if version == 1:
        sizes = [-(-size // 8) * 8 for size in sizes]
    if start + sum(sizes) > len(content):
        raise Refused("its group has an attribute without content")
    return name[:-1], content[start + sum(sizes) :]
