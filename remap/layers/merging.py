"""Layers that make one tensor of several."""

from __future__ import annotations

from remap.layers.declaration import Keras3, LayerClass, Masks, Removed
from remap.typed_json import Config

__all__ = ["ADD", "LAYERS"]


def _axis(config: Config) -> int | None:
    """Give the axis of a Concatenate, -1 by default (`Concatenate` in keras/layers/merge.py)."""
    return config.integer("axis", default=-1)


def _old_axis(config: Config) -> int | None:
    """Give the axis of a Merge of Keras 1, which does many things by its mode."""
    joins = config.has("mode") and config.value("mode").kind == "text" and config.text("mode") == "concat"
    return config.integer("concat_axis", default=-1) if joins else None


def _elementwise(name: str) -> LayerClass:
    return LayerClass(name=name, masks=Masks.JOINED, keras3=Keras3(name=name), takes_list=True)


ADD = _elementwise("Add")
LAYERS = (
    ADD,
    *(_elementwise(name) for name in ("Average", "Maximum", "Minimum", "Multiply", "Subtract")),
    LayerClass(
        name="Concatenate",
        masks=Masks.JOINED_IN_TIME,
        keras3=Keras3(name="Concatenate", keeps="axis"),
        takes_list=True,
        joins_along=_axis,
    ),
    LayerClass(
        name="Dot", masks=Masks.ENDED, keras3=Keras3(name="Dot", keeps="axes normalize"), takes_list=True
    ),
    LayerClass(
        name="Merge",
        masks=None,
        keras3=Removed(
            "load and save the model in Keras 2, which turns it into its newer merge layers",
            weights_help=False,
        ),
        joins_along=_old_axis,
    ),
)
