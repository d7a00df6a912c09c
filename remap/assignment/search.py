"""All ways to read a flat list of weights as the outline of a model.

A list is every trainable weight in layer order, then every other in layer order. Reading it walks the outline
once with two fingers: one in the trainable part, one in the rest. Where the rest begins is settled when the
first layer needs it. A nested model is either trainable, so that its layers take part like all others, or was
frozen as a whole: then its own list, itself split in two, lies in one piece in the rest
(`Network.non_trainable_weights`). Positions, leaf names and shapes decide; what the names testify may be
required on top.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from remap.assignment.expected import ExpectedLayer
from remap.assignment.reading import (
    Candidates,
    Instruction,
    Lists,
    Problem,
    Reading,
    Span,
    distinction,
    keep_tidier,
)

__all__ = ["Match", "TooManyReadings", "read_list"]


class TooManyReadings(Exception):
    """More readings than can be told apart."""


class Match:
    """The weights of a case held against its layers, a `limit` of times in all.

    With a testimony a weight goes only to a unit that the testimony names for it; unless `strict`, a weight of which
    the testimony says nothing goes anywhere. `heard` says that a unit takes no weight but those that the testimony
    gives it, which `spoken_for` lists.
    """

    def __init__(self, case: Problem, testimony: Candidates | None, *, strict: bool, limit: int) -> None:
        self._weights = list(zip(case.leaves, (weight.shape for weight in case.weights), strict=True))
        self._testimony = testimony
        self._strict = strict
        self._steps, self._limit = 0, limit
        self.heard = strict and testimony is not None
        self.spoken_for: dict[int, list[int]] = defaultdict(list)
        for index, owners in enumerate(testimony or ()):
            for owner in owners:
                self.spoken_for[owner].append(index)

    def fits(self, unit: ExpectedLayer, number: int, first: int, start: int, count: int) -> bool:
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

    def longest(self, unit: ExpectedLayer, number: int, start: int, most: int) -> int:
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


# The limits stop a search that no evidence guides or that a file was made to inflate; what exceeds them is
# refused, never guessed. Real files need about one step a weight; what takes many more is short, and a long list
# leaves less time for them.
_STEPS, _LESS_A_WEIGHT, _LEAST_A_WEIGHT = 40_000, 2, 2
_BRIEF, _BRIEF_A_WEIGHT = 1_000, 1
_KEPT = 24
_UNKNOWN = -1


class _Frame(NamedTuple):
    """Where one list has been read to: its trainable part, where its rest begins, and the rest."""

    trainable: int
    rest: int
    other: int
    end: int  # index of the instruction that ends the list


# A frame for each list begun: None for a nested model that shares its surroundings' list. Then what is left
# of the weights that the outline does not account for, which only layers of the user's own class may take.
_State = tuple[tuple[_Frame | None, ...], int]
_Trail = tuple["_Trail", Span | bool] | None


def read_list(
    case: Problem, *, testimony: Candidates | None = None, strict: bool = True, brief: bool = False
) -> dict[Lists, Reading]:
    """Find all readings of a flat list that differ in what a flat file would hold, by what that is.

    With a testimony a weight goes only to a unit that the testimony names for it; unless `strict`, a weight
    of which the testimony says nothing goes anywhere. Nothing found means that nothing fits. Raises
    TooManyReadings when there are too many to tell apart, when `brief` as soon as that is likely.
    """
    if strict and testimony is not None and not all(testimony):
        return {}
    if case.spare < 0 or (case.spare and case.last_open < 0):
        return {}
    count = len(case.weights)
    limit = max(_STEPS - _LESS_A_WEIGHT * count, _LEAST_A_WEIGHT * count)
    if brief:
        limit = min(limit, _BRIEF + _BRIEF_A_WEIGHT * count)
    search = _Search(case, Match(case, testimony, strict=strict, limit=limit))
    distinct: dict[Lists, Reading] = {}
    for reading in map(search.reading, search.run()):
        keep_tidier(distinct, case, distinction(case, reading), reading)
    return distinct


class _Search:
    def __init__(self, case: Problem, match: Match) -> None:
        self.case, self.match = case, match
        self.units, self.program = case.units, case.program
        self.most, self.least = case.most, case.least

    def run(self) -> Iterator[_Trail]:
        """Yield the trail of every complete reading."""
        start: _State = ((_Frame(0, _UNKNOWN, _UNKNOWN, len(self.program)),), self.case.spare)
        # For each state the ways to it, told apart by what was given to each layer: whether that stands in
        # one part or the other changes no group, for every group lists its weights as the file does.
        frontier: dict[_State, dict[int, _Trail]] = {start: {0: None}}
        for position, step in enumerate(self.program):
            following: dict[_State, dict[int, _Trail]] = {}
            for state, trails in frontier.items():
                for after, decision in self._moves(state, step, position):
                    kept = following.setdefault(after, {})
                    for given, trail in trails.items():
                        if len(kept) > _KEPT:
                            break  # one more than is kept marks the state as one with too many ways to it
                        now = hash((given, decision.given)) if isinstance(decision, Span) else given
                        kept.setdefault(now, (trail, decision))
            frontier = following
        for (frames, left), trails in frontier.items():
            if left == 0 and frames[0] is not None and self._end(frames[0]) == len(self.case.weights):
                if len(trails) > _KEPT:
                    raise TooManyReadings
                yield from trails.values()

    def reading(self, trail: _Trail) -> Reading:
        """Turn a trail back into what it decided."""
        spans: list[Span] = []
        frozen: set[tuple[str, ...]] = set()
        for step in reversed(self.program):
            assert trail is not None  # noqa: S101 - a trail has one decision an instruction
            trail, decision = trail
            if isinstance(decision, Span):
                spans.append(decision)
            elif step.nest is not None and decision:
                frozen.add(step.nest.path)
        spans.reverse()
        stored = (unit.same_as for unit in self.units)
        owned = (span if own is None else spans[own] for span, own in zip(spans, stored, strict=True))
        return Reading(spans=tuple(owned), frozen=frozenset(frozen))

    def _moves(self, state: _State, step: Instruction, position: int) -> Iterator[tuple[_State, Span | bool]]:
        frames, spare = state
        if step.unit is None and step.nest is None:
            ended = self._leave(frames)
            if ended is not None:
                yield (ended, spare), False
            return
        place, frame = _innermost(frames)
        if step.unit is None:
            yield ((*frames, None), spare), False
            yield from self._freeze(frames, spare, place, frame, step, position)
            return
        for span in self._spans(step.unit, frame, step, position, place, spare):
            begins = frame.rest if frame.rest != _UNKNOWN or not span.others else span.other
            other = span.other + span.others if span.others else frame.other
            after = _Frame(span.start + span.length, begins, other, frame.end)
            if self._possible(after, position + 1, place):
                left = spare - (span.length + span.others if step.unit.open else 0)
                yield ((*frames[:place], after, *frames[place + 1 :]), left), span

    def _spans(
        self, unit: ExpectedLayer, frame: _Frame, step: Instruction, position: int, place: int, spare: int
    ) -> Iterator[Span]:
        start = frame.trainable
        if unit.open:
            yield from self._open_spans(unit, frame, step, position, place, spare)
            return
        size = len(unit.slots)
        longest = self.match.longest(unit, step.number, start, max(unit.splits))
        own = frozenset((step.number,))
        whole = size in unit.splits and longest == size
        for count in unit.splits:
            others = size - count
            if count > longest or (
                count < longest and start + count != frame.rest and self.match.claimed(start + count, own)
            ):
                continue
            for other in self._beginnings(frame, step, position, place, start + count, needed=bool(others)):
                if whole and others and other == start + count and frame.rest == _UNKNOWN:
                    continue  # the same weights as when the layer is read as trainable
                if self.match.fits(unit, step.number, count, other, others):
                    yield Span(start, count, other, others)

    def _open_spans(
        self, unit: ExpectedLayer, frame: _Frame, step: Instruction, position: int, place: int, spare: int
    ) -> Iterator[Span]:
        """Give a layer of the user's own class any run of weights in either part."""
        start = frame.trainable
        fewest = spare if step.number == self.case.last_open else 0
        longest = self.match.longest(unit, step.number, start, spare) if unit.splits[0] else 0
        for count in range(longest, -1, -1):
            if count >= fewest:
                yield Span(start, count, frame.other, 0)
            if count == spare:
                continue
            for other in self._beginnings(frame, step, position, place, start + count, needed=True):
                most = self.match.longest(unit, step.number, other, spare - count)
                for others in range(max(1, fewest - count), most + 1):
                    yield Span(start, count, other, others)

    def _beginnings(
        self, frame: _Frame, step: Instruction, position: int, place: int, start: int, *, needed: bool
    ) -> Iterable[int]:
        """Say where the next weights of the rest may begin."""
        if not needed or frame.rest != _UNKNOWN:
            return (frame.other,)
        least = self.least[place]
        first = start + least[frame.end] - least[position + 1]
        last = min(start + self.most[frame.end] - self.most[position + 1], len(self.case.weights) - 1)
        if not self.match.heard:
            return range(first, last + 1)
        spoken_for = self.match.spoken_for[step.number]
        own = frozenset((step.number,))
        return [
            index
            for index in spoken_for[bisect_left(spoken_for, first) :]
            if index <= last and (index == first or not self.match.claimed(index - 1, own))
        ]

    def _freeze(
        self,
        frames: tuple[_Frame | None, ...],
        spare: int,
        place: int,
        frame: _Frame,
        step: Instruction,
        position: int,
    ) -> Iterator[tuple[_State, bool]]:
        """Read a nested model's list as one piece of the rest, if that differs from its being trainable."""
        if self.most[step.number] == self.most[position]:
            return
        start = frame.trainable
        for begin in (frame.other,) if frame.rest != _UNKNOWN else self._openings(frame, step, position):
            self.match.step()
            outer = _Frame(start, begin if frame.rest == _UNKNOWN else frame.rest, begin, frame.end)
            if self._possible(outer, step.number, place):
                inner = _Frame(begin, _UNKNOWN, _UNKNOWN, step.number)
                yield ((*frames[:place], outer, *frames[place + 1 :], inner), spare), True

    def _openings(self, frame: _Frame, step: Instruction, position: int) -> list[int]:
        """Say where the list of a nested model may begin, if it is the first thing in the rest."""
        start = frame.trainable
        last = min(start + self.most[frame.end] - self.most[step.number], len(self.case.weights) - 1)
        if not self.match.heard:
            return list(range(start, last + 1))
        inside = [inner.number for inner in self.program[position : step.number] if inner.unit is not None]
        spoken_for = sorted({index for unit in inside for index in self.match.spoken_for[unit]})
        claimed = frozenset(inside)
        # A list is one piece: it would have begun before a weight that follows another one of its own.
        return [
            index
            for index in spoken_for[bisect_left(spoken_for, start) :]
            if index <= last and (index == start or not self.match.claimed(index - 1, claimed))
        ]

    def _leave(self, frames: tuple[_Frame | None, ...]) -> tuple[_Frame | None, ...] | None:
        """End a nested model; the surrounding list goes on behind it."""
        *rest, last = frames
        if last is not None:
            end = self._end(last)
            if end is None:
                return None
            place, outer = _innermost(rest)
            rest[place] = _Frame(outer.trainable, outer.rest, end, outer.end)
        return tuple(rest)

    def _end(self, frame: _Frame) -> int | None:
        """Give the end of a list that was read to its end, None for one whose parts do not meet."""
        if frame.rest == _UNKNOWN:
            return frame.trainable
        return frame.other if frame.trainable == frame.rest else None

    def _possible(self, frame: _Frame, position: int, depth: int) -> bool:
        """Tell whether what follows can fill the trainable part up to where the rest begins."""
        if frame.rest == _UNKNOWN:
            return True
        least = self.least[depth]
        missing = frame.rest - frame.trainable
        return least[frame.end] - least[position] <= missing <= self.most[frame.end] - self.most[position]


def _innermost(frames: Sequence[_Frame | None]) -> tuple[int, _Frame]:
    """Find the list that is being read: the last that was begun."""
    place = len(frames) - 1
    while (frame := frames[place]) is None:
        place -= 1
    return place, frame
