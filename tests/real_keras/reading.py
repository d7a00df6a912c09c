"""The weights of each layer of a file, as h5remap reads them and as a real Keras 3 told that it loads them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from remap import inspect
from remap.checkpoint import Weight
from remap.hdf5.keras3_reader import open_keras3
from remap.hdf5.reader import read_tensor
from remap.results import InspectedLayer

__all__ = ["Weights", "weights_loaded", "weights_read"]

Weights = dict[str, list[bytes]]
"""For each layer, by its name behind those of the models that hold it, its weights: shape, type and content."""


def weights_loaded(folder: Path, path: Path) -> Weights:
    """Give what `keras3_weights.py` wrote to a folder for a file."""
    found: Weights = {}
    with np.load(folder / f"{path.name}.npz") as loaded:
        for key in loaded.files:
            if "|" not in key:  # an argument that numpy 1 takes for an array
                continue
            found.setdefault(key.rpartition("|")[0], []).append(_content(loaded[key]))
    return found


def weights_read(path: Path, loaded: Weights) -> Weights:
    """Read the same from the file.

    Weights stand in Keras's order where config.json and the catalogue tell that; where they do not, in the order in which
    they were `loaded`. Keras 3.0 to 3.5 note no names in a weights file, so there layers are found by their weights.
    """
    found: Weights = {}
    with open_keras3(path) as opened:
        for name, layer in _leaves(inspect(path).layers):
            weights = (
                Weight(name=one.name, path=one.path, shape=one.shape, dtype=one.dtype)
                for one in layer.weights
            )
            found[name] = [_content(read_tensor(opened, weight)) for weight in weights]
            if opened.config is None or "custom" in layer.flags:
                wanted = loaded.get(name, [])
                found[name] = wanted if sorted(found[name]) == sorted(wanted) else found[name]
        named = opened.config is not None or any(one.name for one in opened.objects)
    if not named and sorted(map(sorted, found.values())) == sorted(map(sorted, loaded.values())):
        return loaded
    return found


def _leaves(
    layers: tuple[InspectedLayer, ...], above: tuple[str, ...] = ()
) -> Iterator[tuple[str, InspectedLayer]]:
    for layer in layers:
        if layer.layers:
            yield from _leaves(layer.layers, (*above, layer.name))
        elif layer.weights:
            yield "/".join((*above, layer.name)), layer


def _content(array: NDArray[Any]) -> bytes:
    return f"{array.dtype} {array.shape} ".encode() + array.tobytes()
