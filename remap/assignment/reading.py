"""One way to read a flat list: which weights each layer owns, and in which order a flat file holds them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from typing import NamedTuple

from remap.assignment.expected import ExpectedLayer, ExpectedModel, ExpectedSubmodel, iter_layers
from remap.checkpoint import Weight
from remap.weight_names import clean, leaf, scope

__all__ = [
    "Candidates",
    "Instruction",
    "Lists",
    "Problem",
    "Reading",
    "Span",
    "disorder",
    "distinction",
    "keep_tidier",
    "lay_out",
    "lists",
]


class Instruction(NamedTuple):
    """A layer to read (`unit`), the beginning of a nested model (`nest`), or without either its end."""

    unit: ExpectedLayer | None
    nest: ExpectedSubmodel | None
    number: int  # of the unit, or of the instruction that ends the nested model
    depth: int


def lay_out(
    outline: ExpectedModel, numbers: Iterator[int], depth: int, offset: int = 0
) -> Iterator[Instruction]:
    """Lay the outline out as one sequence."""
    position = offset
    for part in outline:
        if isinstance(part, ExpectedLayer):
            yield Instruction(part, None, next(numbers), depth)
            position += 1
        else:
            inside = list(lay_out(part.children, numbers, depth + 1, position + 1))
            position += len(inside) + 1
            yield Instruction(None, part, position, depth)
            yield from inside
            yield Instruction(None, None, position, depth)
            position += 1


Candidates = tuple[frozenset[int], ...]
"""For each weight of the flat list the indices of the units that its name speaks for."""


class Problem:
    """A list of `weights` and an `outline`, whose layers are the `units`.

    For each weight, `names` has its name as TensorFlow had it, `leaves` and `scopes` the two parts of that. `spare`
    weights are in no layer that the outline accounts for. What a witness said is kept in `heard`. With `apart` two
    readings differ where a layer inside a nested model owns other weights, and not only where a flat file in the saved
    order would differ.
    """

    def __init__(
        self,
        weights: Sequence[Weight],
        outline: ExpectedModel,
        names: Sequence[str] | None = None,
        *,
        apart: bool = False,
    ) -> None:
        self.apart = apart
        self.weights = weights
        self.outline = outline
        self.units = tuple(iter_layers(outline))
        self.names = [clean(weight.name) for weight in weights] if names is None else names
        self.spare = len(weights) - sum(len(unit.slots) for unit in self.units)
        self.heard: dict[Callable[[Problem], Candidates], Candidates] = {}

    def flagged(self, outline: ExpectedModel) -> Problem:
        """Give the case of the same weights and an outline that differs in its trainable flags only."""
        case = Problem(self.weights, outline, self.names, apart=self.apart)
        case.leaves, case.scopes, case.heard = self.leaves, self.scopes, self.heard
        return case

    @cached_property
    def leaves(self) -> list[str]:
        """Give what each weight is in its layer."""
        return [leaf(name) for name in self.names]

    @cached_property
    def scopes(self) -> list[str]:
        """Give what stands before the leaf."""
        return [scope(name) for name in self.names]

    @cached_property
    def program(self) -> list[Instruction]:
        """Lay the outline out as one sequence."""
        return list(lay_out(self.outline, iter(range(len(self.units))), 0))

    @cached_property
    def last_open(self) -> int:
        """Give the number of the last layer of the user's own class, -1 without one."""
        return max((number for number, unit in enumerate(self.units) if unit.open), default=-1)

    @cached_property
    def most(self) -> list[int]:
        """Count the trainable weights that the instructions before each one bring at most."""
        return [0, *accumulate(map(self._most, self.program))]

    @cached_property
    def least(self) -> list[list[int]]:
        """Count, by depth, what they bring at least, without deeper ones: their model may be frozen."""
        deepest = max((step.depth for step in self.program), default=0) + 1
        return [
            [0, *accumulate(_least(step) if step.depth == depth else 0 for step in self.program)]
            for depth in range(deepest + 1)
        ]

    def _most(self, step: Instruction) -> int:
        if step.unit is None:
            return 0
        if step.unit.open:
            return len(self.weights) if step.unit.splits[0] else 0
        return max(step.unit.splits)


def _least(step: Instruction) -> int:
    return min(step.unit.splits) if step.unit is not None and not step.unit.open else 0


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


def lists(outline: ExpectedModel, reading: Reading) -> Lists:
    """Give what a flat file would hold; a nested model's group is again all trainable weights, then the rest."""
    spans = iter(reading.spans)
    return tuple(
        (*trainable, *rest) for trainable, rest in (_parts(part, reading, spans) for part in outline)
    )


def _parts(part: object, reading: Reading, spans: Iterator[Span]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    if not isinstance(part, ExpectedSubmodel):
        span = next(spans)
        return span.trainable, span.rest
    trainable: list[int] = []
    rest: list[int] = []
    for child in part.children:
        upper, lower = _parts(child, reading, spans)
        if isinstance(child, ExpectedSubmodel) and child.path in reading.frozen:
            upper, lower = (), (*upper, *lower)
        trainable.extend(upper)
        rest.extend(lower)
    return tuple(trainable), tuple(rest)


def distinction(case: Problem, reading: Reading) -> Lists:
    """Give what readings have to differ in: what each layer owns, or only what a flat file in the saved order would hold."""
    if case.apart:
        return tuple((*span.trainable, *span.rest) for span in reading.spans)
    return lists(case.outline, reading)


def disorder(case: Problem, reading: Reading) -> int:
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


def keep_tidier(kept: dict[Lists, Reading], case: Problem, listed: Lists, reading: Reading) -> None:
    """Keep a reading unless one that makes the same flat file, `listed`, was kept and has no more disorder."""
    rival = kept.get(listed)
    if rival is None or disorder(case, reading) < disorder(case, rival):
        kept[listed] = reading
