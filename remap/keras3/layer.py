"""The conversion of one layer that is neither a model nor a wrapper."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from remap.architecture import Layer, dtype_name, input_shape, owned_weights, read_layer
from remap.checkpoint import Weight
from remap.errors import InputRefused, RemapError, Remedy, Undecided
from remap.keras3.objects import (
    by_argument,
    custom_function,
    dtype_policy,
    keras_object,
    number_names,
    snake_case,
)
from remap.keras3.operations import array, read_operation
from remap.keras3.tensors import VariableGroup
from remap.layers import CATALOGUE
from remap.layers.core import INPUT, RESCALING
from remap.layers.declaration import ANYTHING, BuiltAs, Keras3, Removed, Setting
from remap.layers.weights import OwnedWeights, ScaleBlocks
from remap.output_tensors import OutputTensor, keep
from remap.typed_json import Json, Value

__all__ = [
    "WEIGHTS_ONLY",
    "ConvertedLayer",
    "argument_values",
    "build_layer",
    "describe",
    "dtype_of",
    "refuse",
    "target_of",
    "translate_arguments",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class ConvertedLayer:
    """A layer for Keras 3.

    Attributes:
        entry: Its entry in config.json.
        groups: Its variables, with paths from the layer on; the first group is the layer itself.
        before: The entry of a layer without weights that has to be inserted before it.
        notes: What differs from the old layer.
        problems: Why the entry cannot be used; the variables can.
    """

    entry: dict[str, Any]
    groups: tuple[VariableGroup, ...]
    before: dict[str, Any] | None = None
    notes: tuple[str, ...] = ()
    problems: tuple[RemapError, ...] = ()


WEIGHTS_ONLY = (Remedy(option="target", value=".weights.h5"),)
"""Where a config cannot be written, the weights can."""


def describe(layer: Layer) -> str:
    """Name a layer for a message."""
    return f"layer {layer.name!r} ({layer.class_name})"


def refuse(layer: Layer, what: str) -> InputRefused:
    """Refuse to describe a layer for Keras 3; its weights can be converted."""
    return InputRefused(what, where=describe(layer), remedies=WEIGHTS_ONLY)


def dtype_of(layer: Layer, weights: Sequence[Weight], setting: Setting) -> str:
    """Find the dtype of a layer: from its config, else from its weights, since Keras 2 rarely writes it.

    BatchNormalization of tf.keras has float32 weights in a float16 layer: `mixed_float16` in Keras 3.
    """
    named = dtype_name(layer.config)
    kept = [f"float{8 * int(weight.dtype[2:])}" for weight in weights if weight.dtype[1] == "f"]
    if named == "float16" and kept and set(kept) == {"float32"}:
        return "mixed_float16"
    return named or (kept[0] if kept else setting.floatx)


# Arguments of every layer, which are converted elsewhere or which Keras 3 does not have.
_COMMON = frozenset({"name", "trainable", "dtype", "batch_input_shape", "activity_regularizer", "autocast"})
_REGULARIZER = "activity_regularizer"
_HARD_SIGMOID = "hard_sigmoid"
_SLOPE = (
    1.2  # old hard_sigmoid(x) = clip(0.2 x + 0.5) = clip(1.2 x / 6 + 0.5) = hard_sigmoid(1.2 x) in Keras 3
)


def build_layer(layer: Layer, name: str, weights: Sequence[Weight], setting: Setting) -> ConvertedLayer:
    """Convert a layer.

    Args:
        layer: The layer.
        name: Its name in Keras 3.
        weights: Its weights, in the order in which Keras 2 loads them.
        setting: What holds for the whole model.

    Raises:
        InputRefused: These are not the weights of such a layer.
    """
    target = target_of(layer, setting)
    if target is None:
        return _custom_layer(layer, name, weights, setting)
    match target.built_as:
        case BuiltAs.LAYER:
            return _plain_layer(layer, target, name, weights, setting)
        case BuiltAs.CELLS:
            return _layer_of_cells(layer, target, name, weights, setting)
        case BuiltAs.INPUT:
            return _input_layer(layer, target, name, weights)
        case BuiltAs.LAMBDA:
            return _lambda_layer(layer, target, name, weights, setting)
        case BuiltAs.OPERATION:
            return _operation_layer(layer, name, weights, setting)
        case BuiltAs.WRAPPER:
            raise InputRefused("the config of the wrapper has no inner layer", where=describe(layer))


def target_of(layer: Layer, setting: Setting) -> Keras3 | None:
    """Give the declaration of the layer's class in Keras 3; None for a class without one."""
    target = layer.declared.keras3 if layer.declared is not None else None
    if target is None or isinstance(target, Removed):
        return None
    return target if isinstance(target, Keras3) else target(setting)


def _plain_layer(
    layer: Layer, target: Keras3, name: str, weights: Sequence[Weight], setting: Setting
) -> ConvertedLayer:
    """Convert a layer with its arguments and weights as the declaration of its class says."""
    owned = _checked(layer, weights)
    arguments = translate_arguments(layer, target)
    changed = _changed(target, owned, weights)
    variables, notes, problems = _folded(layer, target, arguments, owned, changed)
    before = None
    if any(
        not fold.leaves and arguments.values.get(key) == _HARD_SIGMOID for key, fold in target.folds.items()
    ):
        before = _rescaling(name, setting)
        notes = (
            f"{describe(layer)}: a Rescaling layer is inserted before it to keep the slope of hard_sigmoid",
        )
    base: dict[str, Any] = {"name": name}
    if target.takes_trainable:
        base["trainable"] = layer.trainable
    base["dtype"] = dtype_policy(dtype_of(layer, weights, setting))
    trained = VariableGroup(
        path="cell" if target.cell else "",
        name=target.cell or name,
        variables=variables,
        trainable=len(owned.trainable) if layer.trainable else 0,
    )
    return ConvertedLayer(
        entry=keras_object("keras.layers", target.name, {**base, **arguments.values}),
        groups=(VariableGroup(path="", name=name), trained) if target.cell else (trained,),
        before=before,
        notes=(*notes, *arguments.notes),
        problems=(*arguments.problems, *problems),
    )


def _checked(layer: Layer, weights: Sequence[Weight]) -> OwnedWeights:
    """Give the declared weights of the layer; raise InputRefused where the stored weights are others."""
    owned = owned_weights(layer) or OwnedWeights()
    if len(weights) != len(owned.slots):
        raise InputRefused(
            f"{len(weights)} weights, where such a layer has {len(owned.slots)}", where=describe(layer)
        )
    for slot, weight in zip(owned.slots, weights, strict=True):
        if not slot.fits(weight.shape):
            wanted = str(slot.shape).replace("None", "any")
            raise InputRefused(
                f"a {slot.leaf} of shape {weight.shape}, where such a layer has {wanted}",
                where=describe(layer),
            )
    return owned


def _changed(target: Keras3, owned: OwnedWeights, weights: Sequence[Weight]) -> tuple[OutputTensor, ...]:
    operations = {change.leaf: change.operations for change in target.changes}
    return tuple(
        keep(weight).after(*operations.get(slot.leaf, ()))
        for slot, weight in zip(owned.slots, weights, strict=True)
    )


def _folded(
    layer: Layer,
    target: Keras3,
    arguments: Arguments,
    owned: OwnedWeights,
    variables: tuple[OutputTensor, ...],
) -> tuple[tuple[OutputTensor, ...], tuple[str, ...], tuple[InputRefused, ...]]:
    """Multiply the weights before a `hard_sigmoid` to compensate for its other slope in Keras 3."""
    notes: list[str] = []
    refused = []
    for argument in ("activation", "recurrent_activation"):
        if arguments.values.get(argument) != _HARD_SIGMOID:
            continue
        fold = target.folds.get(argument)
        if fold is None:
            refused.append(refuse(layer, f"{argument}='hard_sigmoid', whose slope is different in Keras 3"))
        elif fold.leaves:
            scale = ScaleBlocks(_SLOPE, fold.blocks, fold.chosen)
            variables = tuple(
                variable.after(scale) if slot.leaf in fold.leaves else variable
                for variable, slot in zip(variables, owned.slots, strict=True)
            )
            notes.append(
                f"{describe(layer)}: weights before hard_sigmoid are multiplied by {_SLOPE}, since its slope is 1/6 in "
                "Keras 3 and was 0.2"
            )
    return variables, tuple(notes), tuple(refused)


def _rescaling(name: str, setting: Setting) -> dict[str, Any]:
    config = {"name": f"{name}_slope", "trainable": True, "dtype": dtype_policy(setting.floatx)}
    return keras_object("keras.layers", RESCALING.name, {**config, "scale": _SLOPE, "offset": 0.0})


def _input_layer(layer: Layer, target: Keras3, name: str, weights: Sequence[Weight]) -> ConvertedLayer:
    """Convert an InputLayer."""
    _checked(layer, weights)
    shape = input_shape(layer.config)
    problems = translate_arguments(layer, target).problems
    if shape is None:
        problems = (refuse(layer, "an input of unknown shape"), *problems)
    arguments = {
        "batch_shape": None if shape is None else list(shape.shape()),
        "dtype": dtype_name(layer.config) or "float32",
        "sparse": bool(layer.config.flag("sparse", default=None)),
        "name": name,
    }
    return ConvertedLayer(
        entry=keras_object("keras.layers", INPUT.name, arguments),
        groups=(VariableGroup(path="", name=name),),
        problems=problems,
    )


def _lambda_layer(
    layer: Layer, target: Keras3, name: str, weights: Sequence[Weight], setting: Setting
) -> ConvertedLayer:
    """Convert a Lambda to one whose function `custom_objects` must give.

    The name of the function is that in the file, or that of the layer where the file has byte code, which is never
    decoded; `name_lambda_functions` changes names that are taken.
    """
    _checked(layer, weights)
    config = layer.config
    by_name = config.optional_text("function_type") == "function" and config.value("function").kind == "text"
    arguments: dict[str, Json] = {
        "name": name,
        "trainable": layer.trainable,
        "dtype": dtype_policy(dtype_of(layer, (), setting)),
        "function": custom_function(config.text("function") if by_name else name),
    }
    problems = translate_arguments(layer, target).problems
    given = config.object("arguments", default=None)
    try:
        arguments["arguments"] = {} if given is None else {key: _argument(one) for key, one in given.items()}
    except InputRefused as refusal:
        problems = (*problems, refuse(layer, f"arguments of its function: {refusal.what}"))
    shape = config.value("output_shape") if config.optional_text("output_shape_type") == "raw" else None
    if shape is not None and shape.kind == "list" and all(one.kind != "list" for one in shape.values()):
        arguments["output_shape"] = list(shape.shape())
    return ConvertedLayer(
        entry=keras_object("keras.layers", target.name, arguments),
        groups=(VariableGroup(path="", name=name),),
        problems=problems,
    )


def _argument(value: Value) -> Json:
    """Convert an argument of a Lambda's function; arrays stay arrays.

    Raises InputRefused for a value that Keras 3 would pass to the function as something else than old Keras did.
    """
    if value.kind == "object":
        entry = value.object()
        if entry.holds("type", "ndarray"):
            return array(entry.value("value"))
        if entry.has("class_name") and entry.has("config"):
            value.refuse("an object of Keras")
        if not entry.has("class_name"):
            return {key: _argument(item) for key, item in entry.items()}
    return [_argument(item) for item in value.values()] if value.kind in {"object", "list"} else value.json()


def _operation_layer(layer: Layer, name: str, weights: Sequence[Weight], setting: Setting) -> ConvertedLayer:
    """Convert an operation of TensorFlow to one of Keras 3, which is not a layer and has no group in the file."""
    _checked(layer, weights)
    try:
        entry = read_operation(layer.config).entry(name)
    except InputRefused as refusal:
        built = _custom_layer(layer, name, weights, setting)
        return replace(built, notes=(), problems=(refuse(layer, refusal.what),))
    return ConvertedLayer(entry=entry, groups=())


def _custom_layer(layer: Layer, name: str, weights: Sequence[Weight], setting: Setting) -> ConvertedLayer:
    """Convert a layer of a custom class: `custom_objects` must give the class under its name."""
    kept = layer.config.without("batch_input_shape")
    dtype = dtype_of(layer, weights, setting)
    if layer.config.has("name"):
        kept = kept.replaced(name=name)
    if layer.config.has("dtype") or dtype != "float32":
        kept = kept.replaced(dtype=dtype)
    variables = tuple(keep(weight) for weight in weights)
    problems: tuple[RemapError, ...] = ()
    note = f"a custom class: give it to load_model as custom_objects={{{layer.class_name!r}: ...}}"
    if layer.declared is not None and isinstance(layer.declared.keras3, Removed):
        what = "Keras 3 has no such layer"
        removed = layer.declared.keras3
        remedies = WEIGHTS_ONLY if removed.weights_help else ()
        problems = (InputRefused(what, where=describe(layer), hint=removed.hint, remedies=remedies),)
        note = f"{what}; load_model needs a custom class of that name"
    trained = len(variables) if layer.trainable else 0
    return ConvertedLayer(
        entry=keras_object(None, layer.class_name, kept.json(), registered_name=layer.class_name),
        groups=(VariableGroup(path="", name=name, variables=variables, trainable=trained),),
        notes=(f"{describe(layer)}: {note}",),
        problems=problems,
    )


def _layer_of_cells(
    layer: Layer, target: Keras3, name: str, weights: Sequence[Weight], setting: Setting
) -> ConvertedLayer:
    """Convert an RNN with its cell or its list of cells."""
    single = "cell" in target.dropped
    entries = [layer.config.object("cell")] if single else layer.config.objects("cells")
    cells = [read_layer(entry) for entry in entries]
    shares = _weights_of_cells(layer, cells, weights)
    names = number_names(snake_case(cell.class_name) for cell in cells)
    parts = [
        build_layer(cell, cell.name or called, share, setting)
        for cell, called, share in zip(cells, names, shares, strict=True)
    ]
    written = [part.entry for part in parts]
    arguments = translate_arguments(layer, target)
    config = {
        "name": name,
        "trainable": layer.trainable,
        "dtype": dtype_policy(dtype_of(layer, weights, setting)),
        **arguments.values,
        **({"cell": written[0]} if single else {"cells": written}),
    }
    groups = [VariableGroup(path="", name=name)]
    for part, called in zip(parts, names, strict=True):
        below = "cell" if single else f"cells/{called}"
        groups += [_flagged(group.under(below), layer) for group in part.groups]
    return ConvertedLayer(
        entry=keras_object("keras.layers", target.name, config),
        groups=tuple(groups),
        notes=tuple(note for part in parts for note in part.notes),
        problems=(*arguments.problems, *(problem for part in parts for problem in part.problems)),
    )


def _flagged(group: VariableGroup, layer: Layer) -> VariableGroup:
    return group if layer.trainable else replace(group, trainable=0)


def _weights_of_cells(
    owner: Layer, cells: Sequence[Layer], weights: Sequence[Weight]
) -> list[Sequence[Weight]]:
    """Divide the weights of an RNN among its cells.

    Old Keras lists the weights of frozen cells last. A cell of a custom class has what the others leave.
    """
    counts = [None if (owned := owned_weights(cell)) is None else len(owned.slots) for cell in cells]
    unknown = counts.count(None)
    left = len(weights) - sum(count or 0 for count in counts)
    undescribed = any(cell.declared is None and cell.class_name in CATALOGUE for cell in cells)
    if undescribed or unknown > 1 or left < 0 or (left and not unknown):
        raise InputRefused(
            "the config does not have the configs of the cells (Keras 2.0 writes their names only)",
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


@dataclass(frozen=True, slots=True)
class Arguments:
    """Arguments for Keras 3, notes about them, and why they cannot be used."""

    values: dict[str, Json]
    notes: tuple[str, ...]
    problems: tuple[RemapError, ...]


def translate_arguments(layer: Layer, target: Keras3) -> Arguments:
    """Convert the arguments of a layer as the declaration of its class says."""
    notes = (note for key, note in target.notes_if_absent.items() if not layer.config.has(key))
    return Arguments(
        argument_values(layer, target),
        notes=tuple(f"{describe(layer)}: {note}" for note in notes),
        problems=tuple(_problems(layer, target)),
    )


def argument_values(layer: Layer, target: Keras3) -> dict[str, Json]:
    """Convert the arguments of a layer without a check of their values."""
    config = layer.config
    keeps = target.keeps.split()
    values: dict[str, Json] = {}
    for key, value in config.items():
        if key in keeps or key in target.renamed:
            values[target.renamed.get(key, key)] = by_argument(key, value)
    if config.given(_REGULARIZER):
        values[_REGULARIZER] = by_argument(_REGULARIZER, config.value(_REGULARIZER))
    values = {**target.missing, **values, **target.fixed}
    for key in target.single & values.keys():
        if isinstance(values[key], list) and len(values[key]) == 1:
            values[key] = values[key][0]
    if "seed" in values and not isinstance(values["seed"], int):
        values["seed"] = None
    return values


def _problems(layer: Layer, target: Keras3) -> Iterator[RemapError]:
    """Find unknown arguments, and values that Keras 3 does not take or understands differently."""
    known = {*target.keeps.split(), *target.renamed, *target.dropped, *_COMMON}
    for key, value in layer.config.items():
        allowed = target.dropped.get(key, ANYTHING)
        limit = target.limits.get(key)
        if key not in known:
            yield refuse(layer, f"an argument {key!r} that h5remap does not know of this class")
        elif allowed is not ANYTHING and not value.is_one_of(allowed):
            yield refuse(layer, f"{key}={value.json()!r}, which {target.name} of Keras 3 does not have")
        elif limit is not None and not limit.allows(value):
            what = f"{key}={value.plain()!r}: {limit.why}"
            kind = Undecided if limit.unsure else InputRefused
            yield kind(what, where=describe(layer), remedies=WEIGHTS_ONLY)
