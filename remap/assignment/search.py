"""Find all readings of a flat list of weights that an expected model allows.

The list has every trainable weight in layer order, then all others in layer order. The search goes through the expected
layers once and keeps two positions: one in the trainable part, one in the rest. Where the rest begins is decided when the
first layer needs it. A nested model is either trainable, so that its layers take part like all others, or was frozen as a
whole: then its own list, itself in two parts, lies in one piece in the rest (`Network.non_trainable_weights`). Positions,
leaf names and shapes decide; the candidates that names give may be required in addition.
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
    keep_better,
)

__all__ = ["Match", "TooManyReadings", "read_list"]


class TooManyReadings(Exception):
    """There are more readings than the search keeps, or it took too many steps."""


class Match:
    """Compare the weights of a problem with its layers.

    With candidates, a weight belongs only to one of its candidates. Unless `strict`, a weight without candidates may
    belong to any layer.

    Attributes:
        exclusive: Whether every layer takes only weights whose candidate it is.
        weights_of: For each layer the weights whose candidate it is.
    """

    def __init__(self, problem: Problem, candidates: Candidates | None, *, strict: bool, limit: int) -> None:
        self._weights = list(zip(problem.leaves, (weight.shape for weight in problem.weights), strict=True))
        self._candidates = candidates
        self._strict = strict
        self._steps, self._limit = 0, limit
        self.exclusive = strict and candidates is not None
        self.weights_of: dict[int, list[int]] = defaultdict(list)
        for index, owners in enumerate(candidates or ()):
            for owner in owners:
                self.weights_of[owner].append(index)

    def fits(self, layer: ExpectedLayer, number: int, first: int, start: int, count: int) -> bool:
        """Tell whether `count` weights from `start` on may be the layer's slots from `first` on."""
        if start + count > len(self._weights):
            return False
        for offset in range(count):
            self.step()
            index = start + offset
            if not layer.custom and not layer.slots[first + offset].takes(*self._weights[index]):
                return False
            if self._candidates is not None:
                owners = self._candidates[index]
                if number not in owners and (self._strict or owners):
                    return False
        return True

    def longest(self, layer: ExpectedLayer, number: int, start: int, most: int) -> int:
        """Count how many weights from `start` on may be the layer's first ones."""
        for count in range(most):
            if not self.fits(layer, number, count, start + count, 1):
                return count
        return most

    def reserved(self, index: int, layers: frozenset[int]) -> bool:
        """Tell whether a weight can belong only to these layers."""
        if self._candidates is None or not self._strict:
            return False
        owners = self._candidates[index]
        return bool(owners) and owners <= layers

    def step(self) -> None:
        """Count one comparison; raises TooManyReadings beyond the limit."""
        self._steps += 1
        if self._steps > self._limit:
            raise TooManyReadings


# The limits stop a search in a file whose names tell nothing, or that was made to take long; what exceeds them is
# refused, never guessed. Real files need about one step for each weight; those that take many more are short, so a long
# list has fewer steps for each weight.
_STEPS, _LESS_A_WEIGHT, _LEAST_A_WEIGHT = 40_000, 2, 2
_BRIEF, _BRIEF_A_WEIGHT = 1_000, 1
_KEPT = 24
_UNKNOWN = -1


class _Frame(NamedTuple):
    """How far one list has been read: its trainable part, where its rest begins, and the rest."""

    trainable: int
    rest: int
    other: int
    end: int  # index of the instruction that ends the list


# A frame for each list that was begun, None for a nested model whose weights stand in the list around it. Then how many
# weights are left for custom layers.
_State = tuple[tuple[_Frame | None, ...], int]
_Trail = tuple["_Trail", Span | bool] | None


def read_list(
    problem: Problem, *, candidates: Candidates | None = None, strict: bool = True, brief: bool = False
) -> dict[Lists, Reading]:
    """Find all different readings of a flat list.

    Args:
        problem: The list and the expected model.
        candidates: The layers to which each weight may belong by its name; None if names do not count.
        strict: Whether a weight without candidates belongs to no layer; otherwise it may belong to any.
        brief: Whether to stop as soon as it is likely that there are too many.

    Returns:
        The readings by what makes them different; empty if nothing fits.

    Raises:
        TooManyReadings: If there are too many.
    """
    if strict and candidates is not None and not all(candidates):
        return {}
    if problem.spare < 0 or (problem.spare and problem.last_custom < 0):
        return {}
    count = len(problem.weights)
    limit = max(_STEPS - _LESS_A_WEIGHT * count, _LEAST_A_WEIGHT * count)
    if brief:
        limit = min(limit, _BRIEF + _BRIEF_A_WEIGHT * count)
    search = _Search(problem, Match(problem, candidates, strict=strict, limit=limit))
    distinct: dict[Lists, Reading] = {}
    for reading in map(search.reading, search.run()):
        keep_better(distinct, problem, distinction(problem, reading), reading)
    return distinct


class _Search:
    def __init__(self, problem: Problem, match: Match) -> None:
        self.problem, self.match = problem, match
        self.layers, self.program = problem.layers, problem.program
        self.most, self.least = problem.most, problem.least

    def run(self) -> Iterator[_Trail]:
        """Yield the decisions of every complete reading."""
        start: _State = ((_Frame(0, _UNKNOWN, _UNKNOWN, len(self.program)),), self.problem.spare)
        # For each state the ways to it, distinguished by the weights that each layer got: in which part they stand
        # changes no group, because every group lists its weights as the file does.
        frontier: dict[_State, dict[int, _Trail]] = {start: {0: None}}
        for position, step in enumerate(self.program):
            following: dict[_State, dict[int, _Trail]] = {}
            for state, trails in frontier.items():
                for after, decision in self._moves(state, step, position):
                    kept = following.setdefault(after, {})
                    for given, trail in trails.items():
                        if len(kept) > _KEPT:
                            break  # one more than is kept shows that there are too many ways to the state
                        now = hash((given, decision.given)) if isinstance(decision, Span) else given
                        kept.setdefault(now, (trail, decision))
            frontier = following
        for (frames, left), trails in frontier.items():
            if left == 0 and frames[0] is not None and self._end(frames[0]) == len(self.problem.weights):
                if len(trails) > _KEPT:
                    raise TooManyReadings
                yield from trails.values()

    def reading(self, trail: _Trail) -> Reading:
        """Make a reading of the decisions."""
        spans: list[Span] = []
        frozen: set[tuple[str, ...]] = set()
        for step in reversed(self.program):
            assert trail is not None  # noqa: S101 - a trail has one decision an instruction
            trail, decision = trail
            if isinstance(decision, Span):
                spans.append(decision)
            elif step.submodel is not None and decision:
                frozen.add(step.submodel.path)
        for step in self.program:
            if step.submodel is not None and step.submodel.same_as in frozen:
                frozen.add(step.submodel.path)
        spans.reverse()
        stored = (layer.same_as for layer in self.layers)
        owned = (span if own is None else spans[own] for span, own in zip(spans, stored, strict=True))
        return Reading(spans=tuple(owned), frozen=frozenset(frozen))

    def _moves(self, state: _State, step: Instruction, position: int) -> Iterator[tuple[_State, Span | bool]]:
        frames, spare = state
        if step.layer is None and step.submodel is None:
            ended = self._leave(frames)
            if ended is not None:
                yield (ended, spare), False
            return
        place, frame = _innermost(frames)
        if step.layer is None:
            yield ((*frames, None), spare), False
            yield from self._freeze(frames, spare, place, frame, step, position)
            return
        for span in self._spans(step.layer, frame, step, position, place, spare):
            begins = frame.rest if frame.rest != _UNKNOWN or not span.others else span.other
            other = span.other + span.others if span.others else frame.other
            after = _Frame(span.start + span.length, begins, other, frame.end)
            if self._possible(after, position + 1, place):
                left = spare - (span.length + span.others if step.layer.custom else 0)
                yield ((*frames[:place], after, *frames[place + 1 :]), left), span

    def _spans(
        self, layer: ExpectedLayer, frame: _Frame, step: Instruction, position: int, place: int, spare: int
    ) -> Iterator[Span]:
        start = frame.trainable
        if layer.custom:
            yield from self._custom_spans(layer, frame, step, position, place, spare)
            return
        size = len(layer.slots)
        longest = self.match.longest(layer, step.number, start, max(layer.splits))
        own = frozenset((step.number,))
        whole = size in layer.splits and longest == size
        for count in layer.splits:
            others = size - count
            if count > longest or (
                count < longest and start + count != frame.rest and self.match.reserved(start + count, own)
            ):
                continue
            for other in self._beginnings(frame, step, position, place, start + count, needed=bool(others)):
                if whole and others and other == start + count and frame.rest == _UNKNOWN:
                    continue  # the same weights as when the layer is read as trainable
                if self.match.fits(layer, step.number, count, other, others):
                    yield Span(start, count, other, others)

    def _custom_spans(
        self, layer: ExpectedLayer, frame: _Frame, step: Instruction, position: int, place: int, spare: int
    ) -> Iterator[Span]:
        """Give a custom layer any run of weights in either part."""
        start = frame.trainable
        fewest = spare if step.number == self.problem.last_custom else 0
        longest = self.match.longest(layer, step.number, start, spare) if layer.splits[0] else 0
        for count in range(longest, -1, -1):
            if count >= fewest:
                yield Span(start, count, frame.other, 0)
            if count == spare:
                continue
            for other in self._beginnings(frame, step, position, place, start + count, needed=True):
                most = self.match.longest(layer, step.number, other, spare - count)
                for others in range(max(1, fewest - count), most + 1):
                    yield Span(start, count, other, others)

    def _beginnings(
        self, frame: _Frame, step: Instruction, position: int, place: int, start: int, *, needed: bool
    ) -> Iterable[int]:
        """Give the positions at which the next weights of the rest may begin."""
        if not needed or frame.rest != _UNKNOWN:
            return (frame.other,)
        least = self.least[place]
        first = start + least[frame.end] - least[position + 1]
        last = min(start + self.most[frame.end] - self.most[position + 1], len(self.problem.weights) - 1)
        if not self.match.exclusive:
            return range(first, last + 1)
        listed = self.match.weights_of[step.number]
        own = frozenset((step.number,))
        return [
            index
            for index in listed[bisect_left(listed, first) :]
            if index <= last and (index == first or not self.match.reserved(index - 1, own))
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
        """Read a nested model's list as one piece of the rest, if that differs from reading it as trainable."""
        if self.most[step.number] == self.most[position]:
            return
        start = frame.trainable
        for begin in (frame.other,) if frame.rest != _UNKNOWN else self._openings(frame, step, position):
            if begin == start and frame.rest == _UNKNOWN:
                continue  # nothing can be trainable behind it: every layer owns the same weights as if it were trainable
            self.match.step()
            outer = _Frame(start, begin if frame.rest == _UNKNOWN else frame.rest, begin, frame.end)
            if self._possible(outer, step.number, place):
                inner = _Frame(begin, _UNKNOWN, _UNKNOWN, step.number)
                yield ((*frames[:place], outer, *frames[place + 1 :], inner), spare), True

    def _openings(self, frame: _Frame, step: Instruction, position: int) -> list[int]:
        """Give the positions at which the list of a nested model may begin if it is the first one in the rest."""
        start = frame.trainable
        last = min(start + self.most[frame.end] - self.most[step.number], len(self.problem.weights) - 1)
        if not self.match.exclusive:
            return list(range(start, last + 1))
        inside = [inner.number for inner in self.program[position : step.number] if inner.layer is not None]
        listed = sorted({index for number in inside for index in self.match.weights_of[number]})
        own = frozenset(inside)
        # A list is one piece: it would have begun before a weight that follows another one of its own.
        return [
            index
            for index in listed[bisect_left(listed, start) :]
            if index <= last and (index == start or not self.match.reserved(index - 1, own))
        ]

    def _leave(self, frames: tuple[_Frame | None, ...]) -> tuple[_Frame | None, ...] | None:
        """End a nested model; the list around it continues behind it."""
        *rest, last = frames
        if last is not None:
            end = self._end(last)
            if end is None:
                return None
            place, outer = _innermost(rest)
            rest[place] = _Frame(outer.trainable, outer.rest, end, outer.end)
        return tuple(rest)

    def _end(self, frame: _Frame) -> int | None:
        """Give the end of a list that was read completely, None if its parts do not meet."""
        if frame.rest == _UNKNOWN:
            return frame.trainable
        return frame.other if frame.trainable == frame.rest else None

    def _possible(self, frame: _Frame, position: int, depth: int) -> bool:
        """Tell whether the instructions that follow can fill the trainable part up to where the rest begins."""
        if frame.rest == _UNKNOWN:
            return True
        least = self.least[depth]
        missing = frame.rest - frame.trainable
        return least[frame.end] - least[position] <= missing <= self.most[frame.end] - self.most[position]


def _innermost(frames: Sequence[_Frame | None]) -> tuple[int, _Frame]:
    """Find the list that is being read: the last one that was begun."""
    place = len(frames) - 1
    while (frame := frames[place]) is None:
        place -= 1
    return place, frame
