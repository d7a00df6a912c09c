"""The attributes of the groups of a Keras file: texts and lists of names, checked before libhdf5 reads them."""

from __future__ import annotations

from functools import lru_cache
from math import prod
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np
from h5py import h5a, h5o, h5s, h5t

from remap.hdf5.identify import show
from remap.hdf5.object_headers import Strings
from remap.hdf5.source import Refused

if TYPE_CHECKING:
    from collections.abc import Sequence

    from remap.hdf5.object_headers import Superblock
    from remap.hdf5.source import Source

__all__ = ["NAMES", "Attributes", "decode"]

NAMES = 1 << 17
"""Names a list may hold."""

_TEXT = 8 << 20
"""Bytes an attribute may hold; the largest architectures of keras.applications need less than two million."""
_REFERENCE = 16
"""Bytes of a reference to a variable-length string: its length, the address of its heap, its number there."""
_VARIABLE = h5t.py_create(h5py.string_dtype())
_KERAS = frozenset({"backend", "keras_version", "layer_names"})
"""Attributes beside layers. Each is read as text or refused, so that no Keras takes one for a layer of that name."""


class Attributes:
    """The attributes of the groups of one file.

    Both methods take an open group and raise Refused for what is not text, of fixed or variable length, ASCII or UTF-8,
    or is larger than any that Keras writes. libhdf5 reads every attribute, with the types in memory that h5py uses;
    what it cannot read safely is checked before. All attributes that are read have no more bytes together than the file:
    several groups may refer to the same large attribute.
    """

    def __init__(self, source: Source, superblock: Superblock) -> None:
        self._strings = Strings(source, superblock)
        self._left = superblock.end

    def require_none(self, group: Any, names: Sequence[str]) -> None:
        """Raise Refused if an attribute of a group has one of these names."""
        if h5a.get_num_attrs(group) < 2:  # the list of the names alone
            return
        found: set[bytes] = set()
        h5a.iterate(group, found.add)
        for name in names:
            if name.encode() in found and name not in _KERAS:
                raise Refused(f"an attribute and an object both have the name {show(name)!r}")

    def text(self, group: Any, name: str) -> str | None:
        """Read one text; None when it is not there."""
        found = self._read(group, name.encode())
        if found is None:
            return None
        shape, values = found
        if shape != ():
            raise Refused("this attribute is a list, where Keras stores one text")
        return decode(values[0])

    def names(self, group: Any, name: str) -> tuple[str, ...] | None:
        """Read a list of names; None when it is not there. Keras's own empty lists are lists of no floats."""
        found = self._read(group, name.encode())
        if found is None:
            return None
        shape, values = found
        if len(shape) != 1:
            raise Refused("this attribute is not a list, where Keras stores a list of names")
        return tuple(map(decode, values))

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
            raise Refused("this attribute is not text, where Keras stores text")
        variable = kind.is_variable_str()
        size, stored = kind.get_size(), attribute.get_storage_size()
        if stored > _TEXT or count > NAMES or stored != count * (_REFERENCE if variable else size):
            raise Refused(f"this attribute claims {count:,} entries in {stored:,} bytes")
        if variable:
            return shape, self._variable(attribute, h5o.get_info(group).addr, name, shape)
        self._count(stored)
        if kind.get_strpad() not in (h5t.STR_NULLPAD, h5t.STR_NULLTERM):
            raise Refused(
                "the text of this attribute is padded with spaces, which neither Keras nor h5py does"
            )
        values = np.empty(count, dtype=f"S{size}")
        attribute.read(values.reshape(shape), mtype=_fixed_text(size, kind.get_cset()))
        return shape, values.tolist()

    def _count(self, size: int) -> None:
        self._left -= size
        if self._left < 0:
            raise Refused("the attributes have more bytes together than the file")

    def _variable(self, attribute: Any, header: int, name: bytes, shape: tuple[int, ...]) -> list[bytes]:
        """Read variable-length strings after every structure that refers to them was checked."""
        expected = self._strings.check(header, name, prod(shape), _TEXT)
        self._count(sum(map(len, expected)))
        values = np.empty(len(expected), dtype=object)
        attribute.read(values.reshape(shape), mtype=_VARIABLE)
        found: list[bytes] = [value or b"" for value in values]
        if found != expected:
            raise Refused("this attribute reads differently from what is stored for it")
        return found


@lru_cache(maxsize=256)
def _fixed_text(size: int, character_set: int) -> Any:
    """Give the type in memory of an array of bytes; libhdf5 does not convert between ASCII and UTF-8."""
    kind = h5t.py_create(np.dtype(f"S{size}"))
    kind.set_cset(character_set)
    return kind


def decode(raw: bytes) -> str:
    """Read the bytes of a name; raises Refused for what is not UTF-8."""
    try:
        return raw.decode()
    except UnicodeDecodeError as error:
        raise Refused("this attribute's text is not UTF-8") from error
