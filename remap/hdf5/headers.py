"""Superblocks and object headers as bytes, for what libhdf5 has to be spared and what it need not be asked again.

Nothing here decides what a file says: libhdf5 does. The structures are followed by the HDF5 File Format Specification
3.0 (sections II.A and IV.A) and every form that it does not define, or that Keras's files never need, is refused.
"""

from __future__ import annotations

from struct import Struct
from typing import TYPE_CHECKING, NamedTuple

from remap.hdf5.identify import SIGNATURE
from remap.hdf5.refused import Refused
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
_NO_ADDRESS = bytes(_ADDRESS)
_LONGEST = 1 << 12
_FORMS = 8
"""Lengths of header, and places of the address in it, that are kept; real files have one or two."""


class Superblock(NamedTuple):
    """Where HDF5's part of a file ends, and whether everything about it has the form that Keras's files have.

    `plain` is addresses and lengths of 8 bytes, and nothing that changes how the rest of the file is read: no
    superblock extension (which may hold an image of the metadata cache), no driver's own information.
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
        raise Refused("its superblock has a version that the format does not know")
    new = version >= 2
    start, at = (12, 9) if new else (24 if version == 0 else 28, 13)
    size, length = head[at : at + 2].ljust(2, b"\0")
    if size not in (2, 4, 8, 16, 32) or len(head) < start + 4 * size:
        raise Refused("its superblock is damaged")
    fields = [head[start + size * number : start + size * (number + 1)] for number in range(4)]
    base, end = int.from_bytes(fields[0], "little"), int.from_bytes(fields[2], "little")
    if base:
        raise Refused("its base address is not its beginning: something that was put before it was cut off")
    other = fields[1] if new else fields[3]
    plain = size == length == _ADDRESS and other == b"\xff" * size
    return Superblock(min(end, source.size), plain)


def read_header(source: Source, address: int, end: int) -> Header:
    """Read all messages of the object header at `address` (section IV.A.1), of which none may lie behind `end`.

    Raises Refused for a header that the format does not allow. Checksums are left to libhdf5.
    """
    head = read_bytes(source, address, min(_NEW_PREFIX, max(0, end - address)), end)
    if head[:4] == b"OHDR" and len(head) > 5:
        return _new_header(source, address, end, head)
    if head[:1] == b"\1" and len(head) >= _OLD_PREFIX.size:
        return _old_header(source, address, end, head)
    raise Refused("an object's header has no form that the format knows")


def read_bytes(source: Source, offset: int, size: int, end: int) -> bytes:
    """Read bytes that may not lie behind `end`; raises Refused when they do."""
    if offset + size > end:
        raise Refused("it points past the end of the file")
    data = bytearray(size)
    source.read_into(memoryview(data), offset)
    return bytes(data)


def _old_header(source: Source, address: int, end: int, head: bytes) -> Header:
    _, count, _, size = _OLD_PREFIX.unpack_from(head)
    pieces = [(address + _OLD_PREFIX.size, size)]
    messages: list[Message] = []
    for start, length in _growing(pieces):
        for message in _old_messages(read_bytes(source, start, length, end), start):
            messages.append(message)
            if message.kind == _CONTINUATION:
                pieces.append(_continuation(message))
    if len(messages) != count:
        raise Refused("an object's header does not hold as many messages as it says")
    return Header(new=False, pieces=len(pieces), size=_OLD_PREFIX.size + size, messages=tuple(messages))


def _new_header(source: Source, address: int, end: int, head: bytes) -> Header:
    version, flags = head[4], head[5]
    begin = 6 + (16 if flags & _TIMES else 0) + (4 if flags & _PHASES else 0)
    width = 1 << (flags & _WIDTH)
    if version != 2 or flags & _UNDEFINED_FLAGS or len(head) < begin + width:
        raise Refused("an object's header has no form that the format knows")
    size = int.from_bytes(head[begin : begin + width], "little")
    begin += width
    pieces = [(address + begin, size)]
    messages: list[Message] = []
    for start, length in _growing(pieces):
        data = read_bytes(source, start, length + _CHECKSUM, end)[:length]
        for message in _new_messages(data, start, ordered=bool(flags & _ORDER)):
            messages.append(message)
            if message.kind == _CONTINUATION:
                block, length = _continuation(message)
                if length < len(_BLOCK) + _CHECKSUM or read_bytes(source, block, 4, end) != _BLOCK:
                    raise Refused("an object's header continues where nothing of it is")
                pieces.append((block + len(_BLOCK), length - len(_BLOCK) - _CHECKSUM))
    return Header(new=True, pieces=len(pieces), size=begin + size, messages=tuple(messages))


def _growing(pieces: list[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """Give the pieces of a header, to which the one who reads them adds."""
    for number, piece in enumerate(pieces):
        if number == _PIECES or piece[1] > _PIECE:
            raise Refused("an object's header is larger than any that Keras makes")
        yield piece


def _old_messages(data: bytes, start: int) -> Iterator[Message]:
    place = 0
    while place < len(data):
        if place + _OLD_MESSAGE.size > len(data):
            raise Refused("an object's header ends within a message")
        kind, size, flags = _OLD_MESSAGE.unpack_from(data, place)
        place += _OLD_MESSAGE.size
        if size % 8 or place + size > len(data):
            raise Refused("an object's header ends within a message")
        yield Message(kind, flags, start + place, data[place : place + size])
        place += size


def _new_messages(data: bytes, start: int, *, ordered: bool) -> Iterator[Message]:
    place = 0
    head = _NEW_MESSAGE.size + (2 if ordered else 0)
    while place + head <= len(data):  # a gap too small for a message may follow the last
        kind, size, flags = _NEW_MESSAGE.unpack_from(data, place)
        place += head
        if place + size > len(data):
            raise Refused("an object's header ends within a message")
        yield Message(kind, flags, start + place, data[place : place + size])
        place += size


def _continuation(message: Message) -> tuple[int, int]:
    if len(message.content) < _RANGE.size or message.flags & SHARED:
        raise Refused("an object's header continues where nothing of it is")
    offset, size = _RANGE.unpack_from(message.content)
    return offset, size


class HeaderCache:
    """Headers of sound tensors met so far in one file, to tell the next tensors of the same header without libhdf5.

    A checkpoint has thousands of tensors of few shapes, and opening one takes libhdf5 fifty microseconds. What it says
    of a dataset follows from the bytes of its header alone, if all messages are in one piece, none is shared, and each
    is of a kind that refers to nothing else but the tensor's own address. So a header of the same bytes but for this
    address, at the same place in the only layout message, says the same.

    Headers of the newer form carry a checksum, which only libhdf5 looks at: they are kept for a file that was
    `compared` with what libhdf5 wrote, and for no other.
    """

    def __init__(self, source: Source, superblock: Superblock, *, compared: bool) -> None:
        self._source = source
        self._superblock = superblock
        self._compared = compared
        self._forms: dict[tuple[int, int], dict[bytes, Tensor]] = {}

    def find(self, address: int) -> Tensor | None:
        """Tell what the tensor is whose header begins at this byte, if another header said the same."""
        end = self._superblock.end
        for (length, place), known in self._forms.items():
            if address + length > end:
                continue
            head = bytearray(length)
            self._source.read_into(memoryview(head), address)
            offset = int.from_bytes(head[place : place + _ADDRESS], "little")
            head[place : place + _ADDRESS] = _NO_ADDRESS
            alike = known.get(bytes(head))
            if alike is not None:
                size = alike.extent.size
                # What is wrong with an address outside of the file, libhdf5 may say.
                return (
                    Tensor(alike.shape, alike.dtype, Extent(offset, size)) if offset + size <= end else None
                )
        return None

    def learn(self, address: int, tensor: Tensor) -> None:
        """Keep what libhdf5 said of a tensor, if it follows from the bytes of its header alone."""
        if not self._superblock.plain or not tensor.extent.size:
            return
        try:
            header = read_header(self._source, address, self._superblock.end)
        except Refused:
            return
        place = _place_of_address(header, tensor.extent)
        if place is None or (header.new and not self._compared) or header.size > _LONGEST:
            return
        form = header.size, place - address
        if form in self._forms or len(self._forms) < _FORMS:
            head = bytearray(read_bytes(self._source, address, header.size, self._superblock.end))
            head[form[1] : form[1] + _ADDRESS] = _NO_ADDRESS
            self._forms.setdefault(form, {})[bytes(head)] = tensor


def _place_of_address(header: Header, extent: Extent) -> int | None:
    """Say at which byte of the file a plain dataset's header has the address of its tensor; None if it is not plain."""
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
