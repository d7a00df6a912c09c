"""How far weights moved between two files: norms, distance and angle, summed up in float64 a piece at a time."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from remap.comparison.results import ComparedTensor, MovedLayer, Movement

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from remap.hdf5.difference import Parts

__all__ = ["Sums", "moved_layers", "sums_of"]

_LARGEST = float(np.finfo(np.float64).max)
# Elements: what is computed of them stays in the caches of a processor, and no library starts threads for them.
_PART = 1 << 13
# Squares of larger and smaller powers of two may overflow or vanish, so numbers are scaled before: by a power of two,
# which changes no digit.
_EXTREME = 480


@dataclass(slots=True)
class _Sum:
    """A sum of squares or products; each part with the power of two by which it was scaled, so that none overflows."""

    parts: list[tuple[float, int]] = field(default_factory=list)

    def scaled(self) -> tuple[float, int]:
        """Give the sum, and the power of two to multiply it with."""
        if not self.parts:
            return 0.0, 0
        largest = max(exponent for _, exponent in self.parts)
        return math.fsum(math.ldexp(part, exponent - largest) for part, exponent in self.parts), largest


@dataclass(slots=True)
class Sums:
    """What is summed up of two tensors or layers: of the elements that are finite in both."""

    first: _Sum = field(default_factory=_Sum)
    second: _Sum = field(default_factory=_Sum)
    apart: _Sum = field(default_factory=_Sum)
    product: _Sum = field(default_factory=_Sum)
    elements: int = 0
    not_finite: int = 0

    def add(self, ours: NDArray[np.generic], theirs: NDArray[np.generic]) -> None:
        """Add elements of both."""
        first, second = ours.astype(np.float64), theirs.astype(np.float64)
        finite = np.isfinite(first) & np.isfinite(second)
        if not finite.all():
            first, second = first[finite], second[finite]
        self.elements += first.size
        self.not_finite += ours.size - first.size
        ours_by, theirs_by = _exponent(first), _exponent(second)
        both_by = max(ours_by, theirs_by)
        if max(abs(ours_by), abs(theirs_by)) < _EXTREME:
            ours_by = theirs_by = both_by = 0
            apart = first - second
        else:
            both_by += 1  # for the difference of two elements of opposite signs
            apart = np.ldexp(first, -both_by) - np.ldexp(second, -both_by)
            first, second = np.ldexp(first, -ours_by), np.ldexp(second, -theirs_by)
        for total, left, right, exponent in (
            (self.first, first, first, 2 * ours_by),
            (self.second, second, second, 2 * theirs_by),
            (self.apart, apart, apart, 2 * both_by),
            (self.product, first, second, ours_by + theirs_by),
        ):
            if value := float(np.dot(left, right)):
                total.parts.append((value, exponent))

    def join(self, other: Sums) -> None:
        """Add all that another has."""
        for total, more in (
            (self.first, other.first),
            (self.second, other.second),
            (self.apart, other.apart),
            (self.product, other.product),
        ):
            total.parts += more.parts
        self.elements += other.elements
        self.not_finite += other.not_finite

    def compact(self) -> Sums:
        """Give the same with one part for each sum: memory does not grow with the number of pieces."""
        for total in (self.first, self.second, self.apart, self.product):
            value, exponent = total.scaled()
            total.parts = [(value, exponent)] if value else []
        return self

    def movement(self) -> Movement:
        """Give norms, distance and cosine."""
        norm_a, norm_b, distance = _root(self.first), _root(self.second), _root(self.apart)
        return Movement(
            norm_a=norm_a,
            norm_b=norm_b,
            distance=distance,
            relative=_ratio(self.apart, self.first),
            cosine=_cosine(self),
            elements=self.elements,
            not_finite=self.not_finite,
        )


def _exponent(values: NDArray[np.float64]) -> int:
    """Give the power of two above all of some numbers."""
    return math.frexp(float(np.abs(values).max(initial=0.0)))[1]


def _root(total: _Sum) -> float:
    value, exponent = total.scaled()
    try:
        return math.ldexp(math.sqrt(value), exponent // 2)
    except OverflowError:
        return _LARGEST


def _ratio(above: _Sum, below: _Sum) -> float | None:
    (upper, up), (lower, down) = above.scaled(), below.scaled()
    if not lower:
        return None
    try:
        return math.ldexp(math.sqrt(upper) / math.sqrt(lower), (up - down) // 2)
    except OverflowError:
        return _LARGEST


def _cosine(sums: Sums) -> float | None:
    (first, up), (second, down), (product, across) = (
        total.scaled() for total in (sums.first, sums.second, sums.product)
    )
    if not first or not second:
        return None
    # The exponents are even, so halving them is exact.
    value = math.ldexp(product / math.sqrt(first) / math.sqrt(second), across - up // 2 - down // 2)
    return max(-1.0, min(1.0, value))


def sums_of(parts: Parts) -> Sums:
    """Sum up two tensors."""
    sums = Sums()
    for number, (left, right) in enumerate(parts):
        for start in range(0, left.size, _PART):
            sums.add(left[start : start + _PART], right[start : start + _PART])
        if number % 64 == 63:
            sums.compact()
    return sums.compact()


def moved_layers(found: Iterable[tuple[ComparedTensor, Sums | None]]) -> tuple[MovedLayer, ...]:
    """Put tensors together by their layers; a tensor without sums has no partner of its shape."""
    layers: dict[tuple[str, ...], list[tuple[ComparedTensor, Sums | None]]] = {}
    for tensor, sums in found:
        layers.setdefault(tensor.layer or (tensor.a or tensor.b or "",), []).append((tensor, sums))
    return tuple(_moved(name, share) for name, share in layers.items())


def _moved(name: tuple[str, ...], share: Sequence[tuple[ComparedTensor, Sums | None]]) -> MovedLayer:
    whole = Sums()
    for _, sums in share:
        if sums is not None:
            whole.join(sums)
    return MovedLayer(
        layer=name,
        tensors=len(share),
        unmoved=all(tensor.equal for tensor, _ in share),
        movement=whole.movement() if any(sums is not None for _, sums in share) else None,
    )
