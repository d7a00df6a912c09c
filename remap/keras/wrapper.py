"""Tell a multi-GPU wrapper, and which of its layers is the real model.

`multi_gpu_model` (keras/utils/multi_gpu_utils.py, training_utils.py before Keras 2.1.6) calls the template
once a GPU, each time on slices of the same inputs, and concatenates what comes out along the batch. People
did the same by hand before. The structure tells a wrapper; names do not.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from remap.errors import InputRefused, NothingToExtract, Undecided
from remap.keras.checkpoint import Checkpoint, LayerGroup
from remap.keras.config import Layer
from remap.keras.layers import owned_weights
from remap.keras.naming import layer_scope
from remap.keras.slots import OwnedWeights

__all__ = ["Wrapper", "find_template", "replicas_by_surroundings", "unwrap"]

_SLICE_NAME = re.compile(r"^lambda(_\d+)?$")


@dataclass(frozen=True, slots=True, kw_only=True)
class Wrapper:
    """Where the template is: its group, what its config says, how often it is called, and what is around it.

    `architecture` is None in a weights file, `replicas` is None where the file does not tell or nothing is
    replicated. `surroundings` are the other layers of the file.
    """

    group: LayerGroup
    architecture: Layer | None
    replicas: int | None
    surroundings: tuple[str, ...]


def find_template(checkpoint: Checkpoint, model: Layer | None, *, submodel: str | None) -> Wrapper:
    """Find the model to extract: the one a wrapper replicates, or the one that `submodel` names.

    `model` is the checkpoint's own architecture, None for a weights file. Raises NothingToExtract for a
    single model, Undecided for several models, InputRefused for a file without any weights.
    """
    weighted = checkpoint.weighted
    if not weighted:
        raise InputRefused("the file is a Keras file but holds no weights", where=checkpoint.root)
    groups = {group.name: group for group in checkpoint.layers}
    if submodel is not None:
        return _named(checkpoint, groups, model, submodel)
    if model is not None:
        found = unwrap(model)
        if found is not None and weighted == (groups.get(found[0].name),):
            return _wrapper(checkpoint, weighted[0], *found)
    else:
        replicas = replicas_by_surroundings(checkpoint)
        if replicas is not None:
            return _wrapper(checkpoint, weighted[0], None, replicas or None)
    inner = _models(weighted, model)
    if len(inner) > 1 and len(inner) == len(weighted):
        raise Undecided(
            f"the file holds {len(inner)} models with weights: {', '.join(inner)}",
            where=checkpoint.root,
            hint=f"choose one: --submodel {inner[0]}",
        )
    aside = f"; to take a model out of it: --submodel {inner[0]}" if inner else ""
    raise NothingToExtract(
        "already a single model: no layer in it is a replicated model",
        where=checkpoint.root,
        hint=f"load it with load_weights or load_model as it is{aside}",
    )


def unwrap(model: Layer) -> tuple[Layer, int] | None:
    """Give the template of a multi-GPU wrapper and the number of its replicas, or None for any other model.

    A wrapper has one layer that is a model, called twice or more, each time on something made of the same
    inputs by layers without weights; every output joins the calls along the batch axis.
    """
    layers = {layer.name: layer for layer in model.children or ()}
    inner = [layer for layer in layers.values() if layer.children is not None]
    others = [layer for layer in layers.values() if layer.children is None]
    if len(inner) != 1 or not all(owned_weights(layer) in (None, OwnedWeights()) for layer in others):
        return None
    template = inner[0]
    calls = template.nodes
    if len(calls) < 2:
        return None
    origins = [_origins(call, layers, template.name) for call in calls]
    if None in origins or any(origin != origins[0] for origin in origins):
        return None
    if any(
        layers[name].class_name == "InputLayer" for call in calls for name, _, _ in call if name in layers
    ):
        return None
    for name, _, _ in model.outputs:
        merge = layers.get(name)
        if merge is None or not _joins_batches(merge, template, len(calls)):
            return None
    feeds = [layer for layer in others if layer.class_name == "InputLayer"]
    if template.sequential and len(feeds) == 1:
        template = replace(template, feed=feeds[0])
    return (template, len(calls)) if model.outputs else None


def _wrapper(checkpoint: Checkpoint, group: LayerGroup, layer: Layer | None, replicas: int | None) -> Wrapper:
    """Describe what was found; a wrapper inside a wrapper is opened too."""
    while layer is not None and (deeper := unwrap(layer)) is not None:
        layer, replicas = deeper[0], (replicas or 1) * deeper[1]
    others = tuple(other.name for other in checkpoint.layers if other.name != group.name)
    return Wrapper(group=group, architecture=layer, replicas=replicas, surroundings=others)


def _named(
    checkpoint: Checkpoint, groups: dict[str, LayerGroup], model: Layer | None, submodel: str
) -> Wrapper:
    names = _models(checkpoint.weighted, model)
    if submodel not in names:
        listed = ", ".join(names) or "none"
        raise Undecided(
            f"no model with weights is called {submodel!r}; models in this file: {listed}",
            where=checkpoint.root,
            hint="see them with: h5remap inspect FILE",
        )
    layer = _child(model, submodel) if model is not None else None
    found = unwrap(model) if model is not None else None
    replicas = found[1] if found is not None and found[0].name == submodel else None
    return _wrapper(checkpoint, groups[submodel], layer, replicas)


def _models(weighted: Sequence[LayerGroup], model: Layer | None) -> list[str]:
    """Name the weighted layers that are models themselves."""
    if model is not None:
        return [group.name for group in weighted if (layer := _child(model, group.name)) and layer.children]
    return [group.name for group in weighted if _looks_nested(group)]


def _child(model: Layer, name: str) -> Layer | None:
    return next((layer for layer in model.children or () if layer.name == name), None)


def _origins(
    call: Sequence[tuple[str, int, int]], layers: dict[str, Layer], template: str
) -> tuple[frozenset[str], ...] | None:
    """Follow each tensor of a call back to the inputs it is made of; None if the template is on the way."""
    origins = []
    for name, _, _ in call:
        pending, seen, ends = [name], set(), set()
        while pending:
            current = pending.pop()
            if current == template or current not in layers:
                return None
            if current in seen:
                continue
            seen.add(current)
            sources = {source for node in layers[current].nodes for source, _, _ in node}
            pending.extend(sources)
            if not sources:
                ends.add(current)
        origins.append(frozenset(ends))
    return tuple(origins)


def _joins_batches(merge: Layer, template: Layer, replicas: int) -> bool:
    """Tell whether a layer puts one output of all replicas together, in the order of the batch."""
    config = merge.config.json()
    along = None
    if merge.class_name == "Concatenate":
        along = config.get("axis")
    elif merge.class_name == "Merge" and config.get("mode") == "concat":
        along = config.get("concat_axis")
    if along != 0 or len(merge.nodes) != 1:
        return False
    joined = merge.nodes[0]
    return {name for name, _, _ in joined} == {template.name} and len({node for _, node, _ in joined}) == len(
        joined
    ) == replicas


def replicas_by_surroundings(checkpoint: Checkpoint) -> int | None:
    """Tell by the layers around it whether a weights file's one weighted layer is a replicated model.

    Keras orders layers by depth: inputs, slices, the template, one merge an output. Gives the number of
    replicas, 0 if it cannot be told, None if this is no wrapper.
    """
    if len(checkpoint.weighted) != 1:
        return None
    (group,) = checkpoint.weighted
    names = [layer.name for layer in checkpoint.layers]
    place = names.index(group.name)
    before, after = names[:place], names[place + 1 :]
    if len(before) < 3 or not after or not _looks_nested(group):
        return None
    slices = sum(1 for name in before if _SLICE_NAME.match(name))
    inputs = len(before) - slices
    return slices // inputs if inputs and slices >= 2 and slices % inputs == 0 else 0


def _looks_nested(group: LayerGroup) -> bool:
    """Tell whether a group's weights belong to layers inside it: some scope is not the group's own name."""
    own = re.compile(re.escape(group.name) + r"(_\d+)?$")
    scopes = (layer_scope(weight.name) for weight in group.weights)
    return any(inside and not own.match(inside) for inside in scopes)
