"""Checkpoints made by hand, for what real Keras never saves, and the output that changes nothing of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import h5py
import numpy as np

from remap.checkpoint import Checkpoint, Weight
from remap.conversion_plan import Plan, PlannedLayer, PlannedWeight
from remap.formats import keras2
from remap.formats.description import FileDescription

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from numpy.typing import NDArray

    Layers = Mapping[str, Mapping[str, NDArray[np.generic]]]

__all__ = ["LAYERS", "identity", "save_full", "save_weights", "unchanged", "write_layers"]

LAYERS: Layers = {
    "input_1": {},
    "model_1": {
        "dense_1/kernel:0": np.arange(12, dtype="<f4").reshape(3, 4),
        "dense_1/bias:0": np.arange(100, 104, dtype="<f4"),
        "scale:0": np.array(2.5, dtype="<f8"),
    },
    "predictions": {},
}


def write_layers(group: h5py.Group, layers: Layers = LAYERS, *, backend: bool = True) -> None:
    """Write layers as Keras 2 with h5py 2 does."""
    group.attrs["layer_names"] = names(layers)
    if backend:
        group.attrs["backend"] = b"tensorflow"
        group.attrs["keras_version"] = b"2.2.4"
    for layer, weights in layers.items():
        inside = group.require_group(layer)
        inside.attrs["weight_names"] = names(weights)
        for name, value in weights.items():
            inside.create_dataset(name, data=value)


def save_weights(path: Path, layers: Layers = LAYERS) -> Path:
    """Save a weights file and return its path."""
    with h5py.File(path, "w") as file:
        write_layers(file, layers)
    return path


def save_full(path: Path, layers: Layers = LAYERS, *, config: str = '{"class_name": "Model"}') -> Path:
    """Save a full-model file with the state of an optimizer and return its path."""
    with h5py.File(path, "w") as file:
        file.attrs["backend"] = "tensorflow"
        file.attrs["keras_version"] = "2.2.4"
        file.attrs["model_config"] = config.encode()
        file.attrs["training_config"] = b'{"loss": "mse"}'
        write_layers(file.create_group("model_weights"), layers)
        optimizer = file.create_group("optimizer_weights")
        optimizer.attrs["weight_names"] = names(["Adam/iterations:0", "m:0"])
        optimizer.create_dataset("Adam/iterations:0", data=np.int64(7))
        optimizer.create_dataset("m:0", data=np.linspace(0, 1, 7, dtype="<f4"))
    return path


def names(given: Iterable[str]) -> NDArray[np.generic]:
    """Give a list of names as Keras stores it: fixed-length bytes, or no floats when it is empty."""
    encoded = [name.encode() for name in given]
    return np.array(encoded) if encoded else np.array([])


def identity(checkpoint: Checkpoint) -> Plan:
    """Plan an output that says what the checkpoint says."""

    def planned(weights: Iterable[Weight]) -> tuple[PlannedWeight, ...]:
        return tuple(PlannedWeight(name=weight.name, source=weight) for weight in weights)

    return Plan(
        template="model",
        replicas=None,
        settled_by="architecture",
        layers=tuple(
            PlannedLayer(name=layer.name, weights=planned(layer.weights)) for layer in checkpoint.layers
        ),
        backend=checkpoint.backend,
        keras_version=checkpoint.keras_version,
        file_backend=checkpoint.file_backend,
        file_keras_version=checkpoint.file_keras_version,
        model_config=checkpoint.model_config,
        training_config=checkpoint.training_config,
        optimizer=None if checkpoint.optimizer is None else planned(checkpoint.optimizer),
    )


def unchanged(checkpoint: Checkpoint) -> FileDescription:
    """Describe an output that says what the checkpoint says."""
    return keras2.describe(identity(checkpoint))
