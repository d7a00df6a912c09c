"""Convolution, cropping, padding and upsampling layers."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from remap.layers.declaration import ANYTHING, Fold, Keras3, LayerClass, Limit, Masks, Setting, three
from remap.layers.weights import OwnedWeights, Slot, window, with_bias
from remap.typed_json import Config

__all__ = ["DEPTHWISE_CONV2D", "LAYERS"]

_LAST = {"data_format": "channels_last"}
_WHOLE = {"activation": Fold(("kernel", "bias"))}
_POINTWISE = {"activation": Fold(("pointwise_kernel", "bias"))}
_DEPTHWISE = {"activation": Fold(("depthwise_kernel", "bias"))}
_ONE_GROUP = {"groups": (1,)}
_UNUSED_KERNEL = dict.fromkeys(three("kernel").split(), ANYTHING)
_SHARED = "kernel_size strides padding data_format dilation_rate activation use_bias"
_CONVOLUTION = f"filters {_SHARED} {three('kernel', 'bias')}"
_SEPARABLE = f"filters {_SHARED} depth_multiplier {three('depthwise', 'pointwise', 'bias')}"


def _kernel(rank: int, config: Config) -> OwnedWeights:
    filters = config.integer("filters", at_least=0)
    return with_bias(config, Slot("kernel", (*window(config, rank), None, filters)), bias=(filters,))


def _transposed(rank: int, config: Config) -> OwnedWeights:
    filters = config.integer("filters", at_least=0)
    return with_bias(config, Slot("kernel", (*window(config, rank), filters, None)), bias=(filters,))


def _separable(rank: int, config: Config) -> OwnedWeights:
    filters = config.integer("filters", at_least=0)
    depth = config.integer("depth_multiplier", at_least=0, default=1)
    return with_bias(
        config,
        Slot("depthwise_kernel", (*window(config, rank), None, depth)),
        Slot("pointwise_kernel", (*(1,) * rank, None, filters)),
        bias=(filters,),
    )


def _depthwise(config: Config) -> OwnedWeights:
    depth = config.integer("depth_multiplier", at_least=0, default=1)
    return with_bias(config, Slot("depthwise_kernel", (*window(config, 2), None, depth)), bias=(None,))


def _transposed_in_keras_3(name: str, setting: Setting) -> Keras3:
    """Leave the dilation out where TensorFlow before 1.13 kept the argument and did not use it."""
    ignored = "dilation_rate" if setting.writer.before_1_13 else ""
    return Keras3(
        name=name,
        keeps=f"{_CONVOLUTION} output_padding".replace(ignored, ""),
        dropped={**_ONE_GROUP, **dict.fromkeys(ignored.split(), ANYTHING)},
        missing=_LAST,
        folds=_WHOLE,
    )


def _upsampling(setting: Setting) -> Keras3:
    """Refuse bilinear interpolation where its sampling points lie elsewhere in Keras 3, as those of Keras itself do."""
    why = "bilinear interpolation, whose sampling points lie elsewhere in Keras 3"
    if setting.writer.ambiguous:
        why = (
            "bilinear interpolation, whose sampling points moved between the versions of TensorFlow that write this "
            "file's Keras version"
        )
    settled = setting.writer.tensorflow and not setting.writer.ambiguous
    limit = Limit(
        allows=lambda value: settled or value.is_one_of([None, "nearest"]),
        why=why,
        unsure=setting.writer.ambiguous,
    )
    by_default = "TensorFlow 1.13 did not write down how it interpolates: by nearest"
    return Keras3(
        name="UpSampling2D",
        keeps="size data_format interpolation",
        limits={"interpolation": limit},
        missing=_LAST,
        notes_if_absent={"interpolation": by_default} if setting.writer.ambiguous else {},
    )


def _convolution(
    name: str,
    keras3: Keras3 | Callable[[Setting], Keras3] | None,
    weights: Callable[[Config], OwnedWeights],
) -> LayerClass:
    return LayerClass(
        name=name,
        masks=None if keras3 is None else Masks.ENDED,
        keras3=keras3,
        always_written="kernel_size" if weights is _depthwise else "filters kernel_size",
        weights=weights,
        identified_by_name=True,
    )


def _resizing(keras3: Keras3) -> LayerClass:
    return LayerClass(name=keras3.name, masks=Masks.ENDED, keras3=keras3)


DEPTHWISE_CONV2D = _convolution(
    "DepthwiseConv2D",
    Keras3(
        name="DepthwiseConv2D",
        keeps=f"{_SHARED} depth_multiplier {three('depthwise', 'bias')}",
        dropped={**_ONE_GROUP, **_UNUSED_KERNEL, "filters": (None, False, 0)},
        missing=_LAST,
        folds=_DEPTHWISE,
    ),
    _depthwise,
)
LAYERS = (
    *(
        _convolution(
            f"Conv{rank}D",
            Keras3(name=f"Conv{rank}D", keeps=f"{_CONVOLUTION} groups", missing=_LAST, folds=_WHOLE),
            partial(_kernel, rank),
        )
        for rank in (1, 2, 3)
    ),
    _convolution("Conv1DTranspose", None, partial(_transposed, 1)),
    *(
        _convolution(
            f"Conv{rank}DTranspose",
            partial(_transposed_in_keras_3, f"Conv{rank}DTranspose"),
            partial(_transposed, rank),
        )
        for rank in (2, 3)
    ),
    *(
        _convolution(
            f"SeparableConv{rank}D",
            Keras3(
                name=f"SeparableConv{rank}D",
                keeps=_SEPARABLE,
                dropped={**_ONE_GROUP, **_UNUSED_KERNEL},
                missing=_LAST,
                folds=_POINTWISE,
            ),
            partial(_separable, rank),
        )
        for rank in (1, 2)
    ),
    DEPTHWISE_CONV2D,
    _resizing(Keras3(name="Cropping1D", keeps="cropping")),
    _resizing(Keras3(name="Cropping2D", keeps="cropping data_format", missing=_LAST)),
    _resizing(Keras3(name="Cropping3D", keeps="cropping data_format", missing=_LAST)),
    _resizing(Keras3(name="ZeroPadding1D", keeps="padding")),
    _resizing(Keras3(name="ZeroPadding2D", keeps="padding data_format", missing=_LAST)),
    _resizing(Keras3(name="ZeroPadding3D", keeps="padding data_format", missing=_LAST)),
    _resizing(Keras3(name="UpSampling1D", keeps="size")),
    LayerClass(name="UpSampling2D", masks=Masks.ENDED, keras3=_upsampling),
    _resizing(Keras3(name="UpSampling3D", keeps="size data_format", missing=_LAST)),
)
