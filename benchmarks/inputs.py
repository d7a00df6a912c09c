"""Checkpoints to measure with: a multi-GPU weights file of any size, and the architecture of the model in it.

python benchmarks/inputs.py multi.h5 like.json TENSORS BYTES
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import h5py
import numpy as np

__all__ = ["write_like", "write_multi", "write_names"]

_LIST = 60_000
_UNITS = 10
_LARGE = 64 << 10

Shapes = dict[str, tuple[int, ...]]


def _layers(tensors: int, size: int) -> dict[str, Shapes]:
    """Give layers and their tensors: large ones are embeddings, small ones kernels with a bias each."""
    if size >= _LARGE:
        names = [f"embedding_{number}" for number in range(1, tensors + 1)]
        return {name: {f"{name}/embeddings:0": (size // 4 // _UNITS, _UNITS)} for name in names}
    names = [f"dense_{number}" for number in range(1, tensors // 2 + 1)]
    kernel = (size // 4 // _UNITS, _UNITS)
    return {name: {f"{name}/kernel:0": kernel, f"{name}/bias:0": (_UNITS,)} for name in names}


def write_multi(path: Path, tensors: int, size: int) -> None:
    """Write a multi-GPU weights file of tensors of `size` bytes, noise stored as Keras 2 stores it."""
    noise = np.random.default_rng(0).standard_normal(1 << 20, dtype="<f4")
    with h5py.File(path, "w", libver="earliest") as file:
        write_names(file, "layer_names", ["input_1", "lambda_1", "lambda_2", "model_1", "output"])
        file.attrs["backend"] = np.bytes_(b"tensorflow")
        file.attrs["keras_version"] = np.bytes_(b"2.2.4")
        for empty in ("input_1", "lambda_1", "lambda_2", "output"):
            write_names(file.create_group(empty), "weight_names", [])
        group = file.create_group("model_1")
        shapes = {leaf: shape for layer in _layers(tensors, size).values() for leaf, shape in layer.items()}
        write_names(group, "weight_names", list(shapes))
        for number, (leaf, shape) in enumerate(shapes.items()):
            group.create_dataset(leaf, shape, "<f4")[...] = np.resize(np.roll(noise, number), shape)


def write_like(path: Path, tensors: int, size: int) -> None:
    """Write the single model's architecture as `Sequential.to_json` of Keras 2.2.4 does."""
    layers = []
    for name, shapes in _layers(tensors, size).items():
        rows = next(iter(shapes.values()))[0]
        config = {"name": name, "trainable": True, "units": _UNITS, "use_bias": True}
        if size >= _LARGE:
            config = {"name": name, "trainable": True, "input_dim": rows, "output_dim": _UNITS}
        layers.append({"class_name": "Embedding" if size >= _LARGE else "Dense", "config": config})
    model = {"class_name": "Sequential", "config": {"name": "model_1", "layers": layers}}
    path.write_text(json.dumps({**model, "keras_version": "2.2.4", "backend": "tensorflow"}))


def write_names(group: h5py.Group, attribute: str, names: list[str]) -> None:
    """Write a list of names as Keras stores it: in pieces where it is long."""
    whole = np.array([name.encode() for name in names]) if names else np.array([])
    pieces = np.array_split(whole, max(1, -(-whole.nbytes // _LIST)))
    for number, piece in enumerate(pieces):
        group.attrs[attribute if len(pieces) == 1 else f"{attribute}{number}"] = piece


if __name__ == "__main__":
    write_multi(Path(sys.argv[1]), int(sys.argv[3]), int(sys.argv[4]))
    write_like(Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]))
