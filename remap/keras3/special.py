"""Layers that are written without a rule: inputs, Lambdas, the user's own."""

from __future__ import annotations

from collections.abc import Sequence

from remap.errors import InputRefused, RemapError
from remap.keras.checkpoint import Weight
from remap.keras.config import Config, Layer
from remap.keras.inputs import dtype_name, input_shape
from remap.keras3.arguments import dtype_of
from remap.keras3.built import Built, Setting, describe, refuse
from remap.keras3.objects import dtype_policy, function_name, keras_object
from remap.keras3.recipe import Group, keep
from remap.keras3.rules import GONE

__all__ = ["custom_layer", "input_layer", "lambda_layer"]

_LAMBDA = "give the function a name in your code and rebuild the model in Keras 3, or convert to .weights.h5"


def input_layer(layer: Layer, name: str, config: Config) -> Built:
    """Write an InputLayer."""
    shape = input_shape(config)
    problems: tuple[RemapError, ...] = ()
    if shape is None:
        problems = (refuse(layer, "an input of unknown shape"),)
    elif config.flag("ragged", default=None):
        problems = (refuse(layer, "a ragged input"),)
    arguments = {
        "batch_shape": None if shape is None else list(shape.shape()),
        "dtype": dtype_name(config) or "float32",
        "sparse": bool(config.flag("sparse", default=None)),
        "name": name,
    }
    return Built(
        entry=keras_object("keras.layers", "InputLayer", arguments),
        groups=(Group(path="", name=name),),
        problems=problems,
    )


def lambda_layer(layer: Layer, name: str, config: Config, setting: Setting) -> Built:
    """Write a Lambda that calls a named function; byte code of a Python long gone is not looked at."""
    function: str | None = None
    problems: tuple[RemapError, ...] = ()
    notes: tuple[str, ...] = ()
    if config.optional_text("function_type") != "function" or config.value("function").kind != "text":
        problems = (
            InputRefused("the layer is byte code of another Python", where=describe(layer), hint=_LAMBDA),
        )
    else:
        function = config.text("function")
        notes = (f"{describe(layer)}: give the function in custom_objects={{{function!r}: ...}}",)
    arguments = {
        "name": name,
        "trainable": layer.trainable,
        "dtype": dtype_policy(dtype_of(config, (), setting)),
        "function": None if function is None else function_name(function),
        "arguments": {} if (given := config.object("arguments", default=None)) is None else given.plain(),
    }
    if config.optional_text("output_shape_type") == "raw" and config.given("output_shape"):
        arguments["output_shape"] = config.value("output_shape").plain()
    return Built(
        entry=keras_object("keras.layers", "Lambda", arguments),
        groups=(Group(path="", name=name),),
        notes=notes,
        problems=problems,
    )


def custom_layer(
    layer: Layer, name: str, config: Config, weights: Sequence[Weight], setting: Setting
) -> Built:
    """Write a layer of the user's own so that `custom_objects` finds its class: under the class's bare name."""
    kept = config.without("batch_input_shape").json()
    dtype = dtype_of(config, weights, setting)
    if config.has("name"):
        kept = {**kept, "name": name}
    if config.has("dtype") or dtype != "float32":
        kept = {**kept, "dtype": dtype}
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
