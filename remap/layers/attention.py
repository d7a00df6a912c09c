"""Attention."""

from __future__ import annotations

from remap.layers.declaration import Keras3, LayerClass, Masks
from remap.layers.weights import OwnedWeights, Slot
from remap.typed_json import Config

__all__ = ["LAYERS"]

_NOT_CAUSAL = {"causal": (False,)}


def _dot_product(config: Config) -> OwnedWeights:
    scaled = config.flag("use_scale", default=False)
    return OwnedWeights(trainable=(Slot("scale", ()),) if scaled else ())


def _additive(config: Config) -> OwnedWeights:
    scaled = config.flag("use_scale", default=True)
    return OwnedWeights(trainable=(Slot("scale", (None,)),) if scaled else ())


LAYERS = (
    LayerClass(
        name="AdditiveAttention",
        masks=Masks.ATTENDED,
        keras3=Keras3(name="AdditiveAttention", keeps="use_scale dropout", dropped=_NOT_CAUSAL),
        always_written="use_scale",
        weights=_additive,
        takes_list=True,
        identified_by_name=True,
    ),
    LayerClass(
        name="Attention",
        masks=Masks.ATTENDED,
        keras3=Keras3(name="Attention", keeps="use_scale dropout score_mode", dropped=_NOT_CAUSAL),
        always_written="use_scale",
        weights=_dot_product,
        takes_list=True,
        identified_by_name=True,
    ),
)
