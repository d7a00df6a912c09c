"""How each tensor of the new file comes from the old one: as it is, or by a little arithmetic."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from remap.keras.checkpoint import Weight

__all__ = [
    "Group",
    "Recipe",
    "constant",
    "from_cudnn_gru",
    "from_cudnn_lstm",
    "keep",
    "scale_blocks",
]

Array = NDArray[Any]


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


def scale_blocks(recipe: Recipe, factor: float, blocks: int = 1, chosen: Sequence[int] = (0,)) -> Recipe:
    """Multiply some of the equal blocks that a tensor's last axis consists of, computing in float64."""
    return _after(
        recipe, partial(_scale_blocks, factor=factor, blocks=blocks, chosen=tuple(chosen)), recipe.shape
    )


def from_cudnn_lstm(recipes: Sequence[Recipe]) -> tuple[Recipe, ...]:
    """Turn the weights of a CuDNNLSTM into those of an LSTM (`_convert_rnn_weights` in keras/engine/saving.py).

    CuDNN stores each gate's matrices transposed and adds two biases where LSTM has their sum.
    """
    kernel, recurrent, bias = recipes
    units = recurrent.shape[0]
    return (
        _after(kernel, partial(_unpack_kernel, gates=4), kernel.shape),
        _after(recurrent, partial(_transpose_gates, gates=4), recurrent.shape),
        _after(bias, _add_biases, (4 * units,)),
    )


def from_cudnn_gru(recipes: Sequence[Recipe]) -> tuple[Recipe, ...]:
    """Turn the weights of a CuDNNGRU into those of a GRU with `reset_after`, which has both biases too."""
    kernel, recurrent, bias = recipes
    units = recurrent.shape[0]
    return (
        _after(kernel, partial(_unpack_kernel, gates=3), kernel.shape),
        _after(recurrent, partial(_transpose_gates, gates=3), recurrent.shape),
        _after(bias, partial(np.reshape, shape=(2, 3 * units)), (2, 3 * units)),
    )


def _after(recipe: Recipe, step: Callable[[Array], Array], shape: tuple[int, ...]) -> Recipe:
    chained = step if recipe.transform is None else partial(_chain, first=recipe.transform, second=step)
    return replace(recipe, transform=chained, shape=shape)


def _chain(tensor: Array, *, first: Callable[[Array], Array], second: Callable[[Array], Array]) -> Array:
    return second(first(tensor))


def _scale_blocks(tensor: Array, *, factor: float, blocks: int, chosen: tuple[int, ...]) -> Array:
    width = tensor.shape[-1] // blocks
    scaled = tensor.astype(np.float64)
    for block in chosen:
        scaled[..., block * width : (block + 1) * width] *= factor
    return scaled


def _unpack_kernel(tensor: Array, *, gates: int) -> Array:
    return np.hstack([gate.ravel().reshape(gate.shape, order="F") for gate in np.hsplit(tensor, gates)])


def _transpose_gates(tensor: Array, *, gates: int) -> Array:
    return np.hstack([gate.T for gate in np.hsplit(tensor, gates)])


def _add_biases(tensor: Array) -> Array:
    first, second = np.split(tensor, 2)
    return np.asarray(first + second)
