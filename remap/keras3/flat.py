"""The layers of a single model's own file, with what lies inside nested models told apart."""

from __future__ import annotations

from dataclasses import replace

from remap.errors import InputRefused
from remap.keras.assign import assign
from remap.keras.checkpoint import Checkpoint, LayerGroup
from remap.keras.config import Layer
from remap.keras.like import Like
from remap.keras.outline import load_order
from remap.keras.plan import PlannedLayer, PlannedWeight
from remap.keras.wrapper import Wrapper

__all__ = ["named", "tell_apart"]


def named(architecture: Layer, checkpoint: Checkpoint) -> Layer:
    """Call nameless layers what the file's groups in their places are called.

    Keras up to 2.2.2 does not write the name of a stack inside a stack into the architecture.
    """
    layers = tuple(load_order(architecture))
    if all(layer.name for layer in layers) or len(layers) != len(checkpoint.layers):
        return architecture
    names = {id(layer): group.name for layer, group in zip(layers, checkpoint.layers, strict=True)}
    children = architecture.children or ()
    return replace(
        architecture,
        children=tuple(child if child.name else replace(child, name=names[id(child)]) for child in children),
    )


def tell_apart(
    checkpoint: Checkpoint, architecture: Layer, *, given: Like | None = None
) -> tuple[PlannedLayer, ...]:
    """Plan a flat file as it stands, and settle the flat list of each model inside.

    `given` is the like-file that the architecture comes from, whose trainable flags need not be the file's.
    Raises InputRefused where the file's layers are not those of the architecture, and what `assign` raises.
    """
    groups = {group.name: group for group in checkpoint.layers}
    layers = tuple(load_order(architecture))
    names = [layer.name for layer in layers]
    strangers = [group.name for group in checkpoint.weighted if group.name not in names]
    if strangers:
        raise InputRefused(
            f"the file holds weights of {strangers[0]!r}, of which its architecture does not speak",
            where=checkpoint.root,
        )
    return tuple(_planned(layer, groups.get(layer.name), given) for layer in layers)


def _planned(layer: Layer, group: LayerGroup | None, given: Like | None) -> PlannedLayer:
    weights = () if group is None else group.weights
    named = tuple(PlannedWeight(name=weight.name, source=weight) for weight in weights)
    inner = layer.innermost
    if inner.children is None or group is None:
        return PlannedLayer(name=layer.name, weights=named)
    own = replace(inner, name=layer.name)
    alone = Wrapper(group=group, architecture=own if given is None else None, replicas=None)
    like = None if given is None else replace(given, architecture=own, groups=None)
    inside = assign(alone, like=like, plain=False, order="any")
    return PlannedLayer(name=layer.name, weights=named, children=inside.layers)
