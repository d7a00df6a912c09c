"""A model in the form of Keras 3: its config, and how each of its tensors comes from the old file."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from remap.checkpoint import Weight
from remap.errors import InputRefused, RemapError
from remap.layers.weights import Array, Operation

__all__ = ["Group", "OutputTensor", "Translation", "constant", "keep"]


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputTensor:
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

    def after(self, *operations: Operation) -> OutputTensor:
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
    """The variables of one object of Keras 3.

    Attributes:
        path: The group of the object in the file: the variables are `<path>/vars/0`, `<path>/vars/1` and so on.
        name: The name of the object, an attribute of its group.
        variables: The variables.
        trainable: How many of them, counted from the first, are trainable.
    """

    path: str
    name: str
    variables: tuple[OutputTensor, ...] = ()
    trainable: int = 0

    def under(self, above: str) -> Group:
        """Put the group below another one."""
        return replace(self, path=f"{above}/{self.path}" if self.path else above)


@dataclass(frozen=True, slots=True, kw_only=True)
class Translation:
    """A model for Keras 3.

    Attributes:
        config: The content of config.json in a `.keras` file.
        groups: The variables with their places in a `.weights.h5` file.
        notes: What differs from the old model.
        problems: Why no `.keras` file can be written; a `.weights.h5` file can.
        custom_objects: The names of functions and classes that `load_model` must be given.
        loading_notes: What these functions are.
    """

    config: dict[str, Any]
    groups: tuple[Group, ...]
    notes: tuple[str, ...] = ()
    problems: tuple[RemapError, ...] = ()
    custom_objects: tuple[str, ...] = ()
    loading_notes: tuple[str, ...] = ()

    @property
    def variables(self) -> tuple[tuple[str, OutputTensor], ...]:
        """List every variable with its path in the file, in the order of Keras 3's own variables."""
        return tuple(
            (f"{group.path}/vars/{index}".lstrip("/"), variable)
            for group in self.groups
            for index, variable in enumerate(group.variables)
        )


def keep(weight: Weight) -> OutputTensor:
    """Take a tensor as it is."""
    return OutputTensor(shape=weight.shape, dtype=weight.dtype, source=weight)


def constant(value: float, dtype: str) -> OutputTensor:
    """Make a scalar."""
    return OutputTensor(shape=(), dtype=dtype, transform=partial(np.array, value))


def _chained(tensor: Array, *, steps: Sequence[Callable[[Array], Array]]) -> Array:
    for step in steps:
        tensor = step(tensor)
    return tensor
