"""Normalization layers."""

from __future__ import annotations

from typing import Any

from remap.layers.declaration import ANYTHING, Keras3, LayerClass, Limit, Masks, three
from remap.layers.weights import OwnedWeights, Shape, Slot
from remap.typed_json import Config, Value

__all__ = ["LAYERS"]

_NEVER_SET: tuple[Any, ...] = (None, False, 0)
_ARGUMENTS = f"axis epsilon center scale {three('beta', 'gamma')}"


def _scale_and_center(config: Config, shape: Shape | None) -> tuple[Slot, ...]:
    names = (("gamma", "scale"), ("beta", "center"))
    return tuple(Slot(name, shape) for name, wanted in names if config.flag(wanted, default=True))


def _by_batch(config: Config) -> OwnedWeights | None:
    if config.flag("renorm", default=False):
        return None  # which averages it keeps differs between releases of TensorFlow
    several = (
        config.has("axis") and config.value("axis").kind != "integer" and len(config.integers("axis")) > 1
    )
    shape: Shape | None = None if several or config.given("virtual_batch_size") else (None,)
    return OwnedWeights(
        trainable=_scale_and_center(config, shape),
        non_trainable=(Slot("moving_mean", shape), Slot("moving_variance", shape)),
    )


def _by_layer(config: Config) -> OwnedWeights:
    return OwnedWeights(trainable=_scale_and_center(config, None))


def _by_data_set(_: Config) -> OwnedWeights:
    return OwnedWeights(non_trainable=(Slot("mean"), Slot("variance"), Slot("count", ())))


def _is_one_axis(axis: Value) -> bool:
    return axis.kind == "integer" or len(axis.integers()) == 1


_BY_BATCH = Keras3(
    name="BatchNormalization",
    keeps=f"{_ARGUMENTS} momentum moving_mean_initializer moving_variance_initializer",
    dropped={
        "renorm": _NEVER_SET,
        "renorm_clipping": ANYTHING,
        "renorm_momentum": ANYTHING,
        "fused": ANYTHING,
        "virtual_batch_size": _NEVER_SET,
        "adjustment": _NEVER_SET,
        "synchronized": ANYTHING,
    },
    limits={"axis": Limit(allows=_is_one_axis, why="Keras 3 normalises over one axis")},
    single=frozenset({"axis"}),
)

LAYERS = (
    *(
        LayerClass(
            name=name,
            masks=Masks.PASSED_ON,
            keras3=_BY_BATCH,
            weights=_by_batch,
            never_trained=frozenset(
                "moving_mean moving_variance renorm_mean renorm_stddev renorm_mean_weight "
                "renorm_stddev_weight".split()
            ),
            identified_by_name=True,
        )
        for name in (
            "BatchNormalization",
            "BatchNormalizationV1",
            "BatchNormalizationV2",
            "SyncBatchNormalization",
        )
    ),
    LayerClass(
        name="LayerNormalization",
        masks=Masks.PASSED_ON,
        keras3=Keras3(name="LayerNormalization", keeps=_ARGUMENTS),
        always_written="axis center epsilon scale",
        weights=_by_layer,
        identified_by_name=True,
    ),
    LayerClass(
        name="Normalization",
        masks=Masks.PASSED_ON_BY_KERAS_3,
        keras3=Keras3(name="Normalization", keeps="axis"),
        always_written="axis",
        weights=_by_data_set,
    ),
)
