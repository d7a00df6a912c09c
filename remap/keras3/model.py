"""The conversion of a model, and of a wrapper with the layer in it."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from remap.architecture import Layer, input_of
from remap.checkpoint import Weight
from remap.conversion_plan import PlannedLayer
from remap.errors import InputRefused
from remap.keras3.graph import broken_graph, read_graph
from remap.keras3.layer import (
    WEIGHTS_ONLY,
    ConvertedLayer,
    build_layer,
    describe,
    dtype_of,
    target_of,
    translate_arguments,
)
from remap.keras3.objects import dtype_policy, keras_object, number_names, snake_case, valid_names
from remap.keras3.operations import is_operation
from remap.keras3.tensors import VariableGroup
from remap.layers import FUNCTIONAL, SEQUENTIAL, is_model_class
from remap.layers.core import INPUT
from remap.layers.declaration import Setting

__all__ = ["build_model"]


def build_model(layer: Layer, name: str, planned: Sequence[PlannedLayer], setting: Setting) -> ConvertedLayer:
    """Convert a model with all its layers.

    Args:
        layer: The model.
        name: Its name in Keras 3.
        planned: The weights of its layers.
        setting: What holds for the whole model.

    Raises:
        InputRefused: The weights do not belong to the layers, or the layers are not connected as in a model.
    """
    children = layer.children or ()
    names = valid_names(((child.name, child.class_name) for child in children), masks=setting.masks)
    parts = [
        _build(child, called, share, setting)
        for child, called, share in zip(children, names, _pair(layer, planned), strict=True)
    ]
    if layer.sequential:
        built = _sequential(layer, name, names, parts, setting)
    else:
        built = _functional(layer, name, names, parts)
    renamed = tuple(
        f"{describe(child)} is renamed to {called!r}: Keras 3 does not allow its name"
        for child, called in zip(children, names, strict=True)
        if child.name and child.name != called
    )
    return replace(
        built,
        notes=(*built.notes, *renamed, *(note for part in parts for note in part.notes)),
        problems=(*built.problems, *(problem for part in parts for problem in part.problems)),
    )


def _build(layer: Layer, name: str, planned: PlannedLayer | None, setting: Setting) -> ConvertedLayer:
    weights = [] if planned is None else [weight.source for weight in planned.weights]
    children = () if planned is None else planned.children
    if layer.children is not None:
        return build_model(layer, name, children, setting)
    if layer.wrapped is not None and layer.declared is not None and layer.declared.directions:
        if layer.declared.directions == 1:
            return _time_distributed(layer, layer.wrapped, name, planned, setting)
        return _bidirectional(layer, layer.wrapped, name, weights, setting)
    return build_layer(layer, name, weights, setting)


def _pair(layer: Layer, planned: Sequence[PlannedLayer]) -> list[PlannedLayer | None]:
    """Find the weights of each layer: by name, and by position among layers without a name."""
    left: dict[str, deque[PlannedLayer]] = {}
    for one in planned:
        left.setdefault(one.name, deque()).append(one)
    paired = [
        shares.popleft() if (shares := left.get(child.name)) else None for child in layer.children or ()
    ]
    lost = next((one.name for shares in left.values() for one in shares if one.weights), None)
    if lost is not None:
        raise InputRefused(
            f"the weights of layer {lost!r} belong to no layer of the architecture", where=describe(layer)
        )
    return paired


def _sequential(
    layer: Layer, name: str, names: Sequence[str], parts: Sequence[ConvertedLayer], setting: Setting
) -> ConvertedLayer:
    """Convert a Sequential; the input shape in its first layer's config becomes an InputLayer."""
    placed = [one for called, part in zip(names, parts, strict=True) for one in _placed(called, part)]
    entries = [one.entry for one in placed]
    layers = [one for one in placed if one.entry["class_name"] != INPUT.name]
    kinds = number_names(snake_case(one.entry["class_name"]) for one in layers)
    groups = [
        group.under(f"layers/{kind}") for one, kind in zip(layers, kinds, strict=True) for group in one.groups
    ]
    if not entries or entries[0]["class_name"] != INPUT.name:
        implied = _implied_input(layer, names, setting)
        entries[:0] = [] if implied is None else [implied]
    config: dict[str, Any] = {
        "name": name,
        "trainable": True,
        "dtype": dtype_policy(setting.floatx),
        "layers": entries,
    }
    entry = keras_object("keras", SEQUENTIAL, config)
    if entries and entries[0]["class_name"] == INPUT.name:
        config["build_input_shape"] = entries[0]["config"]["batch_shape"]
        entry["build_config"] = {"input_shape": config["build_input_shape"]}
    problems = tuple(
        _no_layer(child)
        for child, part in zip(layer.children or (), parts, strict=True)
        if is_operation(part.entry)
    )
    return ConvertedLayer(entry=entry, groups=(VariableGroup(path="", name=name), *groups), problems=problems)


def _no_layer(layer: Layer) -> InputRefused:
    what = "an operation where Keras 3 takes layers only: in a Sequential or a wrapper"
    return InputRefused(what, where=describe(layer), remedies=WEIGHTS_ONLY)


def _implied_input(layer: Layer, names: Sequence[str], setting: Setting) -> dict[str, Any] | None:
    """Describe the input of a Sequential without an InputLayer, if the file has its shape."""
    found = input_of(layer)
    if found is None and layer.feed is not None:
        found = input_of(layer.feed)
    if found is None:
        return None
    shape, dtype = found
    config = {
        "batch_shape": shape,
        "dtype": dtype or setting.floatx,
        "sparse": False,
        "name": f"{names[0]}_input",
    }
    return keras_object("keras.layers", INPUT.name, config)


@dataclass(frozen=True, slots=True)
class _Placed:
    """A layer of the converted model: its name, its entry in config.json, its variables."""

    name: str
    entry: dict[str, Any]
    groups: tuple[VariableGroup, ...]


def _placed(name: str, part: ConvertedLayer) -> Iterator[_Placed]:
    """Give the converted layer, after the layer that has to be inserted before it."""
    if part.before is not None:
        called = part.before["config"]["name"]
        yield _Placed(called, part.before, (VariableGroup(path="", name=called),))
    yield _Placed(name, part.entry, part.groups)


def _functional(
    layer: Layer, name: str, names: Sequence[str], parts: Sequence[ConvertedLayer]
) -> ConvertedLayer:
    graph = read_graph(layer, names, [part.before for part in parts])
    placed = {
        one.name: one for called, part in zip(names, parts, strict=True) for one in _placed(called, part)
    }
    order, problems = graph.order(
        {
            called: one.entry["class_name"]
            for called, one in placed.items()
            if any(g.variables for g in one.groups)
        }
    )
    reached = frozenset(order)
    lost = [called for called in placed if called not in reached]
    if lost:
        raise broken_graph(f"layers that lead to no output: {', '.join(lost)}", where=describe(layer))
    if not graph.inputs or not graph.outputs:
        raise broken_graph("the model has no inputs or no outputs", where=describe(layer))
    # Keras 3 saves the variables of layers, and numbers no operations among them.
    listed = [called for called in order if not is_operation(placed[called].entry)]
    kinds = number_names(snake_case(placed[called].entry["class_name"]) for called in listed)
    groups = [VariableGroup(path="", name=name)]
    for called, kind in zip(listed, kinds, strict=True):
        groups += [group.under(f"layers/{kind}") for group in placed[called].groups]
    entries = [
        {**placed[called].entry, "name": called, "inbound_nodes": graph.nodes[called]} for called in order
    ]
    config = {
        "name": name,
        "trainable": True,
        "layers": entries,
        "input_layers": graph.ends(graph.inputs),
        "output_layers": graph.ends(graph.outputs),
    }
    notes: tuple[str, ...] = ()
    if not is_model_class(layer.class_name):
        notes = (f"{describe(layer)} becomes a Functional model with the same layers and connections",)
    return ConvertedLayer(
        entry=keras_object("keras.src.models.functional", FUNCTIONAL, config, registered_name=FUNCTIONAL),
        groups=tuple(groups),
        notes=notes,
        problems=problems,
    )


def _time_distributed(
    layer: Layer, inner: Layer, name: str, planned: PlannedLayer | None, setting: Setting
) -> ConvertedLayer:
    share = None if planned is None else replace(planned, name=inner.name)
    (called,) = valid_names([(inner.name, inner.class_name)])
    part = _build(inner, called, share, setting)
    return _wrapped(layer, name, part, [group.under("layer") for group in part.groups], setting)


def _bidirectional(
    layer: Layer, inner: Layer, name: str, weights: Sequence[Weight], setting: Setting
) -> ConvertedLayer:
    """Convert both directions; the first half of the weights belongs to the forward layer."""
    half = len(weights) // 2
    (called,) = valid_names([(inner.name, inner.class_name)])
    groups: list[VariableGroup] = []
    parts = []
    for direction, share in (("forward", weights[:half]), ("backward", weights[half:])):
        part = build_layer(inner, f"{direction}_{called.removeprefix('forward_')}", share, setting)
        groups += [group.under(f"{direction}_layer") for group in part.groups]
        parts.append(part)
    entry = parts[0].entry
    entry["config"]["name"] = called
    zeroes = setting.writer.tensorflow and not setting.writer.before_1_13
    if not zeroes and entry["module"] is not None:
        # The constructor in Keras 3 sets zero_output_for_mask of the inner layer, unless that is None.
        entry["config"]["zero_output_for_mask"] = None
    return _wrapped(layer, name, parts[0], groups, setting)


def _wrapped(
    layer: Layer, name: str, part: ConvertedLayer, groups: Sequence[VariableGroup], setting: Setting
) -> ConvertedLayer:
    target = target_of(layer, setting)
    assert target is not None  # noqa: S101 - wrappers are declared with their class in Keras 3
    arguments = translate_arguments(layer, target)
    config = {
        "name": name,
        "trainable": layer.trainable,
        "dtype": dtype_policy(dtype_of(layer, (), setting)),
        "layer": part.entry,
        **arguments.values,
    }
    problems = (*part.problems, *arguments.problems)
    if is_operation(part.entry):
        problems = (*problems, _no_layer(layer))
    if part.before is not None:
        what = "hard_sigmoid inside, whose slope is different in Keras 3"
        problems = (*problems, InputRefused(what, where=describe(layer)))
    if not layer.trainable:
        groups = [replace(group, trainable=0) for group in groups]
    return ConvertedLayer(
        entry=keras_object("keras.layers", target.name, config),
        groups=(VariableGroup(path="", name=name), *groups),
        notes=part.notes,
        problems=problems,
    )
