"""Recurrent layers and their cells."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from remap.layers.declaration import ANYTHING, BuiltAs, Fold, Keras3, LayerClass, Masks, three
from remap.layers.weights import (
    AddBiases,
    OwnedWeights,
    Slot,
    SplitBiases,
    TransposeGates,
    UnpackCudnnKernel,
    WeightChange,
    joined,
    window,
    with_bias,
)
from remap.typed_json import Config, KerasObject

__all__ = ["LAYERS"]

_ALL = ("kernel", "recurrent_kernel", "bias")
_OF_LSTM = {"recurrent_activation": Fold(_ALL, 4, (0, 1, 3))}
_OF_GRU = {"recurrent_activation": Fold(_ALL, 3, (0, 1))}
_OF_SIMPLE = {"activation": Fold(_ALL)}
_LAST = {"data_format": "channels_last"}
_SOFT = {"recurrent_activation": "hard_sigmoid"}
_CELL = f"units activation use_bias dropout recurrent_dropout {three('kernel', 'recurrent', 'bias')}"
_SEQUENCE = "return_sequences return_state go_backwards stateful"
_ROLLED = f"{_SEQUENCE} unroll zero_output_for_mask"
_CUDNN = f"units {_SEQUENCE} {three('kernel', 'recurrent', 'bias')}"
_LOOSE: Mapping[str, tuple[Any, ...]] = {
    "implementation": ANYTHING,
    "time_major": (None, False, 0),
    "input_dim": ANYTHING,
    "input_length": ANYTHING,
}
_AS_CUDNN = {"activation": "tanh", "recurrent_activation": "sigmoid", "use_bias": True}


def _gated(gates: int, config: Config) -> OwnedWeights:
    units = config.integer("units", at_least=0)
    rows = (2,) if config.flag("reset_after", default=False) else ()
    return with_bias(
        config,
        Slot("kernel", (None, gates * units)),
        Slot("recurrent_kernel", (units, gates * units)),
        bias=(*rows, gates * units),
    )


def _peephole(config: Config) -> OwnedWeights:
    gates = tuple(Slot(f"{gate}_gate_peephole_weights") for gate in ("input", "forget", "output"))
    return joined((_gated(4, config), OwnedWeights(trainable=gates)))


def _cudnn(gates: int, config: Config) -> OwnedWeights:
    units = config.integer("units", at_least=0)
    return OwnedWeights(
        trainable=(
            Slot("kernel", (None, gates * units)),
            Slot("recurrent_kernel", (units, gates * units)),
            Slot("bias", (2 * gates * units,)),
        )
    )


def _conv_lstm(config: Config) -> OwnedWeights:
    filters = config.integer("filters", at_least=0)
    sides = window(config, 2)
    return with_bias(
        config,
        Slot("kernel", (*sides, None, 4 * filters)),
        Slot("recurrent_kernel", (*sides, filters, 4 * filters)),
        bias=(4 * filters,),
    )


def _of_cell(config: Config) -> OwnedWeights | None:
    return _owned_by_cell(config.keras_object("cell"))


def _of_cells(config: Config) -> OwnedWeights | None:
    """Concatenate the weights of the cells (`StackedRNNCells.trainable_weights`)."""
    parts = [_owned_by_cell(cell) for cell in config.keras_objects("cells")]
    known = [part for part in parts if part is not None]
    return joined(known) if len(known) == len(parts) else None


def _owned_by_cell(cell: KerasObject) -> OwnedWeights | None:
    """Give the weights of a cell; None for a custom class, and for Keras 2.0, which writes the name only."""
    known = _CELLS.get(cell.class_name)
    return known.weights(cell.config) if known is not None and known.describes(cell.config) else None


def _cell(
    name: str,
    keras3: Keras3 | None,
    weights: Callable[[Config], OwnedWeights | None],
    always_written: str = "units",
) -> LayerClass:
    return LayerClass(name=name, masks=None, keras3=keras3, always_written=always_written, weights=weights)


def _cudnn_changes(gates: int, biases: AddBiases | SplitBiases) -> tuple[WeightChange, ...]:
    return (
        WeightChange("kernel", (UnpackCudnnKernel(gates),)),
        WeightChange("recurrent_kernel", (TransposeGates(gates),)),
        WeightChange("bias", (biases,)),
    )


def _recurrent(
    name: str,
    keras3: Keras3 | None,
    weights: Callable[[Config], OwnedWeights | None],
    *,
    always_written: str = "units",
    listed_when_frozen: bool = False,
    runs_fast: bool = False,
    needs_cudnn: bool = False,
) -> LayerClass:
    return LayerClass(
        name=name,
        masks=None if keras3 is None else Masks.USED,
        keras3=keras3,
        always_written=always_written,
        weights=weights,
        takes_state=keras3 is not None,
        identified_by_name=keras3 is not None,
        listed_when_frozen=listed_when_frozen,
        runs_fast=runs_fast,
        needs_cudnn=needs_cudnn,
    )


_CELL_CLASSES = (
    _cell(
        "GRUCell",
        Keras3(
            name="GRUCell",
            keeps=f"{_CELL} recurrent_activation reset_after",
            dropped=_LOOSE,
            missing={"reset_after": False, **_SOFT},
            folds=_OF_GRU,
        ),
        partial(_gated, 3),
    ),
    _cell(
        "LSTMCell",
        Keras3(
            name="LSTMCell",
            keeps=f"{_CELL} recurrent_activation unit_forget_bias",
            dropped=_LOOSE,
            missing=_SOFT,
            folds=_OF_LSTM,
        ),
        partial(_gated, 4),
    ),
    _cell(
        "SimpleRNNCell",
        Keras3(name="SimpleRNNCell", keeps=_CELL, dropped=_LOOSE, folds=_OF_SIMPLE),
        partial(_gated, 1),
    ),
    _cell(
        "StackedRNNCells",
        Keras3(
            name="StackedRNNCells",
            dropped={"reverse_state_order": ANYTHING, "cells": ANYTHING},
            built_as=BuiltAs.CELLS,
        ),
        _of_cells,
        "cells",
    ),
    _cell("ConvLSTM2DCell", None, _conv_lstm, "filters kernel_size"),
    _cell("PeepholeLSTMCell", None, _peephole),
)
_CELLS: Mapping[str, LayerClass] = {cell.name: cell for cell in _CELL_CLASSES}

LAYERS = (
    *_CELL_CLASSES,
    _recurrent(
        "GRU",
        Keras3(
            name="GRU",
            keeps=f"{_CELL} {_ROLLED} recurrent_activation reset_after",
            dropped=_LOOSE,
            read_from_h5="implementation",
            missing={"reset_after": False, **_SOFT},
            folds=_OF_GRU,
            cell="gru_cell",
        ),
        partial(_gated, 3),
        listed_when_frozen=True,
        runs_fast=True,
    ),
    _recurrent(
        "LSTM",
        Keras3(
            name="LSTM",
            keeps=f"{_CELL} {_ROLLED} recurrent_activation unit_forget_bias",
            dropped=_LOOSE,
            read_from_h5="implementation",
            missing=_SOFT,
            folds=_OF_LSTM,
            cell="lstm_cell",
        ),
        partial(_gated, 4),
        listed_when_frozen=True,
        runs_fast=True,
    ),
    _recurrent(
        "SimpleRNN",
        Keras3(
            name="SimpleRNN",
            keeps=f"{_CELL} {_ROLLED}",
            dropped=_LOOSE,
            folds=_OF_SIMPLE,
            cell="simple_rnn_cell",
        ),
        partial(_gated, 1),
        listed_when_frozen=True,
    ),
    _recurrent(
        "RNN",
        Keras3(name="RNN", keeps=_ROLLED, dropped={**_LOOSE, "cell": ANYTHING}, built_as=BuiltAs.CELLS),
        _of_cell,
        always_written="cell",
        listed_when_frozen=True,
    ),
    _recurrent(
        "ConvLSTM2D",
        Keras3(
            name="ConvLSTM2D",
            keeps=f"filters kernel_size strides padding data_format dilation_rate activation recurrent_activation "
            f"use_bias unit_forget_bias dropout recurrent_dropout zero_output_for_mask "
            f"{_SEQUENCE} {three('kernel', 'recurrent', 'bias')}",
            dropped={**_LOOSE, "unroll": ANYTHING},
            read_from_h5="unroll",
            missing={**_LAST, "return_state": False},
            folds=_OF_LSTM,
            cell="conv_lstm_cell",
        ),
        _conv_lstm,
        always_written="filters kernel_size",
    ),
    _recurrent("ConvRNN2D", None, _of_cell, always_written="cell"),
    _recurrent(
        "CuDNNGRU",
        Keras3(
            name="GRU",
            keeps=_CUDNN,
            dropped=_LOOSE,
            fixed={**_AS_CUDNN, "reset_after": True},
            changes=_cudnn_changes(3, SplitBiases()),
            cell="gru_cell",
        ),
        partial(_cudnn, 3),
        needs_cudnn=True,
    ),
    _recurrent(
        "CuDNNLSTM",
        Keras3(
            name="LSTM",
            keeps=f"{_CUDNN} unit_forget_bias",
            dropped=_LOOSE,
            fixed=_AS_CUDNN,
            changes=_cudnn_changes(4, AddBiases()),
            cell="lstm_cell",
        ),
        partial(_cudnn, 4),
        needs_cudnn=True,
    ),
)
