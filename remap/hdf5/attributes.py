"""Attributes that are text, bounded before they are read."""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np
from h5py import h5a, h5o, h5s, h5t

from remap.hdf5.heap import Strings
from remap.hdf5.refused import Refused

if TYPE_CHECKING:
    from remap.hdf5.headers import Superblock
    from remap.hdf5.source import Source

__all__ = ["NAMES", "Attributes"]

NAMES = 1 << 17
"""Names a list may hold."""

_TEXT = 8 << 20
"""Bytes an attribute may hold; the largest architectures of keras.applications need less than two million."""
_REFERENCE = 16
"""Bytes of a reference to a variable-length string: its length, the address of its heap, its number there."""
_VARIABLE = h5t.py_create(h5py.string_dtype())


class Attributes:
    """The attributes of the groups of one file.

    Both methods take an open group and raise Refused for what is not text or larger than any that Keras
    writes, in whatever flavour: fixed length or variable, ASCII or UTF-8. libhdf5 reads every attribute, by the
    types in memory that h5py uses; what would harm it is checked before.
    """

    def __init__(self, source: Source, superblock: Superblock) -> None:
        self._strings = Strings(source, superblock)

    def text(self, group: Any, name: str) -> str | None:
        """Read one text; None when it is not there."""
        found = self._read(group, name.encode())
        if found is None:
            return None
        shape, values = found
        if shape != ():
            raise Refused("this attribute is a list, where Keras stores one text")
        return _decode(values[0])

    def names(self, group: Any, name: str) -> tuple[str, ...] | None:
        """Read a list of names; None when it is not there. Keras's own empty lists are lists of no floats."""
        found = self._read(group, name.encode())
        if found is None:
            return None
        shape, values = found
        if len(shape) != 1:
            raise Refused("this attribute is not a list, where Keras stores a list of names")
        return tuple(map(_decode, values))

    def _read(self, group: Any, name: bytes) -> tuple[tuple[int, ...], list[bytes]] | None:
        """Give an attribute's shape and elements."""
        if not h5a.exists(group, name):
            return None
        attribute = h5a.open(group, name)
        space, kind = attribute.get_space(), attribute.get_type()
        if space.get_simple_extent_type() == h5s.NULL:
            raise Refused("this attribute has no content, where Keras stores text")
        shape = tuple(map(int, space.get_simple_extent_dims()))
        count = prod(shape)
        if count == 0:
            return shape, []
        if not isinstance(kind, h5t.TypeStringID):
            raise Refused("this attribute is no text, where Keras stores text")
        variable = kind.is_variable_str()
        size, stored = kind.get_size(), attribute.get_storage_size()
        if stored > _TEXT or count > NAMES or stored != count * (_REFERENCE if variable else size):
            raise Refused(f"this attribute claims {count:,} entries in {stored:,} bytes")
        if variable:
            return shape, self._variable(attribute, h5o.get_info(group).addr, name, shape)
        if kind.get_strpad() not in (h5t.STR_NULLPAD, h5t.STR_NULLTERM):
            raise Refused("this attribute's text is padded as neither Keras nor h5py pad it")
        values = np.empty(count, dtype=f"S{size}")
        attribute.read(values.reshape(shape), mtype=h5t.py_create(values.dtype))
        return shape, values.tolist()

    def _variable(self, attribute: Any, header: int, name: bytes, shape: tuple[int, ...]) -> list[bytes]:
        """Read variable-length strings when everything on the way to them was found to be sound."""
        expected = self._strings.check(header, name, prod(shape), _TEXT)
        values = np.empty(len(expected), dtype=object)
        attribute.read(values.reshape(shape), mtype=_VARIABLE)
        found: list[bytes] = [value or b"" for value in values]
        if found != expected:
            raise Refused("this attribute reads differently from what is stored for it")
        return found


def _decode(raw: bytes) -> str:
    try:
        return raw.decode()
    except UnicodeDecodeError as error:
        raise Refused("this attribute's text is not UTF-8") from error
