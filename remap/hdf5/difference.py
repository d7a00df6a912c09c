"""Compare the bytes of two tensors, a piece at a time: memory does not grow with their size."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Protocol

import numpy as np

from remap.hdf5.reader import tensor_chunks
from remap.hdf5.source import CHUNK

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from remap.checkpoint import Weight
    from remap.hdf5.source import Source
    from remap.hdf5.tensors import Extent

__all__ = [
    "Difference",
    "Parts",
    "Readable",
    "digest",
    "measure",
    "parts_of",
    "parts_of_array",
    "parts_of_rows",
]

# Elements that are compared at a time: what is computed of them stays in the caches of a processor.
_PART = 1 << 14
_STEP = 1 << 17


class Readable(Protocol):
    """An open file of which the bytes of each weight are known to lie somewhere."""

    @property
    def source(self) -> Source:
        """Give the file."""
        ...

    def extent(self, weight: Weight) -> Extent:
        """Say where the bytes of a weight lie."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """How two tensors of one shape differ.

    `differing` counts the elements of other bits. The largest absolute and relative difference are those between
    finite values, None where there are none.
    """

    differing: int
    largest_absolute: float | None
    largest_relative: float | None


class _Sum:
    """Differences of pieces, put together."""

    def __init__(self) -> None:
        self.differing = 0
        self.absolute: float | None = None
        self.relative: float | None = None

    def add_in_parts(self, ours: NDArray[np.generic], theirs: NDArray[np.generic]) -> None:
        if ours.dtype == theirs.dtype and np.array_equal(_bits(ours), _bits(theirs)):
            return
        for start in range(0, len(ours), _PART):
            self.add(ours[start : start + _PART], theirs[start : start + _PART])

    def add(self, ours: NDArray[np.generic], theirs: NDArray[np.generic]) -> None:
        if ours.dtype == theirs.dtype:
            unlike = _bits(ours) != _bits(theirs)
        else:
            unlike = ours != theirs
        count = int(np.count_nonzero(unlike))
        if not count:
            return
        self.differing += count
        first, second = ours.astype(np.float64), theirs.astype(np.float64)
        with np.errstate(over="ignore", invalid="ignore"):
            apart = np.abs(first - second)
            largest = float(apart.max())
        if not np.isfinite(largest):
            finite = np.isfinite(first) & np.isfinite(second)
            if not (finite & unlike).any():
                return
            first, second = first[finite], second[finite]
            with np.errstate(over="ignore"):
                apart = np.abs(first - second)
            largest = float(apart.max())
        larger = np.maximum(np.abs(first), np.abs(second))
        share = np.divide(apart, larger, out=np.zeros_like(apart), where=larger > 0)
        self.absolute = max(self.absolute or 0.0, largest)
        self.relative = max(self.relative or 0.0, float(share.max()))

    def total(self) -> Difference:
        largest = None if self.absolute is None else min(self.absolute, float(np.finfo(np.float64).max))
        return Difference(differing=self.differing, largest_absolute=largest, largest_relative=self.relative)


def _bits(values: NDArray[np.generic]) -> NDArray[np.generic]:
    return values.view(np.dtype(f"u{values.dtype.itemsize}"))


Parts = Iterable[tuple["NDArray[np.generic]", "NDArray[np.generic]"]]
"""The elements of two tensors, in pieces of equal sizes; the next pieces may overwrite each."""


def measure(parts: Parts) -> Difference:
    """Compare two tensors."""
    found = _Sum()
    for left, right in parts:
        found.add_in_parts(left, right)
    return found.total()


def parts_of(one: Readable, ours: Weight, other: Readable, theirs: Weight) -> Parts:
    """Give the elements of two weights with equal numbers of them; raises InputRefused when a file cannot be read."""
    if ours.dtype == theirs.dtype:
        for left, right in zip(tensor_chunks(one, ours), tensor_chunks(other, theirs), strict=True):
            yield np.frombuffer(left, ours.dtype), np.frombuffer(right, theirs.dtype)
        return
    for left_part, right_part in zip(_values(one, ours), _values(other, theirs), strict=True):
        yield _native(left_part), _native(right_part)


def parts_of_array(values: NDArray[np.generic], opened: Readable, weight: Weight) -> Parts:
    """Give the elements of an array and of a weight of as many."""
    flat = values.reshape(-1)
    start = 0
    for part in _values(opened, weight):
        yield _native(flat[start : start + part.size]), _native(part)
        start += part.size


def parts_of_rows(
    make: Callable[[NDArray[np.generic]], NDArray[np.generic]],
    old_file: Readable,
    old: Weight,
    new_file: Readable,
    new: Weight,
) -> Parts:
    """Give what `make` makes of some rows of one weight, and the same rows of another, a mebibyte at a time."""
    rows, columns = old.shape[0], prod(old.shape[1:])
    sizes = [columns * np.dtype(weight.dtype).itemsize for weight in (old, new)]
    step = max(CHUNK // max(*sizes, 1), 1)
    for start in range(0, rows if columns else 0, step):
        count = min(step, rows - start)
        parts = []
        for file, weight, size in ((old_file, old, sizes[0]), (new_file, new, sizes[1])):
            part = np.empty((count, *old.shape[1:]), weight.dtype)
            view = memoryview(part.reshape(-1).view(np.uint8).data)
            file.source.read_into(view, file.extent(weight).offset + start * size)
            parts.append(part)
        yield _native(make(parts[0]).reshape(-1)), _native(parts[1].reshape(-1))


def digest(opened: Readable, weight: Weight, *, start: bool = False) -> bytes:
    """Sum up the bytes of a weight, or only those at its start, in one byte order, so that equal weights are found."""
    import hashlib  # loads all of OpenSSL, which most comparisons do not need

    total = hashlib.blake2b(digest_size=32)
    for part in _values(opened, weight):
        total.update(_native(part).tobytes())
        if start:
            break
    return total.digest()


def _values(opened: Readable, weight: Weight) -> Iterator[NDArray[np.generic]]:
    """Give the elements of a weight in pieces of a fixed number of elements."""
    extent = opened.extent(weight)
    size = np.dtype(weight.dtype).itemsize
    step = _STEP
    buffer = memoryview(bytearray(min(extent.size, step * size)))
    for start in range(0, extent.size, step * size):
        part = buffer[: min(step * size, extent.size - start)]
        opened.source.read_into(part, extent.offset + start)
        yield np.frombuffer(part, weight.dtype)


def _native(values: NDArray[np.generic]) -> NDArray[np.generic]:
    return values.astype(values.dtype.newbyteorder("="), copy=False)
