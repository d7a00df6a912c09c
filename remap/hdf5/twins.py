"""Tensors whose headers say the same, byte by byte, but for where the tensor lies.

A checkpoint has thousands of tensors of few shapes. To open one takes libhdf5 thirty microseconds; when it has opened
one that was found to be sound, a header of the same bytes says the same, and the address that differs is all there is
to learn from it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from remap.hdf5.header import PREFIX, first_piece
from remap.hdf5.tensors import Extent, Tensor

if TYPE_CHECKING:
    from remap.hdf5.source import Source

__all__ = ["Twins"]

_ADDRESS = 8
_NOWHERE = bytes(_ADDRESS)
_LONGEST = 1 << 12
_FORMS = 8
"""Lengths of header, and places of the address in it, that are kept; real files have one or two."""


class Twins:
    """The headers of the sound tensors met so far in one file.

    Those of the newer form carry a checksum, which only libhdf5 looks at: they are told by their bytes in a file that
    was `compared` with what libhdf5 wrote, and opened in every other.
    """

    def __init__(self, source: Source, *, compared: bool) -> None:
        self._source = source
        self._compared = compared
        self._forms: dict[tuple[int, int], dict[bytes, Tensor]] = {}

    def find(self, header: int) -> Tensor | None:
        """Tell what the tensor whose header begins at this byte is, if the same was said of another before."""
        for (length, place), known in self._forms.items():
            head = self._read(header, length)
            offset = int.from_bytes(head[place : place + _ADDRESS], "little")
            head[place : place + _ADDRESS] = _NOWHERE
            twin = known.get(bytes(head))
            if twin is not None:
                size = twin.extent.size
                # What is wrong with an address outside of the file, libhdf5 may say.
                fits = offset + size <= self._source.size
                return Tensor(twin.shape, twin.dtype, Extent(offset, size)) if fits else None
        return None

    def learn(self, header: int, tensor: Tensor) -> None:
        """Keep what is known of a tensor that was opened and found to be sound."""
        piece = first_piece(self._read(header, PREFIX))
        if piece is None or (piece.new and not self._compared) or not tensor.extent.size:
            return
        head = self._read(header, min(piece.begin + piece.size, _LONGEST + 1))
        address = tensor.extent.offset.to_bytes(_ADDRESS, "little")
        place = head.find(address)
        if len(head) > _LONGEST or place < 0 or head.find(address, place + 1) >= 0:
            return
        form = len(head), place
        if form in self._forms or len(self._forms) < _FORMS:
            head[place : place + _ADDRESS] = _NOWHERE
            self._forms.setdefault(form, {})[bytes(head)] = tensor

    def _read(self, offset: int, size: int) -> bytearray:
        data = bytearray(max(0, min(size, self._source.size - offset)))
        self._source.read_into(memoryview(data), offset)
        return data
