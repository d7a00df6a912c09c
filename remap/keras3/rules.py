"""How each built-in layer class of Keras 2 and tf.keras is written for Keras 3.

Read from the constructors and `get_config` of Keras 2.0.9 to 2.3.1 and tf.keras 1.12 to 2.3 on one side, of
Keras 3.5 and 3.15 (keras/src/layers) on the other.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

__all__ = ["ANYTHING", "GONE", "RULES", "Fold", "Rule"]

ANYTHING: tuple[Any, ...] = ("any value",)


@dataclass(frozen=True, slots=True)
class Fold:
    """Which weights feed an activation and nothing else, so that a factor before it can be put into them.

    `leaves` are their names; of each, the last axis consists of `blocks` equal parts of which `chosen` are
    meant.
    """

    leaves: tuple[str, ...]
    blocks: int = 1
    chosen: tuple[int, ...] = (0,)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One class: its name in Keras 3 and what becomes of its arguments.

    `keeps` go over under their own name, `renamed` under another; `dropped` are left out if they hold one
    of the values given (ANYTHING: whatever they hold). Any other argument is a refusal. `missing` is what
    an argument meant where an old file does not have it and Keras 3 takes it otherwise. `fixed` is written
    in any case. `flagged` tells whether the class takes `trainable`.
    """

    name: str
    keeps: frozenset[str]
    renamed: Mapping[str, str] = field(default_factory=dict)
    dropped: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)
    missing: Mapping[str, Any] = field(default_factory=dict)
    fixed: Mapping[str, Any] = field(default_factory=dict)
    folds: Mapping[str, Fold] = field(default_factory=dict)
    flagged: bool = True


_LAST = {"data_format": "channels_last"}
_NEVER_SET: tuple[Any, ...] = (None, False, 0)


def _three(*parts: str) -> str:
    return " ".join(
        f"{part}_{what}" for part in parts for what in ("initializer", "regularizer", "constraint")
    )


def _rule(name: str, keeps: str = "", **more: Any) -> Rule:
    return Rule(name=name, keeps=frozenset(keeps.split()), **more)


_CONV = f"filters kernel_size strides padding data_format dilation_rate activation use_bias {_three('kernel', 'bias')}"
_WHOLE = {"activation": Fold(("kernel", "bias"))}
_GROUPS: Mapping[str, tuple[Any, ...]] = {"groups": (1,)}
_UNUSED_KERNEL = {f"kernel_{what}": ANYTHING for what in ("initializer", "regularizer", "constraint")}
_SEPARABLE = (
    "filters kernel_size strides padding data_format dilation_rate depth_multiplier activation use_bias "
    + _three("depthwise", "pointwise", "bias")
)
_POOL = "pool_size strides padding data_format"
_CELL = f"units activation use_bias dropout recurrent_dropout {_three('kernel', 'recurrent', 'bias')}"
_SEQUENCE = "return_sequences return_state go_backwards stateful"
_LOOSE: Mapping[str, tuple[Any, ...]] = {
    "implementation": ANYTHING,
    "time_major": _NEVER_SET,
    "input_dim": ANYTHING,
    "input_length": ANYTHING,
}
_RECURRENT = ("kernel", "recurrent_kernel", "bias")
_LSTM_FOLDS = {"recurrent_activation": Fold(_RECURRENT, 4, (0, 1, 3))}
_GRU_FOLDS = {"recurrent_activation": Fold(_RECURRENT, 3, (0, 1))}
_RNN_FOLDS = {"activation": Fold(_RECURRENT)}
_CUDNN = f"units {_SEQUENCE} {_three('kernel', 'recurrent', 'bias')}"
_NORM = f"axis epsilon center scale {_three('beta', 'gamma')}"
_BATCH_NORM = _rule(
    "BatchNormalization",
    f"{_NORM} momentum moving_mean_initializer moving_variance_initializer",
    dropped={
        "renorm": _NEVER_SET,
        "renorm_clipping": ANYTHING,
        "renorm_momentum": ANYTHING,
        "fused": ANYTHING,
        "virtual_batch_size": _NEVER_SET,
        "adjustment": _NEVER_SET,
        "synchronized": ANYTHING,
    },
)
_SPATIAL_DROPOUT = {"dropped": {"noise_shape": ANYTHING}, "flagged": False}
_ATTENTION = {"dropped": {"causal": (False,)}}

RULES: Mapping[str, Rule] = {
    "Activation": _rule("Activation", "activation"),
    "ActivityRegularization": _rule("ActivityRegularization", "l1 l2"),
    "Add": _rule("Add"),
    "AdditiveAttention": _rule("AdditiveAttention", "use_scale dropout", **_ATTENTION),
    "AlphaDropout": _rule("AlphaDropout", "rate noise_shape seed"),
    "Attention": _rule("Attention", "use_scale dropout score_mode", **_ATTENTION),
    "Average": _rule("Average"),
    "AveragePooling1D": _rule("AveragePooling1D", _POOL, missing=_LAST),
    "AveragePooling2D": _rule("AveragePooling2D", _POOL, missing=_LAST),
    "AveragePooling3D": _rule("AveragePooling3D", _POOL, missing=_LAST),
    "BatchNormalization": _BATCH_NORM,
    "BatchNormalizationV1": _BATCH_NORM,
    "BatchNormalizationV2": _BATCH_NORM,
    "Concatenate": _rule("Concatenate", "axis"),
    "Conv1D": _rule("Conv1D", f"{_CONV} groups", missing=_LAST, folds=_WHOLE),
    "Conv2D": _rule("Conv2D", f"{_CONV} groups", missing=_LAST, folds=_WHOLE),
    "Conv2DTranspose": _rule(
        "Conv2DTranspose", f"{_CONV} output_padding", missing=_LAST, folds=_WHOLE, dropped=_GROUPS
    ),
    "Conv3D": _rule("Conv3D", f"{_CONV} groups", missing=_LAST, folds=_WHOLE),
    "Conv3DTranspose": _rule(
        "Conv3DTranspose", f"{_CONV} output_padding", missing=_LAST, folds=_WHOLE, dropped=_GROUPS
    ),
    "ConvLSTM2D": _rule(
        "ConvLSTM2D",
        f"filters kernel_size strides padding data_format dilation_rate activation recurrent_activation use_bias "
        f"unit_forget_bias dropout recurrent_dropout zero_output_for_mask "
        f"{_SEQUENCE} {_three('kernel', 'recurrent', 'bias')}",
        missing={**_LAST, "return_state": False},
        folds=_LSTM_FOLDS,
        dropped={**_LOOSE, "unroll": ANYTHING},
    ),
    "Cropping1D": _rule("Cropping1D", "cropping"),
    "Cropping2D": _rule("Cropping2D", "cropping data_format", missing=_LAST),
    "Cropping3D": _rule("Cropping3D", "cropping data_format", missing=_LAST),
    "CuDNNGRU": _rule(
        "GRU",
        _CUDNN,
        dropped=_LOOSE,
        fixed={
            "activation": "tanh",
            "recurrent_activation": "sigmoid",
            "use_bias": True,
            "reset_after": True,
        },
    ),
    "CuDNNLSTM": _rule(
        "LSTM",
        f"{_CUDNN} unit_forget_bias",
        dropped=_LOOSE,
        fixed={"activation": "tanh", "recurrent_activation": "sigmoid", "use_bias": True},
    ),
    "Dense": _rule(
        "Dense",
        f"units activation use_bias {_three('kernel', 'bias')}",
        folds=_WHOLE,
        dropped={"input_dim": ANYTHING},
    ),
    "DepthwiseConv2D": _rule(
        "DepthwiseConv2D",
        f"kernel_size strides padding depth_multiplier data_format dilation_rate activation use_bias "
        f"{_three('depthwise', 'bias')}",
        missing=_LAST,
        folds={"activation": Fold(("depthwise_kernel", "bias"))},
        dropped={**_GROUPS, **_UNUSED_KERNEL, "filters": _NEVER_SET},
    ),
    "Dot": _rule("Dot", "axes normalize"),
    "Dropout": _rule("Dropout", "rate noise_shape seed"),
    "ELU": _rule("ELU", "alpha"),
    "Embedding": _rule(
        "Embedding",
        f"input_dim output_dim mask_zero {_three('embeddings')}",
        dropped={"input_length": ANYTHING},
    ),
    "Flatten": _rule("Flatten", "data_format", missing=_LAST),
    "GRU": _rule(
        "GRU",
        f"{_CELL} {_SEQUENCE} recurrent_activation reset_after unroll zero_output_for_mask",
        missing={"reset_after": False, "recurrent_activation": "hard_sigmoid"},
        folds=_GRU_FOLDS,
        dropped=_LOOSE,
    ),
    "GRUCell": _rule(
        "GRUCell",
        f"{_CELL} recurrent_activation reset_after",
        missing={"reset_after": False, "recurrent_activation": "hard_sigmoid"},
        folds=_GRU_FOLDS,
        dropped=_LOOSE,
    ),
    "GaussianDropout": _rule("GaussianDropout", "rate seed"),
    "GaussianNoise": _rule("GaussianNoise", "stddev seed"),
    "GlobalAveragePooling1D": _rule("GlobalAveragePooling1D", "data_format keepdims", missing=_LAST),
    "GlobalAveragePooling2D": _rule("GlobalAveragePooling2D", "data_format keepdims", missing=_LAST),
    "GlobalAveragePooling3D": _rule("GlobalAveragePooling3D", "data_format keepdims", missing=_LAST),
    "GlobalMaxPooling1D": _rule("GlobalMaxPooling1D", "data_format keepdims", missing=_LAST),
    "GlobalMaxPooling2D": _rule("GlobalMaxPooling2D", "data_format keepdims", missing=_LAST),
    "GlobalMaxPooling3D": _rule("GlobalMaxPooling3D", "data_format keepdims", missing=_LAST),
    "LSTM": _rule(
        "LSTM",
        f"{_CELL} {_SEQUENCE} recurrent_activation unit_forget_bias unroll zero_output_for_mask",
        missing={"recurrent_activation": "hard_sigmoid"},
        folds=_LSTM_FOLDS,
        dropped=_LOOSE,
    ),
    "LSTMCell": _rule(
        "LSTMCell",
        f"{_CELL} recurrent_activation unit_forget_bias",
        missing={"recurrent_activation": "hard_sigmoid"},
        folds=_LSTM_FOLDS,
        dropped=_LOOSE,
    ),
    "LayerNormalization": _rule("LayerNormalization", _NORM),
    "LeakyReLU": _rule("LeakyReLU", "negative_slope", renamed={"alpha": "negative_slope"}),
    "Masking": _rule("Masking", "mask_value"),
    "MaxPooling1D": _rule("MaxPooling1D", _POOL, missing=_LAST),
    "MaxPooling2D": _rule("MaxPooling2D", _POOL, missing=_LAST),
    "MaxPooling3D": _rule("MaxPooling3D", _POOL, missing=_LAST),
    "Maximum": _rule("Maximum"),
    "Minimum": _rule("Minimum"),
    "Multiply": _rule("Multiply"),
    "Normalization": _rule("Normalization", "axis", dropped={"dtype": ANYTHING}),
    "PReLU": _rule("PReLU", f"shared_axes {_three('alpha')}"),
    "Permute": _rule("Permute", "dims"),
    "RNN": _rule("RNN", f"{_SEQUENCE} unroll zero_output_for_mask", dropped=_LOOSE),
    "ReLU": _rule("ReLU", "max_value negative_slope threshold"),
    "RepeatVector": _rule("RepeatVector", "n"),
    "Rescaling": _rule("Rescaling", "scale offset"),
    "Reshape": _rule("Reshape", "target_shape"),
    "SeparableConv1D": _rule(
        "SeparableConv1D",
        _SEPARABLE,
        missing=_LAST,
        folds={"activation": Fold(("pointwise_kernel", "bias"))},
        dropped={**_GROUPS, **_UNUSED_KERNEL},
    ),
    "SeparableConv2D": _rule(
        "SeparableConv2D",
        _SEPARABLE,
        missing=_LAST,
        folds={"activation": Fold(("pointwise_kernel", "bias"))},
        dropped={**_GROUPS, **_UNUSED_KERNEL},
    ),
    "SimpleRNN": _rule(
        "SimpleRNN", f"{_CELL} {_SEQUENCE} unroll zero_output_for_mask", folds=_RNN_FOLDS, dropped=_LOOSE
    ),
    "SimpleRNNCell": _rule("SimpleRNNCell", _CELL, folds=_RNN_FOLDS, dropped=_LOOSE),
    "Softmax": _rule("Softmax", "axis"),
    "SpatialDropout1D": _rule("SpatialDropout1D", "rate seed", **_SPATIAL_DROPOUT),
    "SpatialDropout2D": _rule("SpatialDropout2D", "rate seed data_format", **_SPATIAL_DROPOUT),
    "SpatialDropout3D": _rule("SpatialDropout3D", "rate seed data_format", **_SPATIAL_DROPOUT),
    "StackedRNNCells": _rule("StackedRNNCells", dropped={"reverse_state_order": ANYTHING}),
    "Subtract": _rule("Subtract"),
    "SyncBatchNormalization": _BATCH_NORM,
    "ThresholdedReLU": _rule("ReLU", renamed={"theta": "threshold"}),
    "UpSampling1D": _rule("UpSampling1D", "size"),
    "UpSampling2D": _rule("UpSampling2D", "size data_format interpolation", missing=_LAST),
    "UpSampling3D": _rule("UpSampling3D", "size data_format", missing=_LAST),
    "ZeroPadding1D": _rule("ZeroPadding1D", "padding"),
    "ZeroPadding2D": _rule("ZeroPadding2D", "padding data_format", missing=_LAST),
    "ZeroPadding3D": _rule("ZeroPadding3D", "padding data_format", missing=_LAST),
}

_OWN_CLASS = "convert to .weights.h5 instead, and load that into a model in which a class of your own does the layer's work"
_OPERATION = "rebuild the model in Keras 3 with keras.ops, and load a .weights.h5 made from this file"

GONE: Mapping[str, str] = {
    "AddLoss": _OPERATION,
    "AddMetric": _OPERATION,
    "DenseFeatures": _OWN_CLASS,
    "Highway": _OWN_CLASS,
    "LocallyConnected1D": _OWN_CLASS,
    "LocallyConnected2D": _OWN_CLASS,
    "MaxoutDense": _OWN_CLASS,
    "Merge": "load and save the model in Keras 2, which turns it into the merge layers of today",
    "SequenceFeatures": _OWN_CLASS,
    "SlicingOpLambda": _OPERATION,
    "TFOpLambda": _OPERATION,
    "TensorFlowOpLayer": _OPERATION,
}
"""Classes that Keras 3 no longer has, and what to do."""
