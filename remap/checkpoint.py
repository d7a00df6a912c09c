"""What a Keras HDF5 file says, as values."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

__all__ = ["Checkpoint", "LayerGroup", "Weight"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Weight:
    """One tensor: its `name` as listed in `weight_names`, and where the file holds it.

    `shape` is in elements (``()`` for a scalar), `dtype` is numpy's short form with byte order (``<f4``),
    `path` is absolute inside the file.
    """

    name: str
    path: str
    shape: tuple[int, ...]
    dtype: str

    @property
    def parameters(self) -> int:
        """Count the elements."""
        return prod(self.shape)


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerGroup:
    """One entry of `layer_names` with its weights in the order of `weight_names`."""

    name: str
    weights: tuple[Weight, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """Everything in a checkpoint that a conversion needs, read from headers only.

    `root` is the path of the group that holds `layer_names`: ``/`` in a weights file, ``/model_weights`` in
    a full-model file. `backend` and `keras_version` stand there; `file_backend` and `file_keras_version`
    stand on the root of a full-model file. An attribute that the file lacks is None. `model_config` and
    `training_config` are JSON text. `optimizer` is None when the file has no optimizer state.
    """

    root: str
    layers: tuple[LayerGroup, ...]
    backend: str | None = None
    keras_version: str | None = None
    file_backend: str | None = None
    file_keras_version: str | None = None
    model_config: str | None = None
    training_config: str | None = None
    optimizer: tuple[Weight, ...] | None = None

    @property
    def weighted(self) -> tuple[LayerGroup, ...]:
        """List the layers that have weights, in file order."""
        return tuple(layer for layer in self.layers if layer.weights)
