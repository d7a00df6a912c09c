"""Compare an output with the file that Keras itself saved; by h5py alone, not by the package's own reader."""

from __future__ import annotations

import json
from functools import lru_cache
from pathlib import Path
from typing import Any

import h5py
import numpy as np

__all__ = ["differences", "differently_ordered", "flat_arrays", "flat_layers", "names_of"]

Layers = list[tuple[str, list[tuple[str, Any]]]]


def differences(output: Path, truth: Path, *, names: bool = True, weightless: bool = True) -> list[str]:
    """List what differs between two flat files: layers, weights, bytes, and what stands around them."""
    with h5py.File(output) as ours, h5py.File(truth) as theirs:
        our_root, their_root = _root(ours), _root(theirs)
        recorded = _recorded(truth, truth.stat().st_mtime_ns)
        found = _layer_differences(_layers(our_root), recorded, names=names, weightless=weightless)
        found += [
            f"{name}: {_text(our_root.attrs.get(name))} for {_text(their_root.attrs.get(name))}"
            for name in ("backend", "keras_version")
            if _text(our_root.attrs.get(name)) != _text(their_root.attrs.get(name))
        ]
        if "model_config" in theirs.attrs:
            found += _full_differences(ours, theirs)
    return found


def differently_ordered(output: Path, truth: Path, order: Path) -> list[str]:
    """List what differs between a flat file and another one's weights put in the order of a third one's groups.

    Weights are known by their names; where the third file was made in a session that named them otherwise, by their place
    among the shapes.
    """
    with h5py.File(output) as ours, h5py.File(truth) as theirs, h5py.File(order) as wanted:
        values = {name: array for _, weights in _layers(_root(theirs)) for name, array in weights}
        found, listed = ([layer for layer in _layers(_root(file)) if layer[1]] for file in (ours, wanted))
        if [[array.shape for _, array in weights] for _, weights in found] != [
            [array.shape for _, array in weights] for _, weights in listed
        ]:
            return ["other shapes"]
        known = {name for _, weights in listed for name, _ in weights} == values.keys()
        return [
            f"{name} is not {wanted_name}"
            for (_, weights), (_, names) in zip(found, listed, strict=True)
            for (name, array), (wanted_name, _) in zip(weights, names, strict=True)
            if not np.array_equal(array, values[wanted_name if known else name])
        ]


def flat_arrays(path: Path) -> list[Any]:
    """Read all tensors of a flat file in load order."""
    with h5py.File(path) as file:
        return [array for _, weights in _layers(_root(file)) for _, array in weights]


def flat_layers(path: Path) -> list[list[tuple[int, ...]]]:
    """Read what Keras looks at when it loads a flat file in order: the shapes of each layer that has weights."""
    with h5py.File(path) as file:
        return [[array.shape for _, array in weights] for _, weights in _layers(_root(file)) if weights]


def names_of(group: Any, attribute: str) -> list[str]:
    """Read a list of names, whole or split, as h5py 2 and h5py 3 wrote it."""
    if attribute in group.attrs:
        return [str(_text(name)) for name in group.attrs[attribute]]
    names: list[str] = []
    while f"{attribute}{(part := len(_parts(group, attribute, names)))}" in group.attrs:
        names += [str(_text(name)) for name in group.attrs[f"{attribute}{part}"]]
    return names


def _parts(group: Any, attribute: str, names: list[str]) -> list[int]:
    counted: list[int] = []
    total = 0
    while total < len(names):
        total += len(group.attrs[f"{attribute}{len(counted)}"])
        counted.append(total)
    return counted


@lru_cache(maxsize=4)
def _recorded(truth: Path, _: int) -> Layers:
    """Read a file that several outputs are compared with, unless it was written anew meanwhile."""
    with h5py.File(truth) as file:
        return _layers(_root(file))


def _root(file: Any) -> Any:
    return file.get("model_weights", file)


def _layers(root: Any) -> Layers:
    return [
        (layer, [(name, root[layer][name][()]) for name in names_of(root[layer], "weight_names")])
        for layer in names_of(root, "layer_names")
    ]


def _layer_differences(ours: Layers, theirs: Layers, *, names: bool, weightless: bool) -> list[str]:
    if not weightless:
        ours = [layer for layer in ours if layer[1]]
        theirs = [layer for layer in theirs if layer[1]]
    if len(ours) != len(theirs):
        return [f"{len(ours)} layers for {len(theirs)}"]
    found: list[str] = []
    for (our_name, our_weights), (their_name, their_weights) in zip(ours, theirs, strict=True):
        if names and our_name != their_name:
            found.append(f"layer {our_name} for {their_name}")
        if len(our_weights) != len(their_weights):
            found.append(f"{their_name}: {len(our_weights)} weights for {len(their_weights)}")
            continue
        for (our_weight, our_array), (weight, array) in zip(our_weights, their_weights, strict=True):
            if names and our_weight != weight:
                found.append(f"weight {our_weight} for {weight}")
            if our_array.dtype != array.dtype or not np.array_equal(our_array, array):
                found.append(f"{their_name}: other values in {weight}")
    return found


def _full_differences(ours: Any, theirs: Any) -> list[str]:
    found = []
    for name in ("model_config", "training_config"):
        if (name in ours.attrs) != (name in theirs.attrs):
            found.append(f"{name} is there in one only")
        elif name in theirs.attrs and _json(ours, name) != _json(theirs, name):
            found.append(f"another {name}")
    found += [
        f"{name} of the file"
        for name in ("backend", "keras_version")
        if _text(ours.attrs.get(name)) != _text(theirs.attrs.get(name))
    ]
    if ("optimizer_weights" in ours) != ("optimizer_weights" in theirs):
        found.append("optimizer_weights are there in one only")
    elif "optimizer_weights" in theirs:
        our_state, their_state = (_state(file["optimizer_weights"]) for file in (ours, theirs))
        if len(our_state) != len(their_state) or not all(map(np.array_equal, our_state, their_state)):
            found.append("another optimizer state")
    return found


def _state(group: Any) -> list[Any]:
    return [group[name][()] for name in names_of(group, "weight_names")]


def _json(file: Any, name: str) -> Any:
    return json.loads(str(_text(file.attrs[name])))


def _text(value: Any) -> str | None:
    if isinstance(value, bytes):
        return value.decode()
    return None if value is None else str(value)
