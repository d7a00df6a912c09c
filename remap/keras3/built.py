"""A layer as Keras 3 has it, and what is needed to say so."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from remap.errors import InputRefused, RemapError
from remap.keras.config import Layer
from remap.keras3.recipe import Group
from remap.keras3.writer import Writer

__all__ = ["Built", "Setting", "describe", "refuse"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """What holds for the whole model.

    `floatx` is the float type of layers that name none, `writer` the Keras that wrote the file, `masks` tells
    whether any layer makes a mask.
    """

    floatx: str
    writer: Writer
    masks: bool = False


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
