"""How each tensor of the new file comes from the old one: as it is, or by a little arithmetic."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from remap.errors import InputRefused
from remap.keras.checkpoint import Weight
from remap.layers.weights import Array, Operation

__all__ = ["Group", "Recipe", "constant", "keep"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """One tensor of the output: `shape` in elements, `dtype` in numpy's short form, and where it comes from.

    With `transform` None it is `source` bit for bit; else what `transform` makes of it (of nothing when
    there is no source).
    """

    shape: tuple[int, ...]
    dtype: str
    source: Weight | None = None
    transform: Callable[..., Array] | None = None

    def make(self, *tensor: Array) -> Array:
        """Compute the tensor from the stored one."""
        if self.transform is None:
            return tensor[0]
        return np.ascontiguousarray(self.transform(*tensor)).astype(self.dtype).reshape(self.shape)

    def after(self, *operations: Operation) -> Recipe:
        """Give what operations make of the tensor, one after the other; raises InputRefused for other than floats."""
        if not operations:
            return self
        if self.dtype[1] != "f":
            raise InputRefused(
                f"the tensor has type {self.dtype}, where Keras has floats",
                where="" if self.source is None else self.source.path,
            )
        shape = self.shape
        for operation in operations:
            shape = operation.shape(shape)
        first = () if self.transform is None else (self.transform,)
        steps: tuple[Callable[[Array], Array], ...] = (*first, *operations)
        return replace(self, shape=shape, transform=partial(_chained, steps=steps))


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """The variables of one object of Keras 3, stored at `<path>/vars/0`, `1`, ...

    `name` is what Keras 3 notes as the object's name. The first `trainable` of the recipes are trained.
    """

    path: str
    name: str
    recipes: tuple[Recipe, ...] = ()
    trainable: int = 0

    def under(self, above: str) -> Group:
        """Give the same group further down in the file."""
        return replace(self, path=f"{above}/{self.path}" if self.path else above)


def keep(weight: Weight) -> Recipe:
    """Take a tensor as it is."""
    return Recipe(shape=weight.shape, dtype=weight.dtype, source=weight)


def constant(value: float, dtype: str) -> Recipe:
    """Make a scalar."""
    return Recipe(shape=(), dtype=dtype, transform=partial(np.array, value))


def _chained(tensor: Array, *, steps: Sequence[Callable[[Array], Array]]) -> Array:
    for step in steps:
        tensor = step(tensor)
    return tensor
