"""A layer as Keras 3 has it, and what is needed to say so."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from remap.errors import InputRefused, RemapError
from remap.keras.checkpoint import Weight
from remap.keras.config import Layer
from remap.keras.inputs import dtype_name
from remap.keras3.recipe import Group
from remap.layers.declaration import Setting

__all__ = ["Built", "describe", "dtype_of", "refuse"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Built:
    """A layer for Keras 3: how its config.json describes it, and its variables.

    The paths of `groups` begin at the layer; the first group is the layer itself. `before` describes a
    layer without weights that must stand in front of it. `notes` say what is not as it was, `problems` why
    the description cannot be given as it should.
    """

    entry: dict[str, Any]
    groups: tuple[Group, ...]
    before: dict[str, Any] | None = None
    notes: tuple[str, ...] = ()
    problems: tuple[RemapError, ...] = ()


def describe(layer: Layer) -> str:
    """Name a layer for a message."""
    return f"layer {layer.name!r} ({layer.class_name})"


def refuse(layer: Layer, what: str) -> InputRefused:
    """Refuse a layer that is written otherwise only without its description."""
    return InputRefused(what, where=describe(layer), hint="convert to .weights.h5 instead")


def dtype_of(layer: Layer, weights: Sequence[Weight], setting: Setting) -> str:
    """Find a layer's dtype: Keras 2 rarely says it, so its weights do.

    BatchNormalization of tf.keras keeps float32 weights in a float16 layer, which Keras 3 calls mixed.
    """
    named = dtype_name(layer.config)
    kept = [f"float{8 * int(weight.dtype[2:])}" for weight in weights if weight.dtype[1] == "f"]
    if named == "float16" and kept and set(kept) == {"float32"}:
        return "mixed_float16"
    return named or (kept[0] if kept else setting.floatx)
