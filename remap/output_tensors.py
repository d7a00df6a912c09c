"""Tensors of an output: copied from the checkpoint bit for bit, or computed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from math import prod

import numpy as np

from remap.checkpoint import Weight
from remap.errors import InputRefused
from remap.layers.weights import Array, Operation

__all__ = ["OutputTensor", "constant", "keep"]


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputTensor:
    """One tensor of an output.

    Attributes:
        shape: Its shape in elements.
        dtype: Its type in numpy's short form with byte order, such as ``<f4``.
        source: The tensor of the checkpoint that it comes from; None for a constant.
        transform: What computes it from the source's values, or from nothing; None for a copy, bit for bit.
    """

    shape: tuple[int, ...]
    dtype: str
    source: Weight | None = None
    transform: Callable[..., Array] | None = None

    def __post_init__(self) -> None:
        copied = None if self.source is None else (self.source.shape, self.source.dtype)
        if self.transform is None and copied != (self.shape, self.dtype):
            raise ValueError("a tensor that is not computed has the shape and the type of its source")

    @property
    def size(self) -> int:
        """Give the number of bytes that it takes in a file."""
        return prod(self.shape) * int(self.dtype[2:])

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


def keep(weight: Weight) -> OutputTensor:
    """Copy a tensor as it is."""
    return OutputTensor(shape=weight.shape, dtype=weight.dtype, source=weight)


def constant(value: float, dtype: str) -> OutputTensor:
    """Make a scalar."""
    return OutputTensor(shape=(), dtype=dtype, transform=partial(np.array, value))


def _chained(tensor: Array, *, steps: Sequence[Callable[[Array], Array]]) -> Array:
    for step in steps:
        tensor = step(tensor)
    return tensor
