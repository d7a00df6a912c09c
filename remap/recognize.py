"""Recognize what a checkpoint holds: multi-GPU wrappers and where they are, several models, a single model, no weights."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from remap.architecture import Layer, is_weightless, parse_model
from remap.checkpoint import Checkpoint, LayerGroup
from remap.errors import InputRefused, NothingToExtract, Remedy, Undecided
from remap.inner_wrappers import InnerWrapper, built_on_templates
from remap.weight_names import layer_scope, split_number
from remap.wrappers import unwrap

__all__ = [
    "Kind",
    "Recognition",
    "Template",
    "choose",
    "find_submodel",
    "models_inside",
    "own_architecture",
    "recognize",
    "replicas_by_surroundings",
    "require_certain",
    "several_models",
]

Path = tuple[str, ...]

Kind = Literal["multi-gpu", "multi-gpu-inside", "several", "single", "empty"]

_SLICE_NAME = re.compile(r"^lambda(_\d+)?$")
_MOST_REMEDIES = 5
_MOST_LISTED = 20


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
        kind: ``multi-gpu`` for a wrapper, ``multi-gpu-inside`` for a model that has wrappers inside, ``several`` for a
            file in which every layer with weights is a model, ``single`` for any other model, ``empty`` for a file
            without weights.
        checkpoint: The checkpoint, with the model built on the templates of the wrappers inside it.
        model: That model; None in a weights file.
        template: The replicated model of a wrapper; None for any other kind.
        models: The models that are layers with weights, in file order.
        inner: The multi-GPU wrappers inside the file's own model. Nothing is known of them in a weights file.
        wrapper: Whether the file's own model is a multi-GPU wrapper, with any weights.
    """

    kind: Kind
    checkpoint: Checkpoint
    model: Layer | None = None
    template: Template | None = None
    models: tuple[Template, ...] = ()
    inner: tuple[InnerWrapper, ...] = ()
    wrapper: bool = False

    @property
    def root(self) -> str:
        """Give the path of the group with the layers, for messages."""
        return self.checkpoint.root

    @property
    def submodels(self) -> tuple[Path, ...]:
        """List the paths of all models with weights that can be extracted on their own."""
        if self.model is None:
            return tuple((model.group.name,) for model in self.models)
        weighted = {group.name for group in self.checkpoint.weighted}
        return tuple(path for path in models_inside(self.model) if path[0] in weighted and all(path))

    @property
    def doubt(self) -> InnerWrapper | None:
        """Give the first wrapper that may be none, so that no template was put in its place."""
        return next((one for one in self.inner if one.doubt), None)


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
    inner: tuple[InnerWrapper, ...] = ()
    if model is not None:
        checkpoint, model, inner = built_on_templates(checkpoint, model)
    found = unwrap(model) if model is not None else None
    models = {}
    for name, (group, layer) in _models(checkpoint.weighted, model).items():
        replicas = found[1] if found is not None and found[0].name == name else None
        models[name] = _template(group, layer, replicas, inner)
    template = _replicated(checkpoint, model, found, inner)
    if template is not None:
        models[template.group.name] = template
    kind: Kind = "single"
    if not checkpoint.weighted:
        kind = "empty"
    elif template is not None:
        kind = "multi-gpu"
    elif any(not one.doubt for one in inner):
        kind = "multi-gpu-inside"
    elif 1 < len(models) == len(checkpoint.weighted):
        kind = "several"
    return Recognition(
        kind=kind,
        checkpoint=checkpoint,
        model=model,
        template=template,
        models=tuple(models.values()),
        inner=inner,
        wrapper=found is not None,
    )


def choose(recognition: Recognition, *, submodel: str | None) -> Template:
    """Choose the model to extract among those that are layers of the file's own model.

    Args:
        recognition: What the checkpoint holds.
        submodel: The name of the model that the caller wants; None for the replicated one.

    Returns:
        The model.

    Raises:
        InputRefused: If the file has no weights.
        NothingToExtract: If the file is a single model.
        Undecided: If the file holds several models, or none with that name, or what may be a multi-GPU wrapper.
    """
    if recognition.kind == "empty":
        raise InputRefused("the file is a Keras file but holds no weights", where=recognition.root)
    if submodel is not None:
        for model in recognition.models:
            if submodel in (model.group.name, model.name):
                return model
        paths = recognition.submodels
        listed = ", ".join(map("/".join, paths[:_MOST_LISTED])) or "none"
        listed += " …" if len(paths) > _MOST_LISTED else ""
        raise Undecided(
            f"no model with weights is called {submodel!r}; models in this file: {listed}",
            where=recognition.root,
            hint="list the models with the command inspect",
            remedies=_remedies(paths),
        )
    if recognition.template is not None:
        return recognition.template
    require_certain(recognition)
    if recognition.kind == "several":
        raise several_models(recognition)
    known = "no layer in it is a replicated model"
    if recognition.model is None:
        known = "not all of its weights are those of one replicated model"
    raise NothingToExtract(
        f"already a single model: {known}",
        where=recognition.root,
        hint="load it with load_weights or load_model as it is",
        remedies=tuple(
            replace(remedy, when="you want this nested model alone") for remedy in _submodels(recognition)
        ),
    )


def require_certain(recognition: Recognition) -> None:
    """Refuse a model that may have a multi-GPU wrapper inside: it may as well be the way in which it was meant.

    Raises:
        Undecided: If there is one.
    """
    found = recognition.doubt
    if found is None:
        return
    raise Undecided(
        f"the nested model {'/'.join(found.path)!r} has the structure of a multi-GPU wrapper, but {found.doubt}, so "
        "whether the model was meant to have it or only its template is not known",
        where=recognition.root,
        hint="if the model was meant to have it, load it with load_weights or load_model as it is",
        remedies=tuple(
            replace(remedy, when="you want this nested model alone") for remedy in _submodels(recognition)
        ),
    )


def find_submodel(models: Mapping[Path, Layer], submodel: str, *, where: str) -> Path | None:
    """Find a model by its path, by its name, or by the name that it has inside a TimeDistributed.

    Args:
        models: The models by their paths.
        submodel: The path or the name.
        where: The place in the file, for messages.

    Returns:
        The path; None if there is no such model.

    Raises:
        Undecided: If several models have that name.
    """
    found = [path for path in models if "/".join(path) == submodel]
    found = found or [path for path, model in models.items() if submodel in (path[-1], model.name)]
    if len(found) > 1:
        raise Undecided(
            f"{len(found)} models are called {submodel!r}",
            where=where,
            hint="give the path of one",
            remedies=_remedies(found),
        )
    return found[0] if found else None


def models_inside(model: Layer) -> dict[Path, Layer]:
    """List the models with weights inside a model by their paths, depth first; of a TimeDistributed what it wraps."""
    return dict(_models_inside(model, ()))


def several_models(recognition: Recognition) -> Undecided:
    """Describe the choice among several models."""
    names = [model.group.name for model in recognition.models]
    return Undecided(
        f"the file holds {len(names)} models with weights: {', '.join(names)}",
        where=recognition.root,
        remedies=_submodels(recognition),
    )


def _submodels(recognition: Recognition) -> tuple[Remedy, ...]:
    return _remedies([(model.group.name,) for model in recognition.models])


def _remedies(paths: Sequence[Path]) -> tuple[Remedy, ...]:
    return tuple(Remedy(option="submodel", value="/".join(path)) for path in paths[:_MOST_REMEDIES])


def _replicated(
    checkpoint: Checkpoint,
    model: Layer | None,
    found: tuple[Layer, int] | None,
    inner: Sequence[InnerWrapper],
) -> Template | None:
    """Find the replicated model of a wrapper that holds all weights of the file."""
    if len(checkpoint.weighted) != 1:
        return None
    (group,) = checkpoint.weighted
    if model is not None:
        return _template(group, *found, inner) if found is not None and found[0].name == group.name else None
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


def _template(
    group: LayerGroup, layer: Layer | None, replicas: int | None, inner: Sequence[InnerWrapper] = ()
) -> Template:
    """Describe a model; of a wrapper whose template is a wrapper, take the innermost template."""
    for one in inner:
        if one.template == (group.name,) and not one.doubt:
            replicas = (replicas or 1) * one.replicas
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


def _is_weightless_model(model: Layer) -> bool:
    return all(is_weightless(layer) for layer in model.walk() if layer.children is None)


def _models_inside(model: Layer, above: Path) -> Iterator[tuple[Path, Layer]]:
    for layer in model.children or ():
        inner = layer
        while inner.children is None and inner.wrapped is not None:
            inner = inner.wrapped
        if inner.children is not None and not _is_weightless_model(inner):
            path = (*above, layer.name)
            yield path, inner
            yield from _models_inside(inner, path)


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
