"""A flat list of weights and the outline it is to be read by, laid out once for all who read them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from itertools import accumulate

from remap.keras.checkpoint import Weight
from remap.keras.naming import clean, leaf, scope
from remap.keras.outline import Outline, units_of
from remap.keras.program import Instruction, lay_out

__all__ = ["Case", "Testimony"]

Testimony = tuple[frozenset[int], ...]
"""For each weight of the flat list the indices of the units that its name speaks for."""


class Case:
    """A list of `weights` and an `outline`, whose layers are the `units`.

    For each weight, `names` has its name as TensorFlow had it, `leaves` and `scopes` the two parts of that. `spare`
    weights are in no layer that the outline accounts for. What a witness said is kept in `heard`. With `apart` two
    readings differ where a layer inside a nested model owns other weights, and not only where a flat file in the saved
    order would differ.
    """

    def __init__(
        self,
        weights: Sequence[Weight],
        outline: Outline,
        names: Sequence[str] | None = None,
        *,
        apart: bool = False,
    ) -> None:
        self.apart = apart
        self.weights = weights
        self.outline = outline
        self.units = tuple(units_of(outline))
        self.names = [clean(weight.name) for weight in weights] if names is None else names
        self.spare = len(weights) - sum(len(unit.slots) for unit in self.units)
        self.heard: dict[Callable[[Case], Testimony], Testimony] = {}

    def flagged(self, outline: Outline) -> Case:
        """Give the case of the same weights and an outline that differs in its trainable flags only."""
        case = Case(self.weights, outline, self.names, apart=self.apart)
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
