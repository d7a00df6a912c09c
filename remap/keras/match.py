"""Which weights of a list may stand in which places, one by one: by leaf, shape, and what the names testify."""

from __future__ import annotations

from collections import defaultdict

from remap.keras.case import Case, Testimony
from remap.keras.outline import Unit

__all__ = ["Match", "TooManyReadings"]


class TooManyReadings(Exception):
    """More readings than can be told apart."""


class Match:
    """The weights of a case held against its layers, a `limit` of times in all.

    With a testimony a weight goes only to a unit that the testimony names for it; unless `strict`, a weight of which
    the testimony says nothing goes anywhere. `heard` says that a unit takes no weight but those that the testimony
    gives it, which `spoken_for` lists.
    """

    def __init__(self, case: Case, testimony: Testimony | None, *, strict: bool, limit: int) -> None:
        self._weights = list(zip(case.leaves, (weight.shape for weight in case.weights), strict=True))
        self._testimony = testimony
        self._strict = strict
        self._steps, self._limit = 0, limit
        self.heard = strict and testimony is not None
        self.spoken_for: dict[int, list[int]] = defaultdict(list)
        for index, owners in enumerate(testimony or ()):
            for owner in owners:
                self.spoken_for[owner].append(index)

    def fits(self, unit: Unit, number: int, first: int, start: int, count: int) -> bool:
        """Tell whether `count` weights from `start` on may be the unit's slots from `first` on."""
        if start + count > len(self._weights):
            return False
        for offset in range(count):
            self.step()
            index = start + offset
            if not unit.open and not unit.slots[first + offset].takes(*self._weights[index]):
                return False
            if self._testimony is not None:
                owners = self._testimony[index]
                if number not in owners and (self._strict or owners):
                    return False
        return True

    def longest(self, unit: Unit, number: int, start: int, most: int) -> int:
        """Count how many weights from `start` on may be the unit's first ones."""
        for count in range(most):
            if not self.fits(unit, number, count, start + count, 1):
                return count
        return most

    def claimed(self, index: int, units: frozenset[int]) -> bool:
        """Tell whether a weight can belong to nothing but these units, so that nothing else may take it."""
        if self._testimony is None or not self._strict:
            return False
        owners = self._testimony[index]
        return bool(owners) and owners <= units

    def step(self) -> None:
        """Count one more comparison; raises TooManyReadings when that is one too many."""
        self._steps += 1
        if self._steps > self._limit:
            raise TooManyReadings
