"""Wrappers: layers with an inner layer."""

from __future__ import annotations

from remap.layers.declaration import ANYTHING, BuiltAs, Keras3, LayerClass, Limit, Masks

__all__ = ["LAYERS"]

_MODES = (None, "ave", "concat", "mul", "sum")

LAYERS = (
    LayerClass(
        name="TimeDistributed",
        masks=Masks.STEP_BY_STEP,
        keras3=Keras3(name="TimeDistributed", dropped={"layer": ANYTHING}, built_as=BuiltAs.WRAPPER),
        directions=1,
        identified_by_name=True,
    ),
    LayerClass(
        name="Bidirectional",
        masks=Masks.USED,
        keras3=Keras3(
            name="Bidirectional",
            keeps="merge_mode",
            dropped={"layer": ANYTHING, "backward_layer": (None,), "num_constants": (None, 0)},
            limits={
                "merge_mode": Limit(
                    allows=lambda mode: mode.is_one_of(_MODES), why="no way to join directions"
                )
            },
            missing={"merge_mode": "concat"},
            built_as=BuiltAs.WRAPPER,
        ),
        directions=2,
        takes_state=True,
        identified_by_name=True,
    ),
)
