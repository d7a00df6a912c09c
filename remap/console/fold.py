"""Long runs of like things, found so that they can be told in one row."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

__all__ = ["Run", "folded"]

Item = TypeVar("Item")

_LONGEST_CYCLE = 24
_LEAST_HIDDEN = 6


@dataclass(frozen=True, slots=True)
class Run:
    """So many items from `start` on that repeat the `cycle` items before them."""

    start: int
    count: int
    cycle: int


def folded(items: Sequence[Item], key: Callable[[Item], Hashable]) -> Iterator[Item | Run]:
    """Yield the items, and in place of the repeats of a cycle of like items a Run.

    A cycle is shown once. Only what comes three times or more and hides six items or more is folded.
    """
    keys = [key(item) for item in items]
    place = 0
    while place < len(items):
        cycle, repeats = _cycle(keys, place)
        hidden = cycle * (repeats - 1)
        if repeats < 3 or hidden < _LEAST_HIDDEN:
            yield items[place]
            place += 1
            continue
        yield from items[place : place + cycle]
        yield Run(place + cycle, hidden, cycle)
        place += cycle + hidden


def _cycle(keys: Sequence[Hashable], start: int) -> tuple[int, int]:
    """Find the cycle that covers most from `start` on: its length and how often it comes."""
    best = (1, 1)
    for length in range(1, min(_LONGEST_CYCLE, (len(keys) - start) // 2) + 1):
        end = start + length
        while end < len(keys) and keys[end] == keys[end - length]:
            end += 1
        repeats = (end - start) // length
        if repeats > 1 and repeats * length > best[0] * best[1]:
            best = (length, repeats)
    return best
