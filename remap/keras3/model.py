"""A whole model, or a wrapper around a layer, written for Keras 3."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from remap.errors import InputRefused
from remap.keras.checkpoint import Weight
from remap.keras.config import Layer
from remap.keras.inputs import dtype_name, input_of
from remap.keras.plan import PlannedLayer
from remap.keras3.built import Built, Setting, describe
from remap.keras3.graph import BROKEN_GRAPH, read_graph
from remap.keras3.layer import build_layer
from remap.keras3.naming import number_names, snake_case, valid_names
from remap.keras3.objects import dtype_policy, keras_object
from remap.keras3.recipe import Group

__all__ = ["build_model"]

_MERGE_MODES = frozenset({"ave", "concat", "mul", "sum"})
_FUNCTIONAL = ("keras.src.models.functional", "Functional")


def build_model(layer: Layer, name: str, planned: Sequence[PlannedLayer], setting: Setting) -> Built:
    """Write a model with the layers it consists of; `planned` are these layers' weights.

    Raises InputRefused when layers and weights do not belong together.
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
        f"{describe(child)} is now named {called!r}: Keras 3 does not take its name"
        for child, called in zip(children, names, strict=True)
        if child.name and child.name != called
    )
    return replace(
        built,
        notes=(*built.notes, *renamed, *(note for part in parts for note in part.notes)),
        problems=(*built.problems, *(problem for part in parts for problem in part.problems)),
    )


def _build(layer: Layer, name: str, planned: PlannedLayer | None, setting: Setting) -> Built:
    weights = [] if planned is None else [weight.source for weight in planned.weights]
    children = () if planned is None else planned.children
    if layer.children is not None:
        return build_model(layer, name, children, setting)
    if layer.class_name == "TimeDistributed" and layer.wrapped is not None:
        return _time_distributed(layer, name, planned, setting)
    if layer.class_name == "Bidirectional" and layer.wrapped is not None:
        return _bidirectional(layer, name, weights, setting)
    return build_layer(layer, name, weights, setting)


def _pair(layer: Layer, planned: Sequence[PlannedLayer]) -> list[PlannedLayer | None]:
    """Find each layer's weights: by name, or by position where a layer has no name of its own."""
    children = layer.children or ()
    left = list(planned)
    paired: list[PlannedLayer | None] = []
    for child in children:
        match = next((one for one in left if one.name == child.name), None)
        if match is not None:
            left.remove(match)
        paired.append(match)
    if any(one.weights for one in left):
        raise InputRefused(
            f"the weights of layer {left[0].name!r} belong to no layer of the architecture",
            where=describe(layer),
        )
    return paired


def _sequential(
    layer: Layer, name: str, names: Sequence[str], parts: Sequence[Built], setting: Setting
) -> Built:
    """Write a stack; the input that old Keras kept in the first layer's config becomes a layer of its own."""
    placed = [one for called, part in zip(names, parts, strict=True) for one in _placed(called, part)]
    entries = [one.entry for one in placed]
    layers = [one for one in placed if one.entry["class_name"] != "InputLayer"]
    kinds = number_names(snake_case(one.entry["class_name"]) for one in layers)
    groups = [
        group.under(f"layers/{kind}") for one, kind in zip(layers, kinds, strict=True) for group in one.groups
    ]
    if not entries or entries[0]["class_name"] != "InputLayer":
        implied = _implied_input(layer, names, setting)
        entries[:0] = [] if implied is None else [implied]
    config: dict[str, Any] = {
        "name": name,
        "trainable": True,
        "dtype": dtype_policy(setting.floatx),
        "layers": entries,
    }
    entry = keras_object("keras", "Sequential", config)
    if entries and entries[0]["class_name"] == "InputLayer":
        config["build_input_shape"] = entries[0]["config"]["batch_shape"]
        entry["build_config"] = {"input_shape": config["build_input_shape"]}
    return Built(entry=entry, groups=(Group(path="", name=name), *groups))


def _implied_input(layer: Layer, names: Sequence[str], setting: Setting) -> dict[str, Any] | None:
    """Describe the input of a stack that begins with another layer, if anything tells its shape."""
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
    return keras_object("keras.layers", "InputLayer", config)


@dataclass(frozen=True, slots=True)
class _Placed:
    """A layer of the new model: its name, its entry in config.json, its variables."""

    name: str
    entry: dict[str, Any]
    groups: tuple[Group, ...]


def _placed(name: str, part: Built) -> Iterator[_Placed]:
    """Give the layer that an old one becomes, and before it the one that must stand there."""
    if part.before is not None:
        called = part.before["config"]["name"]
        yield _Placed(called, part.before, (Group(path="", name=called),))
    yield _Placed(name, part.entry, part.groups)


def _functional(layer: Layer, name: str, names: Sequence[str], parts: Sequence[Built]) -> Built:
    graph = read_graph(layer, names, [part.before for part in parts])
    placed = {
        one.name: one for called, part in zip(names, parts, strict=True) for one in _placed(called, part)
    }
    order, problems = graph.order(
        {
            called: one.entry["class_name"]
            for called, one in placed.items()
            if any(g.recipes for g in one.groups)
        }
    )
    reached = frozenset(order)
    lost = [called for called in placed if called not in reached]
    if lost:
        raise InputRefused(
            f"layers that lead to no output: {', '.join(lost)}", where=describe(layer), hint=BROKEN_GRAPH
        )
    if not graph.inputs or not graph.outputs:
        raise InputRefused("the model has no inputs or no outputs", where=describe(layer), hint=BROKEN_GRAPH)
    kinds = number_names(snake_case(placed[called].entry["class_name"]) for called in order)
    groups, entries = [Group(path="", name=name)], []
    for called, kind in zip(order, kinds, strict=True):
        groups += [group.under(f"layers/{kind}") for group in placed[called].groups]
        entries.append({**placed[called].entry, "name": called, "inbound_nodes": graph.nodes[called]})
    config = {
        "name": name,
        "trainable": True,
        "layers": entries,
        "input_layers": graph.ends(graph.inputs),
        "output_layers": graph.ends(graph.outputs),
    }
    module, class_name = _FUNCTIONAL
    notes: tuple[str, ...] = ()
    if layer.class_name not in {"Model", "Functional"}:
        notes = (
            f"{describe(layer)} is written as a plain functional model: the same layers, connected alike",
        )
    return Built(
        entry=keras_object(module, class_name, config, registered_name=class_name),
        groups=tuple(groups),
        notes=notes,
        problems=problems,
    )


def _time_distributed(layer: Layer, name: str, planned: PlannedLayer | None, setting: Setting) -> Built:
    inner = layer.wrapped
    assert inner is not None  # noqa: S101 - told by the caller
    share = None if planned is None else replace(planned, name=inner.name)
    (called,) = valid_names([(inner.name, inner.class_name)])
    part = _build(inner, called, share, setting)
    return _wrapped(
        layer, name, part, {"layer": part.entry}, [group.under("layer") for group in part.groups], setting
    )


def _bidirectional(layer: Layer, name: str, weights: Sequence[Weight], setting: Setting) -> Built:
    """Write both directions: the first half of the trainable weights and of the others is the forward layer's."""
    inner = layer.wrapped
    assert inner is not None  # noqa: S101 - told by the caller
    half = len(weights) // 2
    (called,) = valid_names([(inner.name, inner.class_name)])
    groups: list[Group] = []
    parts = []
    for direction, share in (("forward", weights[:half]), ("backward", weights[half:])):
        part = build_layer(inner, f"{direction}_{called.removeprefix('forward_')}", share, setting)
        groups += [group.under(f"{direction}_layer") for group in part.groups]
        parts.append(part)
    entry = parts[0].entry
    entry["config"]["name"] = called
    zeroes = setting.writer.tensorflow and not setting.writer.before_1_13
    if not zeroes and entry["module"] is not None:
        # Keras 3 makes a Bidirectional return zeros for masked steps, unless the layer inside says neither
        # yes nor no.
        entry["config"]["zero_output_for_mask"] = None
    arguments = {"layer": entry, "merge_mode": _merge_mode(layer)}
    return _wrapped(layer, name, parts[0], arguments, groups, setting)


def _merge_mode(layer: Layer) -> str | None:
    """Tell how a Bidirectional joins both directions; null keeps them apart, and "concat" is what Keras defaults to."""
    if layer.config.has("merge_mode") and not layer.config.given("merge_mode"):
        return None
    return layer.config.choice("merge_mode", _MERGE_MODES, default="concat")


def _wrapped(
    layer: Layer,
    name: str,
    part: Built,
    arguments: dict[str, Any],
    groups: Sequence[Group],
    setting: Setting,
) -> Built:
    base = {
        "name": name,
        "trainable": layer.trainable,
        "dtype": dtype_policy(dtype_name(layer.config) or setting.floatx),
    }
    problems = part.problems
    if part.before is not None:
        problems = (
            *problems,
            InputRefused("hard_sigmoid inside, whose slope is another now", where=describe(layer)),
        )
    if layer.config.integer("num_constants", default=None) or layer.config.given("backward_layer"):
        problems = (*problems, InputRefused("constants or another backward layer", where=describe(layer)))
    if not layer.trainable:
        groups = [replace(group, trainable=0) for group in groups]
    return Built(
        entry=keras_object("keras.layers", layer.class_name, {**base, **arguments}),
        groups=(Group(path="", name=name), *groups),
        notes=part.notes,
        problems=problems,
    )
