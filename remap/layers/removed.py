"""Classes that Keras 3 does not have."""

from __future__ import annotations

from collections.abc import Callable

from remap.layers.declaration import LayerClass, Removed
from remap.layers.weights import OwnedWeights, Slot, no_weights, with_bias
from remap.typed_json import Config

__all__ = ["LAYERS"]

_OWN_CLASS = Removed("build the model in Keras 3 with a custom class for this layer, and load the weights")
_OPERATION = Removed("build the model in Keras 3 with keras.ops, and load the weights")


def _local(config: Config) -> OwnedWeights:
    return with_bias(config, Slot("kernel"), bias=None)


def _highway(config: Config) -> OwnedWeights:
    biases = (Slot("b"), Slot("b_carry")) if config.flag("bias", default=True) else ()
    return OwnedWeights(trainable=(Slot("W"), Slot("W_carry"), *biases))


def _maxout(config: Config) -> OwnedWeights:
    bias = (Slot("b"),) if config.flag("bias", default=True) else ()
    return OwnedWeights(trainable=(Slot("W"), *bias))


def _removed(
    name: str,
    instead: Removed,
    weights: Callable[[Config], OwnedWeights | None] = no_weights,
    *,
    always_written: str = "",
    identified_by_name: bool = False,
) -> LayerClass:
    return LayerClass(
        name=name,
        masks=None,
        keras3=instead,
        always_written=always_written,
        weights=weights,
        identified_by_name=identified_by_name,
    )


def _unknown(_: Config) -> None:
    """Give None: the weights depend on feature columns, which are not read."""


LAYERS = (
    _removed(
        "LocallyConnected1D",
        _OWN_CLASS,
        _local,
        always_written="filters kernel_size",
        identified_by_name=True,
    ),
    _removed(
        "LocallyConnected2D",
        _OWN_CLASS,
        _local,
        always_written="filters kernel_size",
        identified_by_name=True,
    ),
    _removed("Highway", _OWN_CLASS, _highway, always_written="bias init"),
    _removed("MaxoutDense", _OWN_CLASS, _maxout, always_written="bias nb_feature"),
    _removed("DenseFeatures", _OWN_CLASS, _unknown),
    _removed("SequenceFeatures", _OWN_CLASS, _unknown),
    *(_removed(name, _OPERATION) for name in ("AddLoss", "AddMetric", "SlicingOpLambda", "TFOpLambda")),
)
