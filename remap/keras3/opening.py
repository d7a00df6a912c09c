"""Tell from an architecture whether `load_model` of Keras 3 opens the `.h5` file of a model of Keras 2 or tf.keras.

Keras 3 reads such a file by other rules than its own formats: it builds the layers from the config as it is
(`model_from_config` in keras/src/legacy/saving/saving_utils.py). What these formats need changed is declared with
each class, and most of it is an obstacle here. A doubtful case counts as an obstacle: the other formats work.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from remap.architecture import Layer
from remap.checkpoint import Checkpoint
from remap.conversion_plan import PlannedLayer
from remap.errors import TO_KERAS_3, TO_KERAS_3_WEIGHTS, RemapError, Remedy
from remap.keras3.graph import makes_mask
from remap.keras3.layer import argument_values, describe, target_of
from remap.keras3.masks import mask_problems
from remap.keras3.objects import unknown_arguments, valid_names
from remap.layers import is_model_class
from remap.layers.declaration import ANYTHING, BuiltAs, Keras3, Setting, Writer
from remap.typed_json import Value

__all__ = ["LoadModel", "custom_classes", "load_model_of", "load_model_of_file", "steeper_in_keras3"]

_STEEPER = "hard_sigmoid"
_ACCEPTED = frozenset({"name", "trainable", "dtype", "batch_input_shape", "activity_regularizer"})
# What Keras 3 assumes of an argument that is missing, where that is what old Keras meant. The user's keras.json may
# say otherwise, as it may for old Keras.
_DEFAULTS = {"data_format": "channels_last"}


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadModel:
    """What `load_model` makes of the `.h5` file of a full model.

    Attributes:
        obstacle: Why Keras 3 cannot open the file, or opens another model than was saved; "" if it opens it.
        custom_objects: Classes and functions of the user's own, which `load_model` has to be given.
        remedies: The format that Keras 3 opens, where there is an obstacle.
    """

    obstacle: str
    custom_objects: tuple[str, ...]
    remedies: tuple[Remedy, ...]


def load_model_of(
    model: Layer, planned: Callable[[], Sequence[PlannedLayer]], *, keras_version: str | None
) -> LoadModel:
    """Predict what `load_model` makes of the `.h5` file of a model.

    Args:
        model: The architecture as the file has it.
        planned: Gives the weights of its layers, down to the innermost; called where there is an obstacle.
        keras_version: The Keras that wrote the file.

    Returns:
        The first obstacle in the order of layers, the names that `custom_objects` has to hold, and what to write for
        Keras 3 instead.
    """
    try:
        obstacle = _obstacle(model, keras_version)
    except RemapError as error:
        obstacle = error.what
    remedies: tuple[Remedy, ...] = ()
    if obstacle:
        remedies = (TO_KERAS_3 if _translates(model, planned, keras_version) else TO_KERAS_3_WEIGHTS,)
    return LoadModel(obstacle=obstacle, custom_objects=custom_classes(model), remedies=remedies)


def _obstacle(model: Layer, keras_version: str | None) -> str:
    setting = Setting(
        floatx="float32",
        writer=Writer(keras_version),
        masks=any(makes_mask(layer) for layer in model.walk()),
    )
    return next(_obstacles(model, setting, set()), "")


def load_model_of_file(checkpoint: Checkpoint, model: Layer) -> LoadModel:
    """Predict what `load_model` makes of a file that is a single model already.

    Args:
        checkpoint: The file.
        model: Its architecture.

    Returns:
        As `load_model_of`.
    """

    def planned() -> Sequence[PlannedLayer]:
        from remap.assignment.reference import Request
        from remap.planning import compose_for_keras3

        return compose_for_keras3(checkpoint, Request(), model=model).layers

    return load_model_of(model, planned, keras_version=checkpoint.keras_version)


def _translates(
    model: Layer, planned: Callable[[], Sequence[PlannedLayer]], keras_version: str | None
) -> bool:
    """Tell whether a `.keras` file can be written of the model."""
    # Imported here because most models have no obstacle.
    from remap.keras3.conversion import translate

    try:
        return not translate(model, planned(), keras_version=keras_version).problems
    except RemapError:
        return False


def custom_classes(model: Layer) -> tuple[str, ...]:
    """Name the user's own classes of a model and of all in it, for `custom_objects`.

    Built-in classes that Keras 3 no longer has are named too: only a class of that name in `custom_objects` helps.
    """
    return tuple(dict.fromkeys(layer.class_name for layer in model.walk() if not _is_known(layer)))


def _is_known(layer: Layer) -> bool:
    return is_model_class(layer.class_name) if layer.children is not None else layer.declared is not None


def _obstacles(model: Layer, setting: Setting, opened: set[tuple[str, str]]) -> Iterator[str]:
    """Yield the obstacles in a model; `opened` collects what is known to have none, as models repeat their layers."""
    children = model.children or ()
    if model.bare:
        yield "a Sequential model whose config is a list"
    elif model.sequential and not (_begins_with_input(children)):
        yield "a Sequential model without an InputLayer"
    if not is_model_class(model.class_name):
        yield f"a model class of your own, {model.class_name!r}"
    names = valid_names(((child.name, child.class_name) for child in children), masks=setting.masks)
    for layer, valid in zip(children, names, strict=True):
        if layer.children is not None and model.sequential and (layer.sequential or layer is children[-1]):
            yield from _obstacles(layer, setting, opened)
        elif layer.children is not None:
            yield f"the nested model {layer.name!r}"
        elif layer.name != valid:
            yield f"the name of {describe(layer)}"
        elif _is_called_otherwise(layer):
            yield f"a call of {describe(layer)}"
        elif (contents := _contents(layer)) not in opened:
            yield from (f"{what} of {describe(layer)}" for what in _of_layer(layer, setting))
            opened.add(contents)
    for problem in mask_problems(model, setting.writer):
        yield f"{problem.what} ({problem.where})"


def _contents(layer: Layer) -> tuple[str, str]:
    """Give all of a layer that decides whether Keras 3 opens it, once its name and its calls were looked at."""
    return layer.class_name, json.dumps(layer.config.without("name").json())


def _begins_with_input(layers: Sequence[Layer]) -> bool:
    """Tell whether the layers of a Sequential model begin with an InputLayer, also that of their only model."""
    return bool(layers) and (layers[0].is_input or (len(layers) == 1 and bool(layers[0].inputs)))


def _is_called_otherwise(layer: Layer) -> bool:
    """Tell whether a call is in a form that Keras 3 reads otherwise: a state among the inputs, a dictionary."""
    if (
        layer.declared is not None
        and layer.declared.takes_state
        and any(len(node) > 1 for node in layer.nodes)
    ):
        return True
    return any(call.kind != "list" for call in layer.calls)


def _of_layer(layer: Layer, setting: Setting) -> Iterator[str]:
    config = layer.config
    if config.given("axis") and config.value("axis").kind == "list" and len(config.values("axis")) > 1:
        yield "the axes"  # only the first is read
    if config.given("dtype") and config.value("dtype").kind != "text":
        yield "the dtype policy"
    for key, value in config.items():
        yield from (f"{argument!r} in {key!r}" for argument in unknown_arguments(key, value))
    if layer.wrapped is not None:
        yield "the inner layer"
    elif layer.declared is not None:
        yield from _of_built_in(layer, target_of(layer, setting))


def _of_built_in(layer: Layer, target: Keras3 | None) -> Iterator[str]:
    if target is None or target.name != layer.class_name:
        yield "the class"
        return
    if target.built_as is BuiltAs.LAMBDA:
        yield "the Python code"
        return
    if target.built_as is BuiltAs.CELLS:
        yield "the cells"
        return
    if target.changes:
        yield "the weights"
    for key, value in layer.config.items():
        if not _is_read(target, key, value):
            yield f"the argument {key!r}"
    for key, meaning in target.missing.items():
        if not layer.config.has(key) and _DEFAULTS.get(key) != meaning:
            yield f"the missing argument {key!r}"
    for key in target.notes_if_absent:
        if not layer.config.has(key):
            yield f"the missing argument {key!r}"
    if _is_steeper(layer, target):
        yield "hard_sigmoid, which is steeper in Keras 3,"


def _is_steeper(layer: Layer, target: Keras3) -> bool:
    values = argument_values(layer, target)
    return any(values.get(key) == _STEEPER for key in ("activation", "recurrent_activation"))


def steeper_in_keras3(model: Layer) -> bool:
    """Tell whether a model has an activation that is another function in Keras 3."""
    targets = ((layer, layer.declared.keras3) for layer in model.walk() if layer.declared is not None)
    return any(isinstance(target, Keras3) and _is_steeper(layer, target) for layer, target in targets)


def _is_read(target: Keras3, key: str, value: Value) -> bool:
    """Tell whether Keras 3 takes an argument from an old config and means by it what was meant."""
    limit = target.limits.get(key)
    if limit is not None and not limit.allows(value):
        return False
    if key in target.keeps.split() or key in _ACCEPTED:
        return True
    allowed = target.dropped.get(key, ANYTHING)
    return key in target.read_from_h5.split() and (allowed is ANYTHING or value.is_one_of(allowed))
