"""One way to read a flat list: which weights each layer owns, and in which order a flat file holds them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from remap.keras.case import Case
from remap.keras.outline import Nest, Outline

__all__ = ["Lists", "Reading", "Span", "disorder", "distinction", "keep_tidier", "lists"]

Lists = tuple[tuple[int, ...], ...]
"""For each part of an outline the indices of its weights in the order of its group in a flat file."""


class Span(NamedTuple):
    """A layer's weights: `length` from `start` in the trainable part, `others` from `other` in the rest."""

    start: int
    length: int
    other: int
    others: int

    @property
    def given(self) -> tuple[int, ...]:
        """Name the weights, whichever part they stand in."""
        if self.other == self.start + self.length or not self.others or not self.length:
            return (self.start if self.length else self.other, self.length + self.others)
        return self

    @property
    def trainable(self) -> tuple[int, ...]:
        """List the indices in the trainable part."""
        return tuple(range(self.start, self.start + self.length))

    @property
    def rest(self) -> tuple[int, ...]:
        """List the indices in the rest."""
        return tuple(range(self.other, self.other + self.others))


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """A span for each unit in load order, and the paths of nested models that were frozen as a whole."""

    spans: tuple[Span, ...]
    frozen: frozenset[tuple[str, ...]]


def lists(outline: Outline, reading: Reading) -> Lists:
    """Give what a flat file would hold; a nested model's group is again all trainable weights, then the rest."""
    spans = iter(reading.spans)
    return tuple(
        (*trainable, *rest) for trainable, rest in (_parts(part, reading, spans) for part in outline)
    )


def _parts(part: object, reading: Reading, spans: Iterator[Span]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    if not isinstance(part, Nest):
        span = next(spans)
        return span.trainable, span.rest
    trainable: list[int] = []
    rest: list[int] = []
    for child in part.children:
        upper, lower = _parts(child, reading, spans)
        if isinstance(child, Nest) and child.path in reading.frozen:
            upper, lower = (), (*upper, *lower)
        trainable.extend(upper)
        rest.extend(lower)
    return tuple(trainable), tuple(rest)


def distinction(case: Case, reading: Reading) -> Lists:
    """Give what readings have to differ in: what each layer owns, or only what a flat file in the saved order would hold."""
    if case.apart:
        return tuple((*span.trainable, *span.rest) for span in reading.spans)
    return lists(case.outline, reading)


def disorder(case: Case, reading: Reading) -> int:
    """Count the scopes that a reading mixes within custom layers."""
    mixed = 0
    if case.last_open < 0:
        return 0
    for unit, span in zip(case.units, reading.spans, strict=True):
        if unit.open:
            indices = (*span.trainable, *span.rest)
            heads = {case.scopes[index].partition("/")[0] for index in indices}
            mixed += max(len(heads) - 1, 0)
    return mixed


def keep_tidier(kept: dict[Lists, Reading], case: Case, listed: Lists, reading: Reading) -> None:
    """Keep a reading unless one that makes the same flat file, `listed`, was kept and has no more disorder."""
    rival = kept.get(listed)
    if rival is None or disorder(case, reading) < disorder(case, rival):
        kept[listed] = reading
