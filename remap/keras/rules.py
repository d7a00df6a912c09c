"""How the weights of each built-in layer class follow from its config.

Read from the `build` methods of Keras 2.0 to 2.3 and tf.keras 1.5 to 2.4 and held against layers that those
releases built.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from remap.keras.slots import OwnedWeights, Shape, Slot, joined

__all__ = ["RULES"]


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
    return joined([_cell(cell) for cell in config["cells"]])


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

RULES: Mapping[str, Callable[[Mapping[str, Any]], OwnedWeights | None]] = {
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
