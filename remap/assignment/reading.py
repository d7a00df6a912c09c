"""A reading of a flat list of weights: which weights each layer owns, and in which order a flat file lists them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
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
    "keep_better",
    "lay_out",
    "lists",
    "without_repeats",
]


class Instruction(NamedTuple):
    """A layer to read, the beginning of a nested model, or the end of one if neither is there."""

    layer: ExpectedLayer | None
    submodel: ExpectedSubmodel | None
    number: int  # of the layer, or of the instruction that ends the nested model
    depth: int


def lay_out(
    expected: ExpectedModel, numbers: Iterator[int], depth: int, offset: int = 0
) -> Iterator[Instruction]:
    """List the expected model as one sequence of instructions."""
    position = offset
    for part in expected:
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
"""For each weight of the flat list the numbers of the expected layers that its name may mean."""


class Problem:
    """A flat list of weights and the expected model whose weights they are.

    Attributes:
        weights: The list.
        expected: The expected model.
        layers: Its layers in load order, those inside nested models included.
        names: For each weight its name as TensorFlow had it.
        spare: How many weights belong to layers of which the expected model does not tell the weights.
        candidates: The candidates that each rule has found.
        inside: Whether two readings differ if a layer inside a nested model owns other weights, and not only if a flat
            file in the saved order would differ.
    """

    def __init__(
        self,
        weights: Sequence[Weight],
        expected: ExpectedModel,
        names: Sequence[str] | None = None,
        *,
        inside: bool = False,
    ) -> None:
        self.inside = inside
        self.weights = weights
        self.expected = expected
        self.layers = tuple(iter_layers(expected))
        self.names = [clean(weight.name) for weight in weights] if names is None else names
        self.spare = len(weights) - sum(len(layer.slots) for layer in self.layers)
        self.candidates: dict[Callable[[Problem], Candidates], Candidates] = {}

    def flagged(self, expected: ExpectedModel) -> Problem:
        """Give the problem of the same weights and an expected model that differs in its trainable flags only."""
        problem = Problem(self.weights, expected, self.names, inside=self.inside)
        problem.leaves, problem.scopes, problem.candidates = self.leaves, self.scopes, self.candidates
        return problem

    @cached_property
    def leaves(self) -> list[str]:
        """Give the last part of each name, which tells what a weight is in its layer."""
        return [leaf(name) for name in self.names]

    @cached_property
    def scopes(self) -> list[str]:
        """Give the part of each name before the leaf."""
        return [scope(name) for name in self.names]

    @cached_property
    def program(self) -> list[Instruction]:
        """List the expected model as one sequence of instructions."""
        return list(lay_out(self.expected, iter(range(len(self.layers))), 0))

    @cached_property
    def last_custom(self) -> int:
        """Give the number of the last custom layer, -1 if there is none."""
        return max((number for number, layer in enumerate(self.layers) if layer.custom), default=-1)

    @cached_property
    def most(self) -> list[int]:
        """Count the trainable weights that the instructions before each one take at most."""
        return [0, *accumulate(map(self._most, self.program))]

    @cached_property
    def least(self) -> list[list[int]]:
        """Count by depth the trainable weights that they take at least, without deeper ones: their model may be frozen."""
        deepest = max((step.depth for step in self.program), default=0) + 1
        return [
            [0, *accumulate(_least(step) if step.depth == depth else 0 for step in self.program)]
            for depth in range(deepest + 1)
        ]

    def _most(self, step: Instruction) -> int:
        if step.layer is None:
            return 0
        if step.layer.custom:
            return len(self.weights) if step.layer.splits[0] else 0
        return max(step.layer.splits)


def _least(step: Instruction) -> int:
    return min(step.layer.splits) if step.layer is not None and not step.layer.custom else 0


Lists = tuple[tuple[int, ...], ...]
"""For each part of an expected model the indices of its weights in the order of its group in a flat file."""


class Span(NamedTuple):
    """A layer's weights: `length` from `start` in the trainable part, `others` from `other` in the rest."""

    start: int
    length: int
    other: int
    others: int

    @property
    def given(self) -> tuple[int, ...]:
        """Identify the weights, whichever part they stand in."""
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

    @property
    def indices(self) -> tuple[int, ...]:
        """List all indices, first those in the trainable part."""
        return (*self.trainable, *self.rest)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """A span for each expected layer in load order, and the paths of nested models that were frozen as a whole."""

    spans: tuple[Span, ...]
    frozen: frozenset[tuple[str, ...]]


def lists(expected: ExpectedModel, reading: Reading) -> Lists:
    """List the weights of each group of a flat file; a nested model's group is all its trainable weights, then the rest.

    What stands in it twice is listed in its first place: see `stored_once`.
    """
    spans = iter(reading.spans)
    return tuple(
        (*trainable, *rest) for trainable, rest in (_parts(part, reading, spans) for part in expected)
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
    return without_repeats(trainable), without_repeats(rest)


def without_repeats(indices: Iterable[int]) -> tuple[int, ...]:
    """List each index in its first place only."""
    return tuple(dict.fromkeys(indices))


def distinction(problem: Problem, reading: Reading) -> Lists:
    """Give what makes two readings different: what each layer owns, or only what a flat file in the saved order holds."""
    if problem.inside:
        return tuple(span.indices for span in reading.spans)
    return lists(problem.expected, reading)


def disorder(problem: Problem, reading: Reading) -> int:
    """Count how many scopes too many the weights of custom layers have."""
    mixed = 0
    if problem.last_custom < 0:
        return 0
    for layer, span in zip(problem.layers, reading.spans, strict=True):
        if layer.custom:
            indices = span.indices
            heads = {problem.scopes[index].partition("/")[0] for index in indices}
            mixed += max(len(heads) - 1, 0)
    return mixed


def keep_better(kept: dict[Lists, Reading], problem: Problem, listed: Lists, reading: Reading) -> None:
    """Keep a reading unless an equal one that has no more disorder was kept; `listed` is what makes it different."""
    other = kept.get(listed)
    if other is None or disorder(problem, reading) < disorder(problem, other):
        kept[listed] = reading
