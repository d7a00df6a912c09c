"""Recognize what a checkpoint holds: a multi-GPU wrapper, several models, a single model, or no weights.

`multi_gpu_model` (keras/utils/multi_gpu_utils.py, training_utils.py before Keras 2.1.6) calls the template once per GPU,
each time on slices of the same inputs, and concatenates the results along the batch axis. People also built the same by
hand. The structure of the graph identifies a wrapper; the names of its layers do not.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from remap.architecture import Layer, owned_weights, parse_model
from remap.checkpoint import Checkpoint, LayerGroup
from remap.errors import InputRefused, NothingToExtract, Remedy, Undecided
from remap.layers.weights import OwnedWeights
from remap.weight_names import layer_scope, split_number

__all__ = [
    "Kind",
    "Recognition",
    "Template",
    "choose",
    "own_architecture",
    "recognize",
    "replicas_by_surroundings",
    "several_models",
    "unwrap",
]

Kind = Literal["multi-gpu", "several", "single", "empty"]

_SLICE_NAME = re.compile(r"^lambda(_\d+)?$")
# A wrapper slices one input for each tensor that it passes to the template; by hand a few may be joined before.
_MOST_ORIGINS = 64
_MOST_REMEDIES = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Template:
    """A model that can be extracted: the replicated model of a wrapper, or any layer with weights that is a model.

    Attributes:
        group: The group with its weights.
        architecture: Its description; None in a weights file. The template of a wrapper that is itself a template is the
            innermost model.
        replicas: How often a wrapper calls it; None if the file does not tell, or if no wrapper calls it.
        inputs: The wrapper's inputs, if it has no architecture: Keras gives them the names of the model's own.
        outputs: The layers that join the replicas, if it has no architecture.
    """

    group: LayerGroup
    architecture: Layer | None
    replicas: int | None
    inputs: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """Name the model, which is not the group's name if the group is a wrapper itself."""
        return self.group.name if self.architecture is None else self.architecture.name


@dataclass(frozen=True, slots=True, kw_only=True)
class Recognition:
    """What a checkpoint holds.

    Attributes:
        kind: ``multi-gpu`` for a wrapper, ``several`` for a file in which every layer with weights is a model,
            ``single`` for any other model, ``empty`` for a file without weights.
        root: The path of the group with the layers, for messages.
        template: The replicated model of a wrapper; None for any other kind.
        models: The models that can be extracted, in file order.
        wrappers: The paths of the multi-GPU wrappers in the architecture, at any depth, in file order. The path of the
            whole file's model is empty. Nothing is known of them in a weights file.
        nested: The paths of the models in the architecture that are not layers of the file's own model.
    """

    kind: Kind
    root: str
    template: Template | None = None
    models: tuple[Template, ...] = ()
    wrappers: tuple[tuple[str, ...], ...] = ()
    nested: tuple[tuple[str, ...], ...] = ()


def own_architecture(checkpoint: Checkpoint, *, where: str = "/") -> Layer | None:
    """Read the architecture that a full-model file has in an attribute of its root; None for a weights file.

    Args:
        checkpoint: What was read of the file.
        where: The file, for messages.

    Raises:
        InputRefused: If it is damaged.
    """
    if checkpoint.model_config is None:
        return None
    return parse_model(checkpoint.model_config, where=f"{where}, model_config")


def recognize(checkpoint: Checkpoint, model: Layer | None) -> Recognition:
    """Recognize what a checkpoint holds.

    Args:
        checkpoint: The checkpoint.
        model: The checkpoint's own architecture; None for a weights file.

    Returns:
        The kind of the file, and the models in it.
    """
    inside = list(_models_inside(model, ())) if model is not None else []
    found = unwrap(model) if model is not None else None
    wrappers = tuple(path for path, layer in inside if unwrap(layer) is not None)
    models = {}
    for name, (group, layer) in _models(checkpoint.weighted, model).items():
        replicas = found[1] if found is not None and found[0].name == name else None
        models[name] = _template(group, layer, replicas)
    template = _replicated(checkpoint, model, found)
    if template is not None:
        models[template.group.name] = template
    kind: Kind = "single"
    if not checkpoint.weighted:
        kind = "empty"
    elif template is not None:
        kind = "multi-gpu"
    elif 1 < len(models) == len(checkpoint.weighted):
        kind = "several"
    return Recognition(
        kind=kind,
        root=checkpoint.root,
        template=template,
        models=tuple(models.values()),
        wrappers=wrappers if found is None else ((), *wrappers),
        nested=tuple(path for path, _ in inside if len(path) > 1),
    )


def choose(recognition: Recognition, *, submodel: str | None) -> Template:
    """Choose the model to extract.

    Args:
        recognition: What the checkpoint holds.
        submodel: The name of the model that the caller wants; None for the replicated one.

    Returns:
        The model.

    Raises:
        InputRefused: If the file has no weights.
        NothingToExtract: If the file is a single model.
        Undecided: If the file holds several models, or none with that name.
    """
    if recognition.kind == "empty":
        raise InputRefused("the file is a Keras file but holds no weights", where=recognition.root)
    remedies = _submodels(recognition)
    if submodel is not None:
        for model in recognition.models:
            if submodel in (model.group.name, model.name):
                return model
        raise Undecided(
            _not_there(recognition, submodel),
            where=recognition.root,
            hint="list the models with the command inspect",
            remedies=remedies,
        )
    if recognition.template is not None:
        return recognition.template
    if recognition.kind == "several":
        raise several_models(recognition)
    what = "already a single model: no layer in it is a replicated model"
    inner = [path for path in recognition.wrappers if path]
    if inner:
        path = "/".join(inner[0])
        what = f"the file's own model is no multi-GPU wrapper; its layer {path!r} is one"
    raise NothingToExtract(
        what,
        where=recognition.root,
        hint="load it with load_weights or load_model as it is",
        remedies=tuple(replace(remedy, when="you want this nested model alone") for remedy in remedies),
    )


def several_models(recognition: Recognition) -> Undecided:
    """Describe the choice among several models."""
    names = [model.group.name for model in recognition.models]
    return Undecided(
        f"the file holds {len(names)} models with weights: {', '.join(names)}",
        where=recognition.root,
        remedies=_submodels(recognition),
    )


def _submodels(recognition: Recognition) -> tuple[Remedy, ...]:
    models = recognition.models[:_MOST_REMEDIES]
    return tuple(Remedy(option="submodel", value=model.group.name) for model in models)


def _not_there(recognition: Recognition, submodel: str) -> str:
    """Say why no model of a name can be extracted."""
    path = next((path for path in recognition.nested if path[-1] == submodel), None)
    if path is not None:
        return f"{submodel!r} is a nested model inside {path[-2]!r}, which cannot be extracted on its own yet"
    listed = ", ".join(model.group.name for model in recognition.models) or "none"
    return f"no model with weights is called {submodel!r}; models in this file: {listed}"


def _replicated(
    checkpoint: Checkpoint, model: Layer | None, found: tuple[Layer, int] | None
) -> Template | None:
    """Find the replicated model of a wrapper that holds all weights of the file."""
    if len(checkpoint.weighted) != 1:
        return None
    (group,) = checkpoint.weighted
    if model is not None:
        return _template(group, *found) if found is not None and found[0].name == group.name else None
    replicas = replicas_by_surroundings(checkpoint)
    if replicas is None:
        return None
    before, after = _surroundings(checkpoint, group)
    inputs = tuple(name for name in before if not _SLICE_NAME.match(name))
    return Template(
        group=group, architecture=None, replicas=replicas or None, inputs=inputs, outputs=tuple(after)
    )


def _surroundings(checkpoint: Checkpoint, group: LayerGroup) -> tuple[list[str], list[str]]:
    """Name the layers before and after a group."""
    names = [layer.name for layer in checkpoint.layers]
    place = names.index(group.name)
    return names[:place], names[place + 1 :]


def unwrap(model: Layer) -> tuple[Layer, int] | None:
    """Give the template of a multi-GPU wrapper and the number of its replicas, or None for any other model.

    A wrapper has one layer that is a model. It is called at least twice, each time on tensors that layers without weights
    compute from the same inputs. Every output joins the results of all calls along the batch axis.
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
    inputs_of = [[origins[name] for name, _, _ in call] for call in calls]
    if any(None in call or call != inputs_of[0] for call in inputs_of):
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


def _template(group: LayerGroup, layer: Layer | None, replicas: int | None) -> Template:
    """Describe a model; of a wrapper whose template is a wrapper, take the innermost template."""
    while layer is not None and (deeper := unwrap(layer)) is not None:
        layer, replicas = deeper[0], (replicas or 1) * deeper[1]
    return Template(group=group, architecture=layer, replicas=replicas)


def _models(
    weighted: Sequence[LayerGroup], model: Layer | None
) -> dict[str, tuple[LayerGroup, Layer | None]]:
    """Find the layers with weights that are models."""
    if model is None:
        return {group.name: (group, None) for group in weighted if _looks_nested(group)}
    layers = {layer.name: layer for layer in reversed(model.children or ())}
    return {
        group.name: (group, layer)
        for group in weighted
        if (layer := layers.get(group.name)) is not None and layer.children
    }


def _models_inside(model: Layer, above: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Layer]]:
    """List the models inside a model with their paths, depth first."""
    for layer in model.children or ():
        inner = layer
        while inner.children is None and inner.wrapped is not None:
            inner = inner.wrapped
        if inner.children is not None:
            path = (*above, layer.name)
            yield path, inner
            yield from _models_inside(inner, path)


def _origins(
    names: Iterable[str], layers: dict[str, Layer], template: str
) -> dict[str, frozenset[str] | None]:
    """Find the inputs that layers depend on, following the graph backwards through each layer once.

    The answer for a layer is None if it depends on the template, on a missing layer, on itself, or on more inputs than
    the tensors of a wrapper do.
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
    """Tell whether a layer concatenates one output of all replicas along the batch axis."""
    along = merge.declared.joins_along(merge.config) if merge.declared is not None else None
    if along != 0 or len(merge.nodes) != 1:
        return False
    joined = merge.nodes[0]
    return {name for name, _, _ in joined} == {template.name} and len({node for _, node, _ in joined}) == len(
        joined
    ) == replicas


def replicas_by_surroundings(checkpoint: Checkpoint) -> int | None:
    """Tell from the layers around it whether the only layer with weights of a weights file is a replicated model.

    Keras orders layers by depth: inputs, slices, the template, one merge layer for each output.

    Returns:
        The number of replicas, 0 if the names do not tell it, None if this is no wrapper.
    """
    if len(checkpoint.weighted) != 1:
        return None
    (group,) = checkpoint.weighted
    before, after = _surroundings(checkpoint, group)
    if len(before) < 3 or not after or not _looks_nested(group):
        return None
    slices = sum(1 for name in before if _SLICE_NAME.match(name))
    inputs = len(before) - slices
    return slices // inputs if inputs and slices >= 2 and slices % inputs == 0 else 0


def _looks_nested(group: LayerGroup) -> bool:
    """Tell whether a group's weights belong to layers inside it: some scope is not the name of the group."""
    for weight in group.weights:
        inside = layer_scope(weight.name)
        if inside and group.name not in (inside, split_number(inside, "_")[0]):
            return True
    return False
