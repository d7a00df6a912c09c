"""One layer that is no model and wraps none, written for Keras 3."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from remap.errors import InputRefused, RemapError, Undecided
from remap.keras.checkpoint import Weight
from remap.keras.config import Config, Layer, read_layer
from remap.keras3.arguments import dtype_of, translate
from remap.keras3.built import Built, Setting, describe, refuse
from remap.keras3.cells import owned_by, share_out
from remap.keras3.naming import number_names, snake_case
from remap.keras3.objects import dtype_policy, keras_object
from remap.keras3.recipe import Group, Recipe, from_cudnn_gru, from_cudnn_lstm, keep, scale_blocks
from remap.keras3.rules import RULES, Rule
from remap.keras3.special import custom_layer, input_layer, lambda_layer

__all__ = ["build_layer"]

_SLOPE = 1.2  # clip(0.2 x + 0.5) of old is clip(1.2 x / 6 + 0.5), which is Keras 3's hard_sigmoid of 1.2 x


def build_layer(layer: Layer, name: str, weights: Sequence[Weight], setting: Setting) -> Built:
    """Write a layer under a new name, its weights given in the order Keras 2 loads them.

    Raises InputRefused when there are more or fewer weights than the class has.
    """
    config = layer.config
    rule = RULES.get(layer.class_name)
    if layer.class_name == "InputLayer":
        return input_layer(layer, name, config)
    if layer.class_name == "Lambda":
        return lambda_layer(layer, name, config, setting)
    if rule is None:
        return custom_layer(layer, name, config, weights, setting)
    if layer.class_name == "Softmax" and setting.masks and _over_last_axis(config):
        # Keras 3's Softmax obeys a mask, the old one did not, nor does the activation.
        config, rule = config.without("axis"), replace(RULES["Activation"], fixed={"activation": "softmax"})
    if layer.class_name in {"RNN", "StackedRNNCells"}:
        return _with_cells(layer, name, config, weights, setting)
    owned = owned_by(layer)
    slots = () if owned is None else (*owned.trainable, *owned.non_trainable)
    if len(weights) != len(slots):
        raise InputRefused(
            f"{len(weights)} weights, where such a layer has {len(slots)}", where=describe(layer)
        )
    problems = list(_problems(layer, config, setting))
    arguments, refused = translate(layer, rule, config)
    problems += refused
    if setting.writer.before_1_13 and "Transpose" in layer.class_name:
        # That release kept the argument and did not use it.
        arguments.pop("dilation_rate", None)
    recipes = _recipes(layer.class_name, weights)
    recipes, notes, trouble = _fold(layer, rule, arguments, recipes, [slot.leaf for slot in slots])
    problems += trouble
    if layer.class_name == "UpSampling2D" and setting.writer.ambiguous and not config.has("interpolation"):
        notes = (f"{describe(layer)}: TensorFlow 1.13 did not write down how it interpolates: by nearest",)
    before = None
    if layer.class_name == "Activation" and arguments.get("activation") == "hard_sigmoid":
        before = _rescaling(name, setting)
        notes = (f"{describe(layer)}: a Rescaling layer stands before it, since hard_sigmoid is steeper now",)
    trainable = len(owned.trainable) if owned is not None and layer.trainable else 0
    dtype = dtype_of(config, weights, setting)
    base: dict[str, Any] = {"name": name, "trainable": layer.trainable} if rule.flagged else {"name": name}
    return Built(
        entry=keras_object("keras.layers", rule.name, {**base, "dtype": dtype_policy(dtype), **arguments}),
        groups=_groups(rule.name, name, recipes, trainable),
        before=before,
        notes=notes,
        problems=tuple(problems),
    )


def _groups(class_name: str, name: str, recipes: tuple[Recipe, ...], trainable: int) -> tuple[Group, ...]:
    """Put the weights where Keras 3 keeps them: those of a recurrent layer belong to its cell."""
    cell = _CELL_OF.get(class_name)
    if cell is None:
        return (Group(path="", name=name, recipes=recipes, trainable=trainable),)
    return Group(path="", name=name), Group(path="cell", name=cell, recipes=recipes, trainable=trainable)


_CELL_OF = {
    "ConvLSTM2D": "conv_lstm_cell",
    "GRU": "gru_cell",
    "LSTM": "lstm_cell",
    "SimpleRNN": "simple_rnn_cell",
}


def _recipes(class_name: str, weights: Sequence[Weight]) -> tuple[Recipe, ...]:
    recipes = tuple(keep(weight) for weight in weights)
    if class_name == "CuDNNLSTM":
        return from_cudnn_lstm(recipes)
    if class_name == "CuDNNGRU":
        return from_cudnn_gru(recipes)
    return recipes


def _fold(
    layer: Layer, rule: Rule, arguments: Mapping[str, Any], recipes: tuple[Recipe, ...], leaves: Sequence[str]
) -> tuple[tuple[Recipe, ...], tuple[str, ...], tuple[InputRefused, ...]]:
    """Make up for the slope of `hard_sigmoid` in the weights that feed it."""
    notes: list[str] = []
    refused = []
    for argument in ("activation", "recurrent_activation"):
        if arguments.get(argument) != "hard_sigmoid" or layer.class_name == "Activation":
            continue
        fold = rule.folds.get(argument)
        if fold is None:
            refused.append(refuse(layer, f"{argument}='hard_sigmoid', whose slope is another in Keras 3"))
            continue
        recipes = tuple(
            scale_blocks(recipe, _SLOPE, fold.blocks, fold.chosen) if leaf in fold.leaves else recipe
            for recipe, leaf in zip(recipes, leaves, strict=True)
        )
        notes.append(
            f"{describe(layer)}: weights that feed hard_sigmoid are {_SLOPE} times what they were, since its slope is "
            "1/6 in Keras 3 and was 0.2"
        )
    return recipes, tuple(notes), tuple(refused)


def _problems(layer: Layer, config: Config, setting: Setting) -> Iterable[RemapError]:
    """Find values that mean something else in Keras 3, or that it does not take."""
    if layer.class_name == "GaussianNoise":
        stddev = config.number("stddev")
        if not 0 <= stddev <= 1:
            yield refuse(layer, f"stddev={stddev!r}: Keras 3 takes 0 to 1")
    if layer.class_name == "Softmax" and setting.masks and config.has("axis"):
        yield refuse(
            layer,
            f"axis={config.value('axis').json()!r} in a model with masks, which this layer obeys in Keras 3",
        )
    if layer.class_name == "UpSampling2D" and config.optional_text("interpolation") not in {None, "nearest"}:
        if not setting.writer.tensorflow:
            yield refuse(layer, "bilinear interpolation, whose sampling points lie elsewhere in Keras 3")
        elif setting.writer.ambiguous:
            yield Undecided(
                "bilinear interpolation, whose sampling points moved between the versions of TensorFlow that write "
                "this file's Keras version",
                where=describe(layer),
                hint="convert to .weights.h5 instead",
            )


def _over_last_axis(config: Config) -> bool:
    return not config.has("axis") or config.value("axis").is_one_of([-1])


def _rescaling(name: str, setting: Setting) -> dict[str, Any]:
    config = {"name": f"{name}_slope", "trainable": True, "dtype": dtype_policy(setting.floatx)}
    return keras_object("keras.layers", "Rescaling", {**config, "scale": _SLOPE, "offset": 0.0})


def _with_cells(
    layer: Layer, name: str, config: Config, weights: Sequence[Weight], setting: Setting
) -> Built:
    """Write an RNN with its cell, or a stack of cells; the weights of frozen cells come last in the old order."""
    single = layer.class_name == "RNN"
    entries = [layer.config.object("cell")] if single else layer.config.objects("cells")
    cells = [read_layer(entry) for entry in entries]
    shares = share_out(layer, cells, weights)
    names = number_names(snake_case(cell.class_name) for cell in cells)
    parts = [
        build_layer(cell, cell.name or called, share, setting)
        for cell, called, share in zip(cells, names, shares, strict=True)
    ]
    rest = config.without("cell", "cells")
    arguments, refused = translate(layer, RULES[layer.class_name], rest)
    written = [part.entry for part in parts]
    arguments |= {"cell": written[0]} if single else {"cells": written}
    base = {
        "name": name,
        "trainable": layer.trainable,
        "dtype": dtype_policy(dtype_of(config, weights, setting)),
    }
    groups = [Group(path="", name=name)]
    for part, called in zip(parts, names, strict=True):
        below = "cell" if single else f"cells/{called}"
        groups += [_flagged(group.under(below), layer) for group in part.groups]
    return Built(
        entry=keras_object("keras.layers", layer.class_name, {**base, **arguments}),
        groups=tuple(groups),
        notes=tuple(note for part in parts for note in part.notes),
        problems=(*refused, *(problem for part in parts for problem in part.problems)),
    )


def _flagged(group: Group, layer: Layer) -> Group:
    return group if layer.trainable else replace(group, trainable=0)
