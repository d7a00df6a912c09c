"""The shape of what a layer or a model takes, as far as its config tells."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from remap.keras.config import Layer

__all__ = ["dtype_name", "input_of", "plain"]


def plain(value: Any) -> Any:
    """Undo the ways in which old JSON wraps numpy arrays (``{"type": "ndarray", "value": ..}``) and tuples."""
    if isinstance(value, Mapping):
        if value.get("type") == "ndarray" and "value" in value:
            return value["value"]
        if value.get("class_name") in {"__tuple__", "TensorShape"} and "items" in value:
            return [plain(item) for item in value["items"] or ()]
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [plain(item) for item in value]
    return value


def dtype_name(value: Any) -> str | None:
    """Find the policy's name: a plain string in Keras 2, ``Policy`` or ``PolicyV1`` in tf.keras; None for none."""
    if isinstance(value, Mapping):
        config = value.get("config")
        value = config.get("name") if isinstance(config, Mapping) else None
    return value if isinstance(value, str) and not value.startswith("infer") else None


def input_of(layer: Layer) -> tuple[list[Any], str | None] | None:
    """Find the shape and dtype of what a layer or stack takes: from the first layer that says it."""
    config = layer.config.json()
    shape = plain(config.get("batch_input_shape", config.get("batch_shape")))
    if isinstance(shape, list):
        return shape, dtype_name(config.get("dtype"))
    if layer.children:
        if layer.sequential:
            found = input_of(layer.children[0])
        else:
            names = [name for name, _, _ in layer.inputs]
            ends = [child for child in layer.children if [child.name] == names]
            found = input_of(ends[0]) if ends else None
        if found is not None:
            return found
    if layer.wrapped is not None and layer.class_name == "Bidirectional":
        return input_of(layer.wrapped)
    built = plain(config.get("build_input_shape"))
    return ([None, *built[1:]], None) if isinstance(built, list) and built else None
