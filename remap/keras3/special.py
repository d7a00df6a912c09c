"""Layers that are written without a rule: inputs, Lambdas, the user's own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from remap.errors import InputRefused, RemapError
from remap.keras.checkpoint import Weight
from remap.keras.config import Layer
from remap.keras.inputs import dtype_name, plain
from remap.keras3.arguments import dtype_of
from remap.keras3.built import Built, Setting, describe, refuse
from remap.keras3.objects import by_argument, dtype_policy, keras_object
from remap.keras3.recipe import Group, keep
from remap.keras3.rules import GONE

__all__ = ["custom_layer", "input_layer", "lambda_layer"]

_LAMBDA = "give the function a name in your code and rebuild the model in Keras 3, or convert to .weights.h5"


def input_layer(layer: Layer, name: str, config: Mapping[str, Any]) -> Built:
    """Write an InputLayer."""
    shape = config.get("batch_input_shape", config.get("batch_shape"))
    problems: tuple[RemapError, ...] = ()
    if not isinstance(plain(shape), list):
        problems = (refuse(layer, "an input of unknown shape"),)
    elif config.get("ragged"):
        problems = (refuse(layer, "a ragged input"),)
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


def lambda_layer(layer: Layer, name: str, config: Mapping[str, Any], setting: Setting) -> Built:
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
        "dtype": dtype_policy(dtype_of(config, (), setting)),
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


def custom_layer(
    layer: Layer, name: str, config: Mapping[str, Any], weights: Sequence[Weight], setting: Setting
) -> Built:
    """Write a layer of the user's own so that `custom_objects` finds its class: under the class's bare name."""
    kept = {key: value for key, value in config.items() if key != "batch_input_shape"}
    if "name" in kept:
        kept["name"] = name
    dtype = dtype_of(config, weights, setting)
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
