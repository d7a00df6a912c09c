"""Which weights each built-in layer class owns: trainable and not, in Keras's order.

Read from the `build` methods of Keras 2.0 to 2.3 and tf.keras 1.5 to 2.4 and held against layers that those
releases built. A class that is not here is the user's own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from remap.keras.config import Layer

__all__ = ["OwnedWeights", "Shape", "Slot", "is_weightless", "owned_weights"]

Shape = tuple[int | None, ...]
"""What the config says of a shape, in elements; None where it depends on the layer's input."""


# What Keras 2 and tf.keras call the kernel of a DepthwiseConv2D, and what Keras 3 calls it.
_RENAMED = ("depthwise_kernel", "kernel")


@dataclass(frozen=True, slots=True)
class Slot:
    """A place for one weight: its leaf name, its shape as far as the config tells (None: not at all)."""

    leaf: str
    shape: Shape | None = None

    def takes(self, leaf: str, shape: tuple[int, ...]) -> bool:
        """Tell whether a weight of that leaf name and shape may stand here."""
        if leaf != self.leaf and (leaf, self.leaf) != _RENAMED:
            return False
        if self.shape is None:
            return True
        return len(shape) == len(self.shape) and all(
            want is None or want == have for want, have in zip(self.shape, shape, strict=True)
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnedWeights:
    """A layer's own weights as if it were trainable."""

    trainable: tuple[Slot, ...] = ()
    non_trainable: tuple[Slot, ...] = ()


def owned_weights(layer: Layer) -> OwnedWeights | None:
    """Say which weights a layer that is not a model owns, or None for a class that Keras does not have.

    A wrapper owns what its inner layer owns (`keras/layers/wrappers.py`): a Bidirectional that twice, forward
    before backward.
    """
    if is_weightless(layer):
        return OwnedWeights()
    config = layer.config if isinstance(layer.config, Mapping) else {}
    if layer.wrapped is not None:
        if layer.wrapped.children is not None or layer.class_name not in {"TimeDistributed", "Bidirectional"}:
            return None
        inner = owned_weights(layer.wrapped)
        if inner is None or layer.class_name == "TimeDistributed":
            return inner
        other = inner if layer.backward is None else owned_weights(layer.backward)
        return None if other is None else _joined((inner, other))
    rule = _RULES.get(layer.class_name)
    if rule is None:
        return None
    try:
        return rule(config)
    except (KeyError, TypeError, ValueError):
        return None


def _joined(parts: Sequence[OwnedWeights]) -> OwnedWeights:
    return OwnedWeights(
        trainable=tuple(slot for part in parts for slot in part.trainable),
        non_trainable=tuple(slot for part in parts for slot in part.non_trainable),
    )


def is_weightless(layer: Layer) -> bool:
    """Tell whether the class is one of Keras's that never own a weight."""
    return layer.class_name in _WEIGHTLESS


def _number(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _window(config: Mapping[str, Any], rank: int) -> Shape:
    size = config["kernel_size"]
    if isinstance(size, int):
        return (size,) * rank
    if len(size) != rank:
        raise ValueError
    return tuple(_number(side) for side in size)


def _with_bias(config: Mapping[str, Any], *slots: Slot, bias: Shape | None) -> OwnedWeights:
    owned = (*slots, Slot("bias", bias)) if config.get("use_bias", True) else slots
    return OwnedWeights(trainable=owned)


def _dense(config: Mapping[str, Any]) -> OwnedWeights:
    units = _number(config["units"])
    return _with_bias(config, Slot("kernel", (None, units)), bias=(units,))


def _conv(rank: int) -> Callable[[Mapping[str, Any]], OwnedWeights]:
    def rule(config: Mapping[str, Any]) -> OwnedWeights:
        filters = _number(config["filters"])
        return _with_bias(config, Slot("kernel", (*_window(config, rank), None, filters)), bias=(filters,))

    return rule


def _transposed(rank: int) -> Callable[[Mapping[str, Any]], OwnedWeights]:
    def rule(config: Mapping[str, Any]) -> OwnedWeights:
        filters = _number(config["filters"])
        return _with_bias(config, Slot("kernel", (*_window(config, rank), filters, None)), bias=(filters,))

    return rule


def _separable(rank: int) -> Callable[[Mapping[str, Any]], OwnedWeights]:
    def rule(config: Mapping[str, Any]) -> OwnedWeights:
        filters = _number(config["filters"])
        depth = _number(config.get("depth_multiplier", 1))
        return _with_bias(
            config,
            Slot("depthwise_kernel", (*_window(config, rank), None, depth)),
            Slot("pointwise_kernel", (*(1,) * rank, None, filters)),
            bias=(filters,),
        )

    return rule


def _depthwise(config: Mapping[str, Any]) -> OwnedWeights:
    depth = _number(config.get("depth_multiplier", 1))
    return _with_bias(config, Slot("depthwise_kernel", (*_window(config, 2), None, depth)), bias=(None,))


def _local(config: Mapping[str, Any]) -> OwnedWeights:
    return _with_bias(config, Slot("kernel"), bias=None)


def _recurrent(
    gates: int, *, bias_rows: Callable[[Mapping[str, Any]], int] = lambda _: 1
) -> Callable[[Mapping[str, Any]], OwnedWeights]:
    def rule(config: Mapping[str, Any]) -> OwnedWeights:
        units = config["units"]
        wide = gates * units
        rows = bias_rows(config)
        return _with_bias(
            config,
            Slot("kernel", (None, wide)),
            Slot("recurrent_kernel", (units, wide)),
            bias=(wide,) if rows == 1 else (rows, wide),
        )

    return rule


def _gru_bias_rows(config: Mapping[str, Any]) -> int:
    return 2 if config.get("reset_after") else 1


def _cudnn(gates: int) -> Callable[[Mapping[str, Any]], OwnedWeights]:
    def rule(config: Mapping[str, Any]) -> OwnedWeights:
        units = config["units"]
        return OwnedWeights(
            trainable=(
                Slot("kernel", (None, gates * units)),
                Slot("recurrent_kernel", (units, gates * units)),
                Slot("bias", (2 * gates * units,)),
            )
        )

    return rule


def _conv_lstm(config: Mapping[str, Any]) -> OwnedWeights:
    wide = 4 * config["filters"]
    window = _window(config, 2)
    return _with_bias(
        config,
        Slot("kernel", (*window, None, wide)),
        Slot("recurrent_kernel", (*window, config["filters"], wide)),
        bias=(wide,),
    )


def _rnn(config: Mapping[str, Any]) -> OwnedWeights:
    return _cell(config["cell"])


def _cell(entry: Mapping[str, Any]) -> OwnedWeights:
    """Own what the cell owns; a stack of cells one after the other (`StackedRNNCells.trainable_weights`)."""
    config = entry["config"]
    if entry["class_name"] != "StackedRNNCells":
        return _CELLS[entry["class_name"]](config)
    return _joined([_cell(cell) for cell in config["cells"]])


def _scale_and_center(config: Mapping[str, Any], shape: Shape | None) -> tuple[Slot, ...]:
    names = [name for name, wanted in (("gamma", "scale"), ("beta", "center")) if config.get(wanted, True)]
    return tuple(Slot(name, shape) for name in names)


def _batch_normalization(config: Mapping[str, Any]) -> OwnedWeights | None:
    if config.get("renorm"):
        return None  # which averages it keeps differs between releases of TensorFlow
    axis = config.get("axis", -1)
    several = isinstance(axis, list) and len(axis) > 1
    shape: Shape | None = None if several or config.get("virtual_batch_size") else (None,)
    moving = (Slot("moving_mean", shape), Slot("moving_variance", shape))
    return OwnedWeights(trainable=_scale_and_center(config, shape), non_trainable=moving)


def _layer_normalization(config: Mapping[str, Any]) -> OwnedWeights:
    return OwnedWeights(trainable=_scale_and_center(config, None))


def _embedding(config: Mapping[str, Any]) -> OwnedWeights:
    shape = (_number(config["input_dim"]), _number(config["output_dim"]))
    return OwnedWeights(trainable=(Slot("embeddings", shape),))


def _prelu(_: Mapping[str, Any]) -> OwnedWeights:
    return OwnedWeights(trainable=(Slot("alpha"),))


def _attention(config: Mapping[str, Any]) -> OwnedWeights:
    return OwnedWeights(trainable=(Slot("scale", ()),) if config.get("use_scale") else ())


def _additive_attention(config: Mapping[str, Any]) -> OwnedWeights:
    return OwnedWeights(trainable=(Slot("scale", (None,)),) if config.get("use_scale", True) else ())


def _normalization(_: Mapping[str, Any]) -> OwnedWeights:
    return OwnedWeights(non_trainable=(Slot("mean"), Slot("variance"), Slot("count", ())))


def _peephole(config: Mapping[str, Any]) -> OwnedWeights:
    gates = tuple(Slot(f"{gate}_gate_peephole_weights") for gate in ("input", "forget", "output"))
    return OwnedWeights(trainable=(*_recurrent(4)(config).trainable, *gates))


def _einsum_dense(config: Mapping[str, Any]) -> OwnedWeights:
    return OwnedWeights(
        trainable=(Slot("kernel"), Slot("bias")) if config.get("bias_axes") else (Slot("kernel"),)
    )


def _random_features(_: Mapping[str, Any]) -> OwnedWeights:
    return OwnedWeights(
        trainable=(Slot("kernel_scale"),), non_trainable=(Slot("unscaled_kernel"), Slot("bias"))
    )


def _category_encoding(config: Mapping[str, Any]) -> OwnedWeights:
    return OwnedWeights(non_trainable=(Slot("idf"),) if config.get("output_mode") == "tf-idf" else ())


def _highway(config: Mapping[str, Any]) -> OwnedWeights:
    biases = (Slot("b"), Slot("b_carry")) if config.get("bias", True) else ()
    return OwnedWeights(trainable=(Slot("W"), Slot("W_carry"), *biases))


def _maxout(config: Mapping[str, Any]) -> OwnedWeights:
    return OwnedWeights(trainable=(Slot("W"), Slot("b")) if config.get("bias", True) else (Slot("W"),))


_CELLS: Mapping[str, Callable[[Mapping[str, Any]], OwnedWeights]] = {
    "SimpleRNNCell": _recurrent(1),
    "LSTMCell": _recurrent(4),
    "PeepholeLSTMCell": _peephole,
    "GRUCell": _recurrent(3, bias_rows=_gru_bias_rows),
    "ConvLSTM2DCell": _conv_lstm,
}

_RULES: Mapping[str, Callable[[Mapping[str, Any]], OwnedWeights | None]] = {
    "AdditiveAttention": _additive_attention,
    "Attention": _attention,
    "BatchNormalization": _batch_normalization,
    "BatchNormalizationV1": _batch_normalization,
    "BatchNormalizationV2": _batch_normalization,
    "CategoryEncoding": _category_encoding,
    "Conv1D": _conv(1),
    "Conv1DTranspose": _transposed(1),
    "Conv2D": _conv(2),
    "Conv2DTranspose": _transposed(2),
    "Conv3D": _conv(3),
    "Conv3DTranspose": _transposed(3),
    "ConvLSTM2D": _conv_lstm,
    "ConvRNN2D": _rnn,
    "CuDNNGRU": _cudnn(3),
    "CuDNNLSTM": _cudnn(4),
    "Dense": _dense,
    "DepthwiseConv2D": _depthwise,
    "EinsumDense": _einsum_dense,
    "Embedding": _embedding,
    "GRU": _recurrent(3, bias_rows=_gru_bias_rows),
    "Highway": _highway,
    "LSTM": _recurrent(4),
    "LayerNormalization": _layer_normalization,
    "LocallyConnected1D": _local,
    "LocallyConnected2D": _local,
    "MaxoutDense": _maxout,
    "Normalization": _normalization,
    "PReLU": _prelu,
    "RNN": _rnn,
    "RandomFourierFeatures": _random_features,
    "SeparableConv1D": _separable(1),
    "SeparableConv2D": _separable(2),
    "SimpleRNN": _recurrent(1),
    "SyncBatchNormalization": _batch_normalization,
}

_WEIGHTLESS = frozenset(
    """
    Activation ActivityRegularization Add AddLoss AddMetric AlphaDropout Average AveragePooling1D
    AveragePooling2D AveragePooling3D CategoryCrossing CenterCrop Concatenate Cropping1D Cropping2D
    Cropping3D Discretization Dot Dropout ELU Flatten GaussianDropout GaussianNoise GlobalAveragePooling1D
    GlobalAveragePooling2D GlobalAveragePooling3D GlobalMaxPooling1D GlobalMaxPooling2D GlobalMaxPooling3D
    Hashing InputLayer Lambda LeakyReLU Masking MaxPooling1D MaxPooling2D MaxPooling3D Maximum Merge Minimum
    Multiply Permute RandomContrast RandomCrop RandomFlip RandomHeight RandomRotation RandomTranslation
    RandomWidth RandomZoom ReLU RepeatVector Rescaling Reshape Resizing SlicingOpLambda Softmax
    SpatialDropout1D SpatialDropout2D SpatialDropout3D Subtract TFOpLambda TensorFlowOpLayer ThresholdedReLU
    UpSampling1D UpSampling2D UpSampling3D ZeroPadding1D ZeroPadding2D ZeroPadding3D
    """.split()
)
