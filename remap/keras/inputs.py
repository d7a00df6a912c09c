"""The shape of what a layer or a model takes, as far as its config tells."""

from __future__ import annotations

from remap.keras.config import Config, Layer
from remap.keras.values import Json, Value

__all__ = ["dtype_name", "input_of", "input_shape"]


def dtype_name(config: Config) -> str | None:
    """Name the dtype of a layer, None where its config leaves it to the model.

    Keras 2 writes a plain string, tf.keras also a ``Policy`` or ``PolicyV1``, Keras 3 a ``DTypePolicy``.
    """
    if not config.given("dtype"):
        return None
    dtype = config.value("dtype")
    name = dtype.keras_object().config.text("name") if dtype.kind == "object" else dtype.text()
    return None if name.startswith("infer") else name


def input_shape(config: Config) -> Value | None:
    """Find the shape that a layer's config says it takes."""
    key = "batch_input_shape" if config.has("batch_input_shape") else "batch_shape"
    return config.value(key) if config.given(key) else None


def input_of(layer: Layer) -> tuple[list[Json], str | None] | None:
    """Find the shape and dtype of what a layer or stack takes: from the first layer that says it."""
    shape = input_shape(layer.config)
    if shape is not None:
        return list(shape.shape()), dtype_name(layer.config)
    if layer.children:
        if layer.sequential:
            found = input_of(layer.children[0])
        else:
            names = [name for name, _, _ in layer.inputs]
            ends = [child for child in layer.children if [child.name] == names]
            found = input_of(ends[0]) if ends else None
        if found is not None:
            return found
    if layer.wrapped is not None and layer.declared is not None and layer.declared.directions == 2:
        return input_of(layer.wrapped)
    built = layer.config.shape("build_input_shape", default=None)
    return ([None, *built[1:]], None) if built else None
