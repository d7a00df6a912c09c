"""One layer that is no model and wraps none, written for Keras 3."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from remap.errors import InputRefused, RemapError, Undecided
from remap.keras.checkpoint import Weight
from remap.keras.config import Layer
from remap.keras.layers import owned_weights
from remap.keras.slots import OwnedWeights
from remap.keras3.naming import number_names, snake_case
from remap.keras3.objects import by_argument, dtype_name, dtype_policy, keras_object, plain
from remap.keras3.recipe import Group, Recipe, from_cudnn_gru, from_cudnn_lstm, keep, scale_blocks
from remap.keras3.rules import ANYTHING, GONE, RULES, Rule
from remap.keras3.writer import Writer

__all__ = ["Built", "Setting", "build_layer", "describe"]

# What every layer may hold beside its own arguments, handled here or of no use to Keras 3.
_COMMON = frozenset({"name", "trainable", "dtype", "batch_input_shape", "activity_regularizer", "autocast"})
_SLOPE = 1.2  # clip(0.2 x + 0.5) of old is clip(1.2 x / 6 + 0.5), which is Keras 3's hard_sigmoid of 1.2 x
_LAMBDA = "give the function a name in your code and rebuild the model in Keras 3, or convert to .weights.h5"


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """What holds for the whole model.

    `floatx` is the float type of layers that name none, `writer` the Keras that wrote the file, `masks` tells
    whether any layer makes a mask.
    """

    floatx: str
    writer: Writer
    masks: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Built:
    """A layer for Keras 3: how its config.json describes it, and its variables.

    The paths of `groups` begin at the layer; the first group is the layer itself. `before` describes a
    layer without weights that must stand in front of it. `notes` say what is not as it was, `problems` why
    the description cannot be given as it should.
    """

    entry: dict[str, Any]
    groups: tuple[Group, ...]
    before: dict[str, Any] | None = None
    notes: tuple[str, ...] = ()
    problems: tuple[RemapError, ...] = ()


def describe(layer: Layer) -> str:
    """Name a layer for a message."""
    return f"layer {layer.name!r} ({layer.class_name})"


def build_layer(layer: Layer, name: str, weights: Sequence[Weight], setting: Setting) -> Built:
    """Write a layer under a new name, its weights given in the order Keras 2 loads them.

    Raises InputRefused when there are more or fewer weights than the class has.
    """
    config = layer.config if isinstance(layer.config, dict) else {}
    rule = RULES.get(layer.class_name)
    if layer.class_name == "InputLayer":
        return _input_layer(layer, name, config)
    if layer.class_name == "Lambda":
        return _lambda(layer, name, config, setting)
    if rule is None:
        return _custom(layer, name, config, weights, setting)
    if layer.class_name == "Softmax" and setting.masks and config.get("axis", -1) == -1:
        # Keras 3's Softmax obeys a mask, the old one did not, nor does the activation.
        config = {**{key: config[key] for key in config if key != "axis"}, "activation": "softmax"}
        rule = RULES["Activation"]
    if layer.class_name in {"RNN", "StackedRNNCells"}:
        return _with_cells(layer, name, config, weights, setting)
    owned = _owned(layer)
    slots = () if owned is None else (*owned.trainable, *owned.non_trainable)
    if len(weights) != len(slots):
        raise InputRefused(
            f"{len(weights)} weights, where such a layer has {len(slots)}", where=describe(layer)
        )
    problems = list(_problems(layer, config, setting))
    arguments, refused = _arguments(layer, rule, config)
    problems += refused
    if setting.writer.before_1_13 and "Transpose" in layer.class_name:
        # That release kept the argument and did not use it.
        arguments.pop("dilation_rate", None)
    recipes = _recipes(layer.class_name, weights)
    recipes, notes, trouble = _fold(layer, rule, arguments, recipes, [slot.leaf for slot in slots])
    problems += trouble
    if layer.class_name == "UpSampling2D" and setting.writer.ambiguous and "interpolation" not in config:
        notes = (f"{describe(layer)}: TensorFlow 1.13 did not write down how it interpolates: by nearest",)
    before = None
    if layer.class_name == "Activation" and arguments.get("activation") == "hard_sigmoid":
        before = _rescaling(name, setting)
        notes = (f"{describe(layer)}: a Rescaling layer stands before it, since hard_sigmoid is steeper now",)
    trainable = len(owned.trainable) if owned is not None and layer.trainable else 0
    dtype = _dtype(config, weights, setting)
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


def _arguments(
    layer: Layer, rule: Rule, config: Mapping[str, Any]
) -> tuple[dict[str, Any], tuple[InputRefused, ...]]:
    """Translate the arguments; what cannot be is given back as refusals."""
    arguments: dict[str, Any] = {}
    refused = []
    for key, value in config.items():
        if key in rule.keeps:
            arguments[key] = by_argument(key, value)
        elif key in rule.renamed:
            arguments[rule.renamed[key]] = by_argument(key, value)
        elif key in rule.dropped:
            allowed = rule.dropped[key]
            if allowed is not ANYTHING and value not in allowed:
                refused.append(_refuse(layer, f"{key}={value!r}, which {rule.name} of Keras 3 does not have"))
        elif key not in _COMMON:
            refused.append(_refuse(layer, f"an argument {key!r} that h5remap does not know of this class"))
    if config.get("activity_regularizer") is not None:
        arguments["activity_regularizer"] = by_argument(
            "activity_regularizer", config["activity_regularizer"]
        )
    arguments = {**rule.missing, **arguments, **rule.fixed}
    if rule.name == "BatchNormalization" and isinstance(arguments.get("axis"), list):
        if len(arguments["axis"]) == 1:
            arguments["axis"] = arguments["axis"][0]
        else:
            refused.append(_refuse(layer, f"axis={arguments['axis']!r}: Keras 3 normalises over one axis"))
    if "seed" in arguments and not isinstance(arguments["seed"], int):
        arguments["seed"] = None
    return arguments, tuple(refused)


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
            refused.append(_refuse(layer, f"{argument}='hard_sigmoid', whose slope is another in Keras 3"))
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


def _problems(layer: Layer, config: Mapping[str, Any], setting: Setting) -> Iterable[RemapError]:
    """Find values that mean something else in Keras 3, or that it does not take."""
    if layer.class_name == "GaussianNoise":
        stddev = plain(config.get("stddev"))
        if isinstance(stddev, int | float) and not 0 <= stddev <= 1:
            yield _refuse(layer, f"stddev={stddev!r}: Keras 3 takes 0 to 1")
    if layer.class_name == "Softmax" and setting.masks and "axis" in config:
        yield _refuse(
            layer, f"axis={config['axis']!r} in a model with masks, which this layer obeys in Keras 3"
        )
    if layer.class_name == "UpSampling2D" and config.get("interpolation") not in {None, "nearest"}:
        if not setting.writer.tensorflow:
            yield _refuse(layer, "bilinear interpolation, whose sampling points lie elsewhere in Keras 3")
        elif setting.writer.ambiguous:
            yield Undecided(
                "bilinear interpolation, whose sampling points moved between the versions of TensorFlow that write "
                "this file's Keras version",
                where=describe(layer),
                hint="convert to .weights.h5 instead",
            )


def _refuse(layer: Layer, what: str) -> InputRefused:
    return InputRefused(what, where=describe(layer), hint="convert to .weights.h5 instead")


def _dtype(config: Mapping[str, Any], weights: Sequence[Weight], setting: Setting) -> str:
    """Find a layer's dtype: Keras 2 rarely says it, so its weights do.

    BatchNormalization of tf.keras keeps float32 weights in a float16 layer, which Keras 3 calls mixed.
    """
    named = dtype_name(config.get("dtype"))
    kept = [f"float{8 * int(weight.dtype[2:])}" for weight in weights if weight.dtype[1] == "f"]
    if named == "float16" and kept and set(kept) == {"float32"}:
        return "mixed_float16"
    return named or (kept[0] if kept else setting.floatx)


def _rescaling(name: str, setting: Setting) -> dict[str, Any]:
    config = {"name": f"{name}_slope", "trainable": True, "dtype": dtype_policy(setting.floatx)}
    return keras_object("keras.layers", "Rescaling", {**config, "scale": _SLOPE, "offset": 0.0})


def _input_layer(layer: Layer, name: str, config: Mapping[str, Any]) -> Built:
    shape = config.get("batch_input_shape", config.get("batch_shape"))
    problems: tuple[RemapError, ...] = ()
    if not isinstance(plain(shape), list):
        problems = (_refuse(layer, "an input of unknown shape"),)
    elif config.get("ragged"):
        problems = (_refuse(layer, "a ragged input"),)
    arguments = {
        "batch_shape": plain(shape),
        "dtype": dtype_name(config.get("dtype")) or "float32",
        "sparse": bool(config.get("sparse")),
        "name": name,
    }
    return Built(
        entry=keras_object("keras.layers", "InputLayer", arguments),
        groups=(Group(path="", name=name),),
        problems=problems,
    )


def _lambda(layer: Layer, name: str, config: Mapping[str, Any], setting: Setting) -> Built:
    """Write a Lambda that calls a named function; byte code of a Python long gone is not looked at."""
    function = config.get("function")
    problems: tuple[RemapError, ...] = ()
    notes: tuple[str, ...] = ()
    if config.get("function_type") != "function" or not isinstance(function, str):
        problems = (
            InputRefused("the layer is byte code of another Python", where=describe(layer), hint=_LAMBDA),
        )
        function = None
    else:
        notes = (f"{describe(layer)}: give the function in custom_objects={{{function!r}: ...}}",)
    arguments = {
        "name": name,
        "trainable": layer.trainable,
        "dtype": dtype_policy(_dtype(config, (), setting)),
        "function": by_argument("activation", function),
        "arguments": plain(config.get("arguments") or {}),
    }
    if config.get("output_shape_type") == "raw" and config.get("output_shape") is not None:
        arguments["output_shape"] = plain(config["output_shape"])
    return Built(
        entry=keras_object("keras.layers", "Lambda", arguments),
        groups=(Group(path="", name=name),),
        notes=notes,
        problems=problems,
    )


def _custom(
    layer: Layer, name: str, config: Mapping[str, Any], weights: Sequence[Weight], setting: Setting
) -> Built:
    """Write a layer of the user's own so that `custom_objects` finds its class: under the class's bare name."""
    kept = {key: value for key, value in config.items() if key != "batch_input_shape"}
    if "name" in kept:
        kept["name"] = name
    dtype = _dtype(config, weights, setting)
    if "dtype" in kept or dtype != "float32":
        kept["dtype"] = dtype
    recipes = tuple(keep(weight) for weight in weights)
    if layer.class_name in GONE:
        problem = InputRefused(
            "Keras 3 has no such layer", where=describe(layer), hint=GONE[layer.class_name]
        )
        notes: tuple[str, ...] = (
            f"{describe(layer)}: Keras 3 has no such layer; a class of that name must be yours",
        )
        problems: tuple[RemapError, ...] = (problem,)
    else:
        notes = (
            f"{describe(layer)}: a class of your own: give it in custom_objects={{{layer.class_name!r}: ...}}",
        )
        problems = ()
    return Built(
        entry=keras_object(None, layer.class_name, kept, registered_name=layer.class_name),
        groups=(
            Group(path="", name=name, recipes=recipes, trainable=len(recipes) if layer.trainable else 0),
        ),
        notes=notes,
        problems=problems,
    )


def _with_cells(
    layer: Layer, name: str, config: Mapping[str, Any], weights: Sequence[Weight], setting: Setting
) -> Built:
    """Write an RNN with its cell, or a stack of cells; the weights of frozen cells come last in the old order."""
    single = layer.class_name == "RNN"
    cells = [_cell(entry, layer) for entry in ([config.get("cell")] if single else config.get("cells") or [])]
    shares = _share_out(layer, cells, weights)
    names = number_names(snake_case(cell.class_name) for cell in cells)
    parts = [
        build_layer(cell, cell.name or called, share, setting)
        for cell, called, share in zip(cells, names, shares, strict=True)
    ]
    rest = {key: value for key, value in config.items() if key not in {"cell", "cells"}}
    arguments, refused = _arguments(layer, RULES[layer.class_name], rest)
    entries = [part.entry for part in parts]
    arguments |= {"cell": entries[0]} if single else {"cells": entries}
    base = {
        "name": name,
        "trainable": layer.trainable,
        "dtype": dtype_policy(_dtype(config, weights, setting)),
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


def _cell(entry: Any, owner: Layer) -> Layer:
    if not isinstance(entry, dict) or not isinstance(entry.get("config"), dict) or "class_name" not in entry:
        raise InputRefused("a recurrent layer without a cell", where=describe(owner))
    config = entry["config"]
    return Layer(
        name=config.get("name") or "",
        class_name=entry["class_name"],
        trainable=config.get("trainable") is not False,
        config=config,
    )


def _share_out(owner: Layer, cells: Sequence[Layer], weights: Sequence[Weight]) -> list[Sequence[Weight]]:
    """Tell apart what belongs to which cell; a cell of the user's own gets what the others leave."""
    counts = [_count(cell) for cell in cells]
    unknown = counts.count(None)
    left = len(weights) - sum(count or 0 for count in counts)
    if unknown > 1 or left < 0 or (left and not unknown):
        raise InputRefused(
            "its cells are not described, or not by their weights: Keras 2.0 wrote down the names only",
            where=describe(owner),
            hint="save the model again with Keras 2.1 or later",
        )
    shares: list[Sequence[Weight]] = [()] * len(cells)
    start = 0
    for index in sorted(range(len(cells)), key=lambda index: not cells[index].trainable):
        count = counts[index]
        end = start + (left if count is None else count)
        shares[index] = weights[start:end]
        start = end
    return shares


def _count(cell: Layer) -> int | None:
    """Count a cell's weights; None for a class that Keras does not have."""
    if cell.class_name == "StackedRNNCells":
        inner = [_count(_cell(entry, cell)) for entry in cell.config.get("cells") or []]
        return None if None in inner else sum(count or 0 for count in inner)
    if cell.class_name not in RULES:
        return None
    owned = _owned(cell)
    return None if owned is None else len(owned.trainable) + len(owned.non_trainable)


def _owned(layer: Layer) -> OwnedWeights | None:
    """Say which weights a layer owns; a cell owns what the layer that it makes up does."""
    return owned_weights(replace(layer, class_name=layer.class_name.removesuffix("Cell")))
