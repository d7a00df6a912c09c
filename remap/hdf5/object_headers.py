"""Superblocks, object headers and global heaps as bytes: checks before libhdf5 reads them, and a cache of headers.

Nothing here decides what a file says: libhdf5 does. The structures are parsed by the HDF5 File Format Specification
3.0 (sections II.A, III.E and IV.A), and every form that it does not define, or that files of Keras never need, is refused.
"""

from __future__ import annotations

from struct import Struct
from typing import TYPE_CHECKING, NamedTuple

from remap.hdf5.identify import SIGNATURE
from remap.hdf5.source import Refused
from remap.hdf5.tensors import Extent, Tensor

if TYPE_CHECKING:
    from collections.abc import Iterator

    from remap.hdf5.source import Source

__all__ = [
    "ATTRIBUTE",
    "ATTRIBUTE_INFO",
    "SHARED",
    "Header",
    "HeaderCache",
    "Message",
    "Strings",
    "Superblock",
    "read_bytes",
    "read_header",
    "read_superblock",
]

_NIL, _DATASPACE, _DATATYPE, _OLD_FILL, _FILL, _LAYOUT = 0x00, 0x01, 0x03, 0x04, 0x05, 0x08
_MODIFIED, _CONTINUATION = 0x12, 0x10
ATTRIBUTE, ATTRIBUTE_INFO = 0x0C, 0x15
"""Kinds of messages."""
SHARED = 0x02
"""The flag of a message whose content lies elsewhere."""

_PLAIN_DATASET = frozenset({_NIL, _DATASPACE, _DATATYPE, _OLD_FILL, _FILL, _LAYOUT, _MODIFIED})
_OLD_PREFIX = Struct("<BxHII4x")
_OLD_MESSAGE = Struct("<HHB3x")
_NEW_MESSAGE = Struct("<BHB")
_RANGE = Struct("<QQ")
_NEW_PREFIX = 34
_TIMES, _PHASES, _ORDER, _WIDTH, _UNDEFINED_FLAGS = 0x20, 0x10, 0x04, 0x03, 0xC0
_BLOCK, _CHECKSUM = b"OCHK", 4
_PIECES = 256
"""Pieces an object header may have; libhdf5 makes one for every few attributes."""
_PIECE = 1 << 20
"""Bytes a piece of an object header may have: sixteen times what one message can."""
_CONTIGUOUS = b"\3\1"
"""How a layout message of version 3 begins whose tensor lies in one piece; address and size follow."""
_ADDRESS = 8
_ZERO_ADDRESS = bytes(_ADDRESS)
_LONGEST = 1 << 12
_FORMS = 8
"""Lengths of header, and places of the address in it, that are kept; real files have one or two."""


class Superblock(NamedTuple):
    """The end of the HDF5 data in a file, and whether the superblock has the form that files of Keras have.

    `plain` means addresses and lengths of 8 bytes, and nothing that changes how the rest of the file is read: no
    superblock extension (which may hold an image of the metadata cache), no driver information block.
    """

    end: int
    plain: bool


class Message(NamedTuple):
    """A message of an object header; `offset` is the byte of the file at which its content begins."""

    kind: int
    flags: int
    offset: int
    content: bytes


class Header(NamedTuple):
    """An object header of the old form or the `new` one, which has checksums.

    `size` is the number of bytes from its beginning to the end of the last message in its first piece.
    """

    new: bool
    pieces: int
    size: int
    messages: tuple[Message, ...]


def read_superblock(source: Source) -> Superblock:
    """Read the superblock at the beginning of a file (section II.A).

    Raises Refused for a version that the format does not know, and for a file that was cut out of another.
    """
    head = read_bytes(source, 0, min(source.size, 200), source.size)
    version = head[len(SIGNATURE)] if len(head) > len(SIGNATURE) else 255
    if version > 3:
        raise Refused("its superblock has a version that the format does not define")
    new = version >= 2
    start, at = (12, 9) if new else (24 if version == 0 else 28, 13)
    size, length = head[at : at + 2].ljust(2, b"\0")
    if size not in (2, 4, 8, 16, 32) or len(head) < start + 4 * size:
        raise Refused("its superblock is damaged")
    fields = [head[start + size * number : start + size * (number + 1)] for number in range(4)]
    base, end = int.from_bytes(fields[0], "little"), int.from_bytes(fields[2], "little")
    if base:
        raise Refused("its base address is not zero: it was cut out of a larger file")
    other = fields[1] if new else fields[3]
    plain = size == length == _ADDRESS and other == b"\xff" * size
    return Superblock(min(end, source.size), plain)


def read_header(
    source: Source, address: int, end: int, *, pieces: int = _PIECES, size: int = _PIECE
) -> Header:
    """Read all messages of the object header at `address` (section IV.A.1), all of which must lie before `end`.

    Raises Refused for a header that the format does not allow, that has more than `pieces` pieces, of which one has
    more than `size` bytes, or all have more bytes together than the file. Checksums are left to libhdf5.
    """
    limits = _Limits(pieces, size, end)
    head = read_bytes(source, address, min(_NEW_PREFIX, max(0, end - address)), end)
    if head[:4] == b"OHDR" and len(head) > 5:
        return _new_header(source, address, limits, head)
    if head[:1] == b"\1" and len(head) >= _OLD_PREFIX.size:
        return _old_header(source, address, limits, head)
    raise Refused("an object header has a version that the format does not define")


def read_bytes(source: Source, offset: int, size: int, end: int) -> bytes:
    """Read bytes that must lie before `end`; raises Refused where they do not."""
    if offset + size > end:
        raise Refused("it points past the end of the file")
    data = bytearray(size)
    source.read_into(memoryview(data), offset)
    return bytes(data)


class _Limits(NamedTuple):
    """What a header may have: so many pieces, bytes in each, and bytes in all, which lie before `end`."""

    pieces: int
    size: int
    end: int


def _old_header(source: Source, address: int, limits: _Limits, head: bytes) -> Header:
    _, count, _, size = _OLD_PREFIX.unpack_from(head)
    pieces = [(address + _OLD_PREFIX.size, size)]
    messages: list[Message] = []
    for start, length in _each_piece(pieces, limits):
        for message in _old_messages(read_bytes(source, start, length, limits.end), start):
            messages.append(message)
            if message.kind == _CONTINUATION:
                pieces.append(_continuation(message))
    if len(messages) != count:
        raise Refused("an object header does not have as many messages as it says")
    return Header(new=False, pieces=len(pieces), size=_OLD_PREFIX.size + size, messages=tuple(messages))


def _new_header(source: Source, address: int, limits: _Limits, head: bytes) -> Header:
    version, flags = head[4], head[5]
    begin = 6 + (16 if flags & _TIMES else 0) + (4 if flags & _PHASES else 0)
    width = 1 << (flags & _WIDTH)
    if version != 2 or flags & _UNDEFINED_FLAGS or len(head) < begin + width:
        raise Refused("an object header has a version that the format does not define")
    size = int.from_bytes(head[begin : begin + width], "little")
    begin += width
    pieces = [(address + begin, size)]
    messages: list[Message] = []
    for start, length in _each_piece(pieces, limits):
        data = read_bytes(source, start, length + _CHECKSUM, limits.end)[:length]
        for message in _new_messages(data, start, ordered=bool(flags & _ORDER)):
            messages.append(message)
            if message.kind == _CONTINUATION:
                block, length = _continuation(message)
                if length < len(_BLOCK) + _CHECKSUM or read_bytes(source, block, 4, limits.end) != _BLOCK:
                    raise Refused("an object header continues at a place that does not belong to it")
                pieces.append((block + len(_BLOCK), length - len(_BLOCK) - _CHECKSUM))
    return Header(new=True, pieces=len(pieces), size=begin + size, messages=tuple(messages))


def _each_piece(pieces: list[tuple[int, int]], limits: _Limits) -> Iterator[tuple[int, int]]:
    """Give the pieces of a header, to which the caller adds those that it finds while it reads them."""
    total = 0
    for number, piece in enumerate(pieces):
        if number == limits.pieces or piece[1] > limits.size or total > limits.end:
            raise Refused("an object header is larger than any that Keras writes")
        total += piece[1]
        yield piece


def _old_messages(data: bytes, start: int) -> Iterator[Message]:
    place = 0
    while place < len(data):
        if place + _OLD_MESSAGE.size > len(data):
            raise Refused("an object header ends within a message")
        kind, size, flags = _OLD_MESSAGE.unpack_from(data, place)
        place += _OLD_MESSAGE.size
        if size % 8 or place + size > len(data):
            raise Refused("an object header ends within a message")
        yield Message(kind, flags, start + place, data[place : place + size])
        place += size


def _new_messages(data: bytes, start: int, *, ordered: bool) -> Iterator[Message]:
    place = 0
    head = _NEW_MESSAGE.size + (2 if ordered else 0)
    while place + head <= len(data):  # a gap too small for a message may follow the last
        kind, size, flags = _NEW_MESSAGE.unpack_from(data, place)
        place += head
        if place + size > len(data):
            raise Refused("an object header ends within a message")
        yield Message(kind, flags, start + place, data[place : place + size])
        place += size


def _continuation(message: Message) -> tuple[int, int]:
    if len(message.content) < _RANGE.size or message.flags & SHARED:
        raise Refused("an object header continues at a place that does not belong to it")
    offset, size = _RANGE.unpack_from(message.content)
    return offset, size


class HeaderCache:
    """Object headers of the datasets of one file that libhdf5 opened, to avoid opening others with equal headers.

    A checkpoint has thousands of tensors of few shapes, and opening one takes libhdf5 fifty microseconds. What it
    reports of a dataset follows from the bytes of its header alone, if all messages are in one piece, none is shared, and
    each is of a kind that refers to nothing but the address of the dataset's own data. So a header whose bytes are equal
    except for this address, at the same position in the only layout message, means the same.

    Headers of version 2 have a checksum, which only libhdf5 verifies: they are cached only for a file that was `compared`
    with what libhdf5 wrote.
    """

    def __init__(self, source: Source, superblock: Superblock, *, compared: bool) -> None:
        self._source = source
        self._superblock = superblock
        self._compared = compared
        self._forms: dict[tuple[int, int], dict[bytes, Tensor]] = {}

    def find(self, address: int) -> Tensor | None:
        """Give the tensor whose header is at this address, if an equal header is known."""
        end = self._superblock.end
        for (length, place), known in self._forms.items():
            if address + length > end:
                continue
            head = bytearray(length)
            self._source.read_into(memoryview(head), address)
            offset = int.from_bytes(head[place : place + _ADDRESS], "little")
            head[place : place + _ADDRESS] = _ZERO_ADDRESS
            alike = known.get(bytes(head))
            if alike is not None:
                size = alike.extent.size
                # An address outside of the file is left to libhdf5, which reports the error.
                return (
                    Tensor(alike.shape, alike.dtype, Extent(offset, size)) if offset + size <= end else None
                )
        return None

    def learn(self, address: int, tensor: Tensor) -> None:
        """Keep what libhdf5 reported of a dataset, if it follows from the bytes of its header alone."""
        if not self._superblock.plain or not tensor.extent.size:
            return
        try:
            header = read_header(self._source, address, self._superblock.end, pieces=1, size=_LONGEST)
        except Refused:
            return
        place = _place_of_address(header, tensor.extent)
        if place is None or (header.new and not self._compared) or header.size > _LONGEST:
            return
        form = header.size, place - address
        if form in self._forms or len(self._forms) < _FORMS:
            head = bytearray(read_bytes(self._source, address, header.size, self._superblock.end))
            head[form[1] : form[1] + _ADDRESS] = _ZERO_ADDRESS
            self._forms.setdefault(form, {})[bytes(head)] = tensor


def _place_of_address(header: Header, extent: Extent) -> int | None:
    """Give the offset in the file of the data address in the header of a plain dataset; None if it is not plain."""
    kinds = [message.kind for message in header.messages if message.kind != _NIL]
    if header.pieces > 1 or len(set(kinds)) != len(kinds) or not _PLAIN_DATASET.issuperset(kinds):
        return None
    if any(message.flags & SHARED for message in header.messages):
        return None
    for message in header.messages:
        if message.kind == _LAYOUT:
            begin = len(_CONTIGUOUS)
            plain = message.content[:begin] == _CONTIGUOUS and len(message.content) >= begin + _RANGE.size
            if plain and _RANGE.unpack_from(message.content, begin) == extent:
                return message.offset + begin
    return None


_GROUP = frozenset({0x00, 0x02, 0x06, 0x0A, ATTRIBUTE, 0x0D, 0x0E, 0x10, 0x11, 0x12, ATTRIBUTE_INFO, 0x16})
"""Types of messages that the header of a group may have, of the old and the new form of group together."""
_HEAP = 16 << 20
"""Bytes a heap may have; libhdf5 makes them as large as the largest string in them."""
_SMALLEST_HEAP = 4096
_HEADER_READS = 4
"""How many times the bytes of the file may be read for headers: that of the root is read twice, others once."""
_NO_ADDRESS = b"\xff" * 8
_ORDERED = 0x01

_ATTRIBUTE_HEAD = Struct("<BBHHH")
_REFERENCE = Struct("<IQI")
_HEAP_HEAD = Struct("<4sB3xQ")
_HEAP_OBJECT = Struct("<HHxxxxQ")


class Strings:
    """The variable-length strings of one file, in its global heaps (section III.E).

    The heaps that are read have no more bytes together than the file: heaps that overlap are refused, and so are
    headers whose pieces overlap.
    """

    def __init__(self, source: Source, superblock: Superblock) -> None:
        self._source = source
        self._superblock = superblock
        self._heaps: dict[int, dict[int, tuple[int, int]]] = {}
        self._read = 0
        self._headers_read = 0
        self._last: tuple[int, dict[bytes, bytes]] = -1, {}

    def check(self, address: int, attribute: bytes, count: int, limit: int) -> list[bytes]:
        """Check an attribute of `count` strings of the group whose header is at `address`, and give the strings.

        Raises Refused when they have more than `limit` bytes together, or a structure that refers to them is
        not as the format defines it, and InputRefused when the file cannot be read.
        """
        if not self._superblock.plain:
            raise Refused(
                "its superblock is one that Keras never writes (size of addresses, superblock extension)"
            )
        data = self._attributes(address).get(attribute)
        if data is None:
            raise Refused("it is not among the attributes in the header of its group")
        # Attributes of the old form are filled up to a multiple of eight bytes.
        if not 0 <= len(data) - count * _REFERENCE.size < 8:
            raise Refused("the attribute is not as long as its shape says")
        references = [_REFERENCE.unpack_from(data, index * _REFERENCE.size) for index in range(count)]
        total = sum(length for length, _, _ in references)
        if total > limit:
            raise Refused(f"its strings claim {total:,} bytes, and {limit:,} are the most that is read")
        return [self._string(*reference) for reference in references]

    def _attributes(self, address: int) -> dict[bytes, bytes]:
        """Give the data of the attributes of the group whose header begins at `address`, by name."""
        if self._last[0] != address:
            header = read_header(self._source, address, self._superblock.end)
            self._headers_read += sum(len(message.content) for message in header.messages)
            if self._headers_read > _HEADER_READS * self._superblock.end:
                raise Refused("the headers of its groups have more bytes together than the file")
            self._last = address, _attributes_of(header)
        return self._last[1]

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
            raise Refused("there is no global heap where its strings should be")
        data = self._take(heap, size)
        self._read += size
        if self._read > self._superblock.end:
            raise Refused("the global heaps of its strings have more bytes together than the file")
        found: dict[int, tuple[int, int]] = {}
        place = _HEAP_HEAD.size
        while place + _HEAP_OBJECT.size <= size:
            index, _, length = _HEAP_OBJECT.unpack_from(data, place)
            start = place + _HEAP_OBJECT.size
            if index == 0:  # the free space, its own header included
                if length != size - place:
                    raise Refused("the global heap of its strings contradicts itself")
                break
            place = start + -(-length // 8) * 8
            if place > size or index in found:
                raise Refused("the global heap of its strings contradicts itself")
            found[index] = heap + start, length
        return found

    def _take(self, offset: int, size: int) -> bytes:
        return read_bytes(self._source, offset, size, self._superblock.end)


def _attributes_of(header: Header) -> dict[bytes, bytes]:
    """Give the data of a group's attributes by name; each has to be in its header, and there once."""
    found: dict[bytes, bytes] = {}
    for message in header.messages:
        if message.kind not in _GROUP or message.flags & SHARED:
            raise Refused("the header of its group has messages that Keras never writes")
        if message.kind == ATTRIBUTE_INFO and (not header.new or _is_dense(message.content)):
            raise Refused("the attributes of its group are stored densely, as Keras never does")
        if message.kind == ATTRIBUTE:
            other, data = _attribute(message)
            if other in found:
                raise Refused("its group has two attributes of one name")
            found[other] = data
    return found


def _is_dense(content: bytes) -> bool:
    """Tell whether an Attribute Info message (section IV.A.2.v) says that attributes are in a fractal heap."""
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
        raise Refused("its group has an attribute of a version that Keras never writes")
    start = _ATTRIBUTE_HEAD.size + (version == 3)  # version 3 also tells how the name is encoded
    name = content[start : start + sizes[0]]
    if not name or name.find(b"\0") != sizes[0] - 1:
        raise Refused("its group has an attribute whose name does not end where it should")
    if version == 1:
        sizes = [-(-size // 8) * 8 for size in sizes]
    if start + sum(sizes) > len(content):
        raise Refused("its group has an attribute without content")
    return name[:-1], content[start + sum(sizes) :]
