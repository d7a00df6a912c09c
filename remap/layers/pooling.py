"""Pooling."""

from __future__ import annotations

from remap.layers.declaration import Keras3, LayerClass, Masks

__all__ = ["LAYERS"]

_LAST = {"data_format": "channels_last"}


def _pooling(name: str, keeps: str, masks: Masks = Masks.ENDED) -> LayerClass:
    return LayerClass(name=name, masks=masks, keras3=Keras3(name=name, keeps=keeps, missing=_LAST))


LAYERS = (
    *(
        _pooling(f"{kind}Pooling{rank}D", "pool_size strides padding data_format")
        for kind in ("Average", "Max")
        for rank in (1, 2, 3)
    ),
    _pooling("GlobalAveragePooling1D", "data_format keepdims", Masks.USED),
    _pooling("GlobalAveragePooling2D", "data_format keepdims"),
    _pooling("GlobalAveragePooling3D", "data_format keepdims"),
    *(_pooling(f"GlobalMaxPooling{rank}D", "data_format keepdims") for rank in (1, 2, 3)),
)
