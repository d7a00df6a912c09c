"""The one door into an HDF5 file: nothing is opened, read or believed before it was checked.

Keras closed the same class of holes patch after patch (external links and storage: CVE-2026-1669; declared
shapes: CVE-2026-0897) because its checks stood at call sites. Here every access goes through one object,
which accepts hard links only, part by part, bounds every attribute before it is read, and takes a tensor only
when it is plain numbers stored in this file once. Tensors are never read through HDF5: the gate says where
their bytes lie.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np
from h5py import h5a, h5d, h5f, h5fd, h5g, h5l, h5p, h5s, h5t

from remap.errors import InputRefused
from remap.hdf5.identify import SIGNATURE, identify, show
from remap.hdf5.names import path_parts

if TYPE_CHECKING:
    from collections.abc import Iterator

    from remap.hdf5.source import Source

__all__ = ["Extent", "Gate", "Tensor", "native_type"]

NAMES = 1 << 17
"""Names a list may hold."""
TEXT = 8 << 20
"""Bytes an attribute may hold; the largest architectures of keras.applications need less than two million."""

_REFERENCE = 16
"""Bytes of a reference to a variable-length string: its length, the address of its heap, its number there."""

_LITTLE = ("<f4", "<f2", "<f8", "<i4", "<i8", "|b1", "|i1", "|u1", "<i2", "<u2", "<u4", "<u8")
_DTYPES = _LITTLE + tuple(name.replace("<", ">") for name in _LITTLE if name[0] == "<")
_TYPES = tuple((name, h5t.py_create(np.dtype(name), logical=True)) for name in _DTYPES)
_LAYOUTS = {
    h5d.COMPACT: "inside the header",
    h5d.CHUNKED: "in chunks",
    h5d.VIRTUAL: "in other files (virtual)",
}
_LIBRARY = (KeyError, OSError, RuntimeError, ValueError, TypeError, SystemError, MemoryError, OverflowError)
_DAMAGED = "the file is damaged or made to do harm: get it again from its origin"
_REPACK = "if you trust its origin, rewrite it with `h5repack -l CONTI -f NONE`"


@dataclass(frozen=True, slots=True)
class Extent:
    """Where the bytes of a tensor lie: `size` bytes from byte `offset` of the file on."""

    offset: int
    size: int


@dataclass(frozen=True, slots=True)
class Tensor:
    """What the gate found out about a tensor: shape in elements, numpy's short dtype, bytes in the file."""

    shape: tuple[int, ...]
    dtype: str
    extent: Extent


def native_type(dtype: str) -> Any:
    """Give the HDF5 type of a dtype that the gate lets through."""
    return _TYPES[_DTYPES.index(dtype)][1]


class Gate:
    """A checked view of one open HDF5 file, in a `with` statement after which libhdf5 holds nothing of it.

    Every method raises InputRefused: when libhdf5 fails, when an object is not what Keras writes, or when
    what the file claims cannot be true of a file of its size.
    """

    def __init__(self, source: Source) -> None:
        self._source = source
        self._extents: list[tuple[int, int, str]] = []
        self._chain: list[tuple[bytes, Any]] = []
        self._require_signature()
        plan = h5p.create(h5p.FILE_ACCESS)
        plan.set_fclose_degree(h5f.CLOSE_STRONG)
        plan.set_fileobj_driver(h5fd.fileobj_driver, source)
        with self._library("/"):
            self._file = h5f.open(b"h5remap", h5f.ACC_RDONLY, fapl=plan)
        try:
            with self._library("/"):
                self._root = h5g.open(self._file, b"/")
        except BaseException:
            self._file.close()
            raise

    def __enter__(self) -> Gate:
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        self._chain.clear()
        self._file.close()
        if error is None:
            self._source.raise_fault()

    def has_group(self, *names: str) -> bool:
        """Say whether there is anything under a path; what it is shows when it is used."""
        parts = self._parts(names)
        with self._library(_path(parts)):
            return bool(self._enter(parts[:-1]).links.exists(parts[-1]))

    def text(self, names: tuple[str, ...], attribute: str) -> str | None:
        """Read an attribute that holds one text; None when it is not there."""
        parts = self._parts(names)
        with self._library(_place(parts, attribute)):
            group = self._enter(parts)
            if not h5a.exists(group, attribute.encode()):
                return None
            found = self._strings(h5a.open(group, attribute.encode()), _place(parts, attribute))
        if found is None or found[0] != ():
            raise self._refuse(
                "this attribute is a list, where Keras stores one text", _place(parts, attribute)
            )
        return self._decode(found[1][0], _place(parts, attribute))

    def names(self, names: tuple[str, ...], attribute: str) -> tuple[str, ...] | None:
        """Read an attribute that holds a list of names, whole or split into `attribute0`, `attribute1`, ….

        None when it is not there. Splitting: `load_attributes_from_hdf5_group` of Keras 2.1.5 and later,
        which takes the whole list where there are both.
        """
        parts = self._parts(names)
        whole = self._list(parts, attribute)
        if whole is not None:
            return whole
        found: list[str] = []
        piece = self._list(parts, f"{attribute}0")
        if piece is None:
            return None
        number = 0
        while piece is not None:
            found.extend(piece)
            if len(found) > NAMES:
                raise self._refuse(f"this list has more than {NAMES:,} names", _place(parts, attribute))
            number += 1
            piece = self._list(parts, f"{attribute}{number}")
        return tuple(found)

    def tensor(self, *names: str) -> Tensor:
        """Check a dataset and say what it is and where its bytes are."""
        parts = self._parts(names)
        if not parts:
            raise self._refuse("an empty name stands where a tensor's name belongs", "/")
        path = _path(parts)
        with self._library(path):
            group = self._enter(parts[:-1])
            self._require_hard_link(group, parts, len(parts) - 1)
            dataset = h5d.open(group, parts[-1])
            # In this order: asking a virtual dataset for its shape would already open other files.
            self._require_plain_storage(dataset.get_create_plist(), path)
            dtype = self._dtype(dataset.get_type(), path)
            space = dataset.get_space()
            if space.get_simple_extent_type() == h5s.NULL:
                raise self._refuse("this tensor has no shape at all", path)
            shape = tuple(int(length) for length in space.get_simple_extent_dims())
            stored, offset = dataset.get_storage_size(), dataset.get_offset()
        size = prod(shape) * np.dtype(dtype).itemsize
        if size == 0:
            return Tensor(shape, dtype, Extent(0, 0))
        if offset is None:
            raise self._refuse(
                "this tensor was announced but never written",
                path,
                hint="the program that saved the file did not finish: use an earlier checkpoint",
            )
        if stored != size or offset + size > self._source.size:
            raise self._refuse(
                f"this tensor claims {size:,} bytes, but the file holds {stored:,} for it, "
                f"{max(0, self._source.size - offset):,} of them inside the file",
                path,
            )
        self._extents.append((offset, size, path))
        return Tensor(shape, dtype, Extent(offset, size))

    def require_disjoint(self) -> None:
        """Refuse a file in which two names stand for the same bytes: a small file could become a huge one."""
        self._extents.sort()
        for (offset, size, path), (following, _, other) in zip(
            self._extents, self._extents[1:], strict=False
        ):
            if offset + size > following:
                raise self._refuse(f"this tensor shares its bytes with {show(path)}", other)

    def _require_signature(self) -> None:
        source = self._source
        head = memoryview(bytearray(min(source.size, 4096)))
        source.read_into(head, 0)
        if bytes(head[: len(SIGNATURE)]) != SIGNATURE:
            raise InputRefused(
                f"this is not an HDF5 file: {identify(source.name, head=bytes(head), size=source.size)}",
                where=show(source.name),
                hint="give a file that Keras saved as .h5",
            )

    def _parts(self, names: tuple[str, ...]) -> tuple[bytes, ...]:
        try:
            return path_parts("/".join(names)) if names else ()
        except ValueError as error:
            raise self._refuse(
                f"the name {show('/'.join(names))[:200]!r} is refused: {error}", "/"
            ) from error

    def _enter(self, parts: tuple[bytes, ...]) -> Any:
        """Open the group under a path, part by part, keeping those that the last path went through too."""
        chain = self._chain
        common = 0
        while common < min(len(chain), len(parts)) and chain[common][0] == parts[common]:
            common += 1
        del chain[common:]
        for index in range(common, len(parts)):
            parent = chain[-1][1] if chain else self._root
            self._require_hard_link(parent, parts, index)
            chain.append((parts[index], h5g.open(parent, parts[index])))
        return chain[-1][1] if chain else self._root

    def _require_hard_link(self, group: Any, parts: tuple[bytes, ...], index: int) -> None:
        kind = group.links.get_info(parts[index]).type
        if kind != h5l.TYPE_HARD:
            name = {h5l.TYPE_SOFT: "a soft link", h5l.TYPE_EXTERNAL: "a link to another file"}.get(
                kind, "a link"
            )
            raise self._refuse(
                f"{name} stands where Keras stores the thing itself", _path(parts[: index + 1])
            )

    def _require_plain_storage(self, plist: Any, path: str) -> None:
        layout = plist.get_layout()
        if layout != h5d.CONTIGUOUS:
            how = _LAYOUTS.get(layout, "in a way unknown to us")
            hint = _DAMAGED if layout == h5d.VIRTUAL else _REPACK
            raise self._refuse(f"this tensor is stored {how}, which Keras never does", path, hint=hint)
        if plist.get_external_count():
            raise self._refuse("the bytes of this tensor lie in another file, which Keras never does", path)
        if plist.get_nfilters():
            raise self._refuse("this tensor passes a filter, which Keras never does", path, hint=_REPACK)

    def _dtype(self, kind: Any, path: str) -> str:
        for name, known in _TYPES:
            if kind.equal(known):
                return name
        raise self._refuse(
            "this tensor does not hold plain numbers (floats of 2, 4 or 8 bytes, integers, booleans)",
            path,
            hint="h5remap only handles weights that Keras itself could have saved",
        )

    def _list(self, parts: tuple[bytes, ...], attribute: str) -> tuple[str, ...] | None:
        place = _place(parts, attribute)
        with self._library(place):
            group = self._enter(parts)
            if not h5a.exists(group, attribute.encode()):
                return None
            found = self._strings(h5a.open(group, attribute.encode()), place)
        if found is None:
            return ()
        if len(found[0]) != 1:
            raise self._refuse("this attribute is not a list, where Keras stores a list of names", place)
        return tuple(self._decode(raw, place) for raw in found[1])

    def _strings(self, attribute: Any, place: str) -> tuple[tuple[int, ...], list[bytes]] | None:
        """Read an attribute of strings as its shape and its elements; None for an empty list of any type.

        Keras's own empty lists are lists of no floats.
        """
        space, kind = attribute.get_space(), attribute.get_type()
        if space.get_simple_extent_type() == h5s.NULL:
            raise self._refuse("this attribute is empty, where Keras stores text", place)
        shape = tuple(int(length) for length in space.get_simple_extent_dims())
        count = prod(shape)
        if len(shape) == 1 and count == 0:
            return None
        if not isinstance(kind, h5t.TypeStringID):
            raise self._refuse("this attribute is no text, where Keras stores text", place)
        stored = attribute.get_storage_size()
        each = _REFERENCE if kind.is_variable_str() else kind.get_size()
        if stored > TEXT or count > NAMES or stored != count * each:
            raise self._refuse(f"this attribute claims {count:,} entries and holds {stored:,} bytes", place)
        if kind.is_variable_str():
            values = np.empty(shape, dtype=h5py.string_dtype("ascii"))
            attribute.read(values)
            return shape, [bytes(value) for value in values.ravel()]
        if kind.get_strpad() not in (h5t.STR_NULLPAD, h5t.STR_NULLTERM):
            raise self._refuse("this attribute's text is padded as neither Keras nor h5py pad it", place)
        buffer = np.empty(shape, dtype=f"S{kind.get_size()}")
        attribute.read(buffer, mtype=kind)
        return shape, [bytes(value) for value in buffer.ravel()]

    def _decode(self, raw: bytes, place: str) -> str:
        try:
            return raw.decode("utf-8")
        except UnicodeDecodeError as error:
            raise self._refuse("this attribute's text is not UTF-8", place) from error

    def _refuse(self, what: str, path: str, *, hint: str = _DAMAGED) -> InputRefused:
        return InputRefused(what, where=f"{show(path)} in {show(self._source.name)}", hint=hint)

    @contextmanager
    def _library(self, path: str) -> Iterator[None]:
        """Turn whatever libhdf5 says into one refusal; a fault of the disk beneath it goes first."""
        try:
            yield
        except InputRefused:
            self._source.raise_fault()
            raise
        except _LIBRARY as error:
            self._source.raise_fault()
            raise self._broken(str(error), path) from error
        self._source.raise_fault()

    def _broken(self, words: str, path: str) -> InputRefused:
        lower = words.lower()
        if "truncated file" in lower:
            return self._refuse(
                "the file is cut short", path, hint="the copy or the saving did not finish: get it again"
            )
        if "already open for" in lower:
            return self._refuse(
                "the file is marked as being written: the program that saved it did not finish",
                path,
                hint="wait until it has, or use an earlier checkpoint",
            )
        if "doesn't exist" in lower or "not found" in lower or "no link" in lower:
            return self._refuse(
                "the file lists this, but does not hold it",
                path,
                hint="the program that saved the file did not finish: use an earlier checkpoint",
            )
        return self._refuse(f"HDF5 cannot read this: {show(words)}", path)


def _path(parts: tuple[bytes, ...]) -> str:
    return "/" + "/".join(part.decode() for part in parts)


def _place(parts: tuple[bytes, ...], attribute: str) -> str:
    return f"{_path(parts)} (attribute {attribute})"
