"""Tell a multi-GPU wrapper, and which of its layers is the real model.

`multi_gpu_model` (keras/utils/multi_gpu_utils.py, training_utils.py before Keras 2.1.6) calls the template
once a GPU, each time on slices of the same inputs, and concatenates what comes out along the batch. People
did the same by hand before. The structure tells a wrapper; names do not.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice

from remap.architecture import Layer, owned_weights
from remap.checkpoint import Checkpoint, LayerGroup
from remap.errors import InputRefused, NothingToExtract, Remedy, Undecided
from remap.layers.weights import OwnedWeights
from remap.weight_names import layer_scope, split_number

__all__ = ["Template", "find_models", "find_template", "replicas_by_surroundings", "unwrap"]

_SLICE_NAME = re.compile(r"^lambda(_\d+)?$")
# A wrapper slices one input for each tensor that it hands to the template; by hand a few may be joined before.
_MOST_ORIGINS = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Template:
    """Where the template is: its group, what its config says, and how often it is called.

    `architecture` is None in a weights file, `replicas` is None where the file does not tell or nothing is
    replicated.
    """

    group: LayerGroup
    architecture: Layer | None
    replicas: int | None


def find_template(checkpoint: Checkpoint, model: Layer | None, *, submodel: str | None) -> Template:
    """Find the model to extract: the one a wrapper replicates, or the one that `submodel` names.

    `model` is the checkpoint's own architecture, None for a weights file. Raises NothingToExtract for a
    single model, Undecided for several models, InputRefused for a file without any weights.
    """
    weighted = checkpoint.weighted
    if not weighted:
        raise InputRefused("the file is a Keras file but holds no weights", where=checkpoint.root)
    groups = {group.name: group for group in checkpoint.layers}
    if submodel is not None:
        return _named(checkpoint, model, submodel)
    if model is not None:
        found = unwrap(model)
        if found is not None and weighted == (groups.get(found[0].name),):
            return _template(weighted[0], *found)
    else:
        replicas = replicas_by_surroundings(checkpoint)
        if replicas is not None:
            return _template(weighted[0], None, replicas or None)
    inner = list(_models(weighted, model))
    if len(inner) > 1 and len(inner) == len(weighted):
        raise Undecided(
            f"the file holds {len(inner)} models with weights: {', '.join(inner)}",
            where=checkpoint.root,
            remedies=_choices(inner),
        )
    raise NothingToExtract(
        "already a single model: no layer in it is a replicated model",
        where=checkpoint.root,
        hint="load it with load_weights or load_model as it is",
        remedies=_choices(inner),
    )


def _choices(names: Iterable[str]) -> tuple[Remedy, ...]:
    """Offer the models of a file, the first five of them."""
    return tuple(Remedy(option="submodel", value=name) for name in islice(names, 5))


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
    origins = _origins((name for call in calls for name, _, _ in call), layers, template.name)
    made_of = [[origins[name] for name, _, _ in call] for call in calls]
    if any(None in call or call != made_of[0] for call in made_of):
        return None
    if any(layers[name].is_input for call in calls for name, _, _ in call if name in layers):
        return None
    for name in {name for name, _, _ in model.outputs}:
        merge = layers.get(name)
        if merge is None or not _joins_batches(merge, template, len(calls)):
            return None
    feeds = [layer for layer in others if layer.is_input]
    if template.sequential and len(feeds) == 1:
        template = replace(template, feed=feeds[0])
    return (template, len(calls)) if model.outputs else None


def find_models(checkpoint: Checkpoint, model: Layer | None) -> dict[str, Template]:
    """Describe each layer with weights that is a model itself, by name, in file order.

    `model` is the checkpoint's own architecture, None for a weights file.
    """
    found = unwrap(model) if model is not None else None
    described = {}
    for name, (group, layer) in _models(checkpoint.weighted, model).items():
        replicas = found[1] if found is not None and found[0].name == name else None
        described[name] = _template(group, layer, replicas)
    return described


def _template(group: LayerGroup, layer: Layer | None, replicas: int | None) -> Template:
    """Describe what was found; a wrapper inside a wrapper is opened too."""
    while layer is not None and (deeper := unwrap(layer)) is not None:
        layer, replicas = deeper[0], (replicas or 1) * deeper[1]
    return Template(group=group, architecture=layer, replicas=replicas)


def _named(checkpoint: Checkpoint, model: Layer | None, submodel: str) -> Template:
    found = find_models(checkpoint, model)
    if submodel not in found:
        listed = ", ".join(found) or "none"
        raise Undecided(
            f"no model with weights is called {submodel!r}; models in this file: {listed}",
            where=checkpoint.root,
            remedies=_choices(found),
        )
    return found[submodel]


def _models(
    weighted: Sequence[LayerGroup], model: Layer | None
) -> dict[str, tuple[LayerGroup, Layer | None]]:
    """Find the weighted layers that are models themselves."""
    if model is None:
        return {group.name: (group, None) for group in weighted if _looks_nested(group)}
    layers = {layer.name: layer for layer in reversed(model.children or ())}
    return {
        group.name: (group, layer)
        for group in weighted
        if (layer := layers.get(group.name)) is not None and layer.children
    }


def _origins(
    names: Iterable[str], layers: dict[str, Layer], template: str
) -> dict[str, frozenset[str] | None]:
    """Follow layers back to the inputs they are made of, each layer once.

    None stands for a layer that the template, a missing layer or itself is on the way to, or that is made of
    more inputs than a wrapper's tensors are.
    """
    known: dict[str, frozenset[str] | None] = {template: None}
    entered: set[str] = set()
    pending = list(names)
    while pending:
        name = pending[-1]
        if name in known:
            pending.pop()
            continue
        if name not in layers:
            known[name] = None
            continue
        sources = {source for node in layers[name].nodes for source, _, _ in node}
        unknown = [source for source in sources if source not in known]
        if unknown and name not in entered:
            entered.add(name)
            pending.extend(unknown)
        else:
            known[name] = _joined(sources, known) if sources else frozenset((name,))
    return known


def _joined(sources: Iterable[str], known: Mapping[str, frozenset[str] | None]) -> frozenset[str] | None:
    joined: frozenset[str] = frozenset()
    for source in sources:
        origins = known.get(source)
        if origins is None:
            return None
        joined = joined | origins if joined else origins
        if len(joined) > _MOST_ORIGINS:
            return None
    return joined


def _joins_batches(merge: Layer, template: Layer, replicas: int) -> bool:
    """Tell whether a layer puts one output of all replicas together, in the order of the batch."""
    along = merge.declared.joins_along(merge.config) if merge.declared is not None else None
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
    for weight in group.weights:
        inside = layer_scope(weight.name)
        if inside and group.name not in (inside, split_number(inside, "_")[0]):
            return True
    return False
