"""Datasets that are plain numbers stored in this file once: their shapes, types and extents."""

from __future__ import annotations

from math import prod
from typing import Any, NamedTuple

import numpy as np
from h5py import h5d, h5s, h5t

from remap.hdf5.source import DAMAGED, UNFINISHED, Refused

__all__ = ["Extent", "Tensor", "check_tensor", "native_type"]

_LITTLE = ("<f4", "<f2", "<f8", "<i4", "<i8", "|b1", "|i1", "|u1", "<i2", "<u2", "<u4", "<u8")
_DTYPES = _LITTLE + tuple(name.replace("<", ">") for name in _LITTLE if name[0] == "<")
# Booleans are an enumeration of h5py's own.
_TYPES = {name: h5t.py_create(np.dtype(name), logical=True) for name in _DTYPES}
_SIZES = {name: np.dtype(name).itemsize for name in _DTYPES}
_LAYOUTS = {h5d.COMPACT: "in its header", h5d.CHUNKED: "in chunks", h5d.VIRTUAL: "in other files (virtual)"}
_REPACK = "if you trust its origin, rewrite it with `h5repack -l CONTI -f NONE`"


class Extent(NamedTuple):
    """The bytes of a tensor: `size` bytes from byte `offset` of the file on."""

    offset: int
    size: int


class Tensor(NamedTuple):
    """A checked dataset: shape in elements, numpy's short dtype, bytes in the file."""

    shape: tuple[int, ...]
    dtype: str
    extent: Extent


def native_type(dtype: str) -> Any:
    """Give the HDF5 type of a dtype that `check_tensor` accepts."""
    return _TYPES[dtype]


def check_tensor(dataset: Any, end: int) -> Tensor:
    """Check an open dataset without reading it.

    Raises Refused unless it is stored in one piece, holds numbers of a type that h5py writes for a plain
    numpy array, and its declared size is its stored size and lies before `end`, where libhdf5 stops reading.
    So memory is never allocated because of a declared shape alone (CVE-2026-0897), and no other file is opened
    (CVE-2026-1669).
    """
    # Only a dataset that is stored in one piece in this file has an offset. This comes first: to give the shape of a
    # virtual dataset, libhdf5 would open the files that it names.
    offset = dataset.get_offset()
    if offset is None:
        _require_own_storage(dataset.get_create_plist())
    dtype = _dtype(dataset.get_type())
    space = dataset.get_space()
    shape = space.get_simple_extent_dims()
    if not shape and space.get_simple_extent_type() != h5s.SCALAR:
        raise Refused("this tensor has no shape at all")
    size = prod(shape) * _SIZES[dtype]
    if size == 0:
        return Tensor(shape, dtype, Extent(0, 0))
    if offset is None:
        raise Refused("this tensor was created but never written", hint=UNFINISHED)
    stored = dataset.get_storage_size()
    if stored != size:
        raise Refused(f"this tensor claims {size:,} bytes, and the file holds {stored:,} for it")
    if offset + size > end:
        raise Refused(f"this tensor ends at byte {offset + size:,}, and the file at {end:,}")
    return Tensor(shape, dtype, Extent(offset, size))


def _require_own_storage(plist: Any) -> None:
    """Refuse a tensor without an offset, unless it is one that was never written."""
    layout = plist.get_layout()
    if layout != h5d.CONTIGUOUS:
        how = _LAYOUTS.get(layout, "in an unknown layout")
        hint = DAMAGED if layout == h5d.VIRTUAL else _REPACK
        raise Refused(f"this tensor is stored {how}, which Keras never does", hint=hint)
    if plist.get_external_count():
        raise Refused("this tensor is stored in another file, which Keras never does")


def _dtype(kind: Any) -> str:
    for name, known in _TYPES.items():
        if kind.equal(known):
            return name
    if isinstance(kind, h5t.TypeOpaqueID) and kind.get_size() == 2:
        raise Refused(
            "this tensor holds bfloat16 numbers, which h5remap does not read",
            hint="load the file in Keras and save it again with float32 weights",
        )
    raise Refused(
        "this tensor does not hold plain numbers (floats of 2, 4 or 8 bytes, integers, booleans)",
        hint="only what Keras itself could have saved is handled",
    )
