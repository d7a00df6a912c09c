"""Plan a file whose groups are the layers of the model that comes out, so that only its nested models are settled."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from remap.architecture import Layer
from remap.assignment.assign import NOT_NEEDED, Assignment, assign, not_plain, require_loadable
from remap.assignment.expected import load_order
from remap.assignment.loading import LoadStep, file_layers, load_by_order, model_layers, narrowed
from remap.assignment.reference import Reference, Request, named_by
from remap.checkpoint import Checkpoint, LayerGroup
from remap.conversion_plan import Plan, PlannedLayer, PlannedWeight
from remap.errors import GIVE_JSON, InputRefused, Undecided
from remap.recognize import Path, Template
from remap.training_state import lift_optimizer

__all__ = [
    "REORDERED",
    "flat_file",
    "named_like",
    "no_architecture",
    "optimizer_note",
    "plan_whole",
    "take_apart",
]

REORDERED = (
    "architecture and training state: their trainable flags are not those of the reference model, in whose order the "
    "weights are"
)
"""What is said of a full model whose weights are written alone."""


def no_architecture(checkpoint: Checkpoint) -> Undecided:
    """Describe that a format of Keras 3 needs an architecture."""
    return Undecided(
        "Keras 3 formats need the architecture of the model, and nothing given so far tells it",
        where=checkpoint.root,
        remedies=(GIVE_JSON,),
    )


def plan_whole(
    checkpoint: Checkpoint, model: Layer | None, request: Request, *, notes: Sequence[str] = ()
) -> Plan:
    """Plan the file of a model whose layers are the groups of a checkpoint.

    Args:
        checkpoint: The checkpoint.
        model: Its own architecture; None if the reference model describes it.
        request: What the caller wants.
        notes: What to report first.

    Returns:
        The plan. If the order inside nested models does not matter, its layers have children for each of them.

    Raises:
        Undecided: If no architecture is known, or if the list of a nested model cannot be settled.
        InputRefused: If the file has weights of other layers.
        UsageRefused: If the file contradicts what the caller asked to assume.
    """
    like = request.like
    notes = list(notes)
    architecture: Layer | None
    if model is not None:
        architecture = named_by(model, tuple(group.name for group in checkpoint.layers))
        if request.plain:
            _require_plain(architecture, checkpoint)
            notes.append(f"the assumption of a plain model {NOT_NEEDED}")
    else:
        architecture = None if like is None else like.architecture
        if like is None or (architecture is None and request.order == "any"):
            raise no_architecture(checkpoint)
    if like is not None:
        _require_fit(checkpoint, like)
    stored = _stored(checkpoint, architecture, request, own=model is not None)
    if like is not None and model is not None and not stored.reordered:
        notes.append(f"the reference model {NOT_NEEDED}")
    whole = model is not None and not request.weights_only and not stored.reordered
    optimizer = lift_optimizer(checkpoint.optimizer) if whole and checkpoint.optimizer is not None else None
    return Plan(
        template="" if architecture is None else architecture.name,
        replicas=None,
        settled_by="architecture" if model is not None else "reference",
        layers=stored.layers,
        backend=checkpoint.backend,
        keras_version=checkpoint.keras_version,
        file_backend=checkpoint.file_backend if whole else None,
        file_keras_version=checkpoint.file_keras_version if whole else None,
        model_config=checkpoint.model_config if whole else None,
        training_config=checkpoint.training_config if whole else None,
        optimizer=optimizer,
        architecture=architecture,
        notes=(*notes, *stored.notes, *optimizer_note(optimizer)),
        frozen=stored.frozen,
        flags="reference" if stored.reordered else "saved",
        left_behind=tuple(_state_left_behind(checkpoint, request, stored)),
    )


def _state_left_behind(checkpoint: Checkpoint, request: Request, stored: _Stored) -> Iterator[str]:
    state = checkpoint.training_config is not None or checkpoint.optimizer is not None
    if stored.reordered and checkpoint.model_config is not None and not request.weights_only:
        yield REORDERED
    elif state and request.weights_only:
        yield "training configuration and optimizer state: only weights were asked for"


def named_like(checkpoint: Checkpoint, like: Reference) -> Checkpoint | None:
    """Name the nested models of a weights file as a reference model names them, if all else has the same names.

    A model with a multi-GPU wrapper inside lists the weights of the wrapper under its name, and those of the model that
    is built on the template under the template's; their order is the same.

    Returns:
        The checkpoint, None if the names are the same, or if other layers have other names.
    """
    nested, listed = _nested_names(like), like.layer_names
    names = [group.name for group in checkpoint.layers]
    if len(names) != len(listed):
        return None
    pairs = [
        (group, theirs)
        for group, theirs in zip(checkpoint.layers, listed, strict=True)
        if group.name != theirs
    ]
    if not pairs or not all(group.weights and theirs in nested for group, theirs in pairs):
        return None
    # A name that both have in different places is that of another model of the same shapes.
    if {group.name for group, _ in pairs} & set(listed) or {theirs for _, theirs in pairs} & set(names):
        return None
    renamed = zip(checkpoint.layers, like.layer_names, strict=True)
    return replace(checkpoint, layers=tuple(replace(group, name=name) for group, name in renamed))


def _nested_names(like: Reference) -> set[str]:
    """List the layers of a reference model that are models, or of which only a list of weights is known."""
    if like.architecture is None:
        return {group.name for group in like.groups or () if group.weights}
    return {layer.name for layer in load_order(like.architecture) if layer.children is not None}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Stored:
    """The layers of the output, and what settling its nested models showed; as `Assignment` has it."""

    layers: tuple[PlannedLayer, ...]
    notes: tuple[str, ...] = ()
    frozen: tuple[str, ...] = ()
    reordered: bool = False


def _stored(checkpoint: Checkpoint, architecture: Layer | None, request: Request, *, own: bool) -> _Stored:
    """Plan the layers of a model from the groups of the same names; settle the lists of nested models.

    Without a reference model the list of a nested model is copied as it is, also if the weights of each layer inside are
    not known, unless they have to be.

    Args:
        checkpoint: The file.
        architecture: The description of the model; None if the reference model tells the names of its layers only.
        request: What the caller wants.
        own: Whether the architecture is the file's own, and not the reference model's.

    Raises:
        InputRefused: If the file has weights of other layers.
        Undecided: If the list of a nested model cannot be settled.
    """
    groups = {group.name: group for group in checkpoint.layers}
    layers = {} if architecture is None else {layer.name: layer for layer in load_order(architecture)}
    names = tuple(layers) or (request.like.layer_names if request.like is not None else ())
    known = frozenset(names)
    unknown = next((group.name for group in checkpoint.weighted if group.name not in known), None)
    if unknown is not None:
        raise InputRefused(
            f"the file holds weights of {unknown!r}, which is no layer of its architecture",
            where=checkpoint.root,
        )
    copied = request.like is None and request.order != "any"
    partners = {} if own and request.order == "any" else _partners(names, request.like)
    planned: list[PlannedLayer] = []
    settled: list[Assignment] = []
    for name in names:
        group = groups.get(name, LayerGroup(name=name, weights=()))
        layer = layers.get(name)
        may_be_model = architecture is None or (layer is not None and layer.innermost.children is not None)
        weights = tuple(PlannedWeight(name=weight.name, source=weight) for weight in group.weights)
        part = PlannedLayer(name=name, weights=weights)
        if may_be_model and group.weights:
            alone = replace(architecture, children=(layer,)) if own and architecture and layer else None
            template = Template(group=group, architecture=alone, replicas=None)
            try:
                found = assign(template, Request(like=partners.get(name), order=request.order))
            except Undecided:
                if not copied:
                    raise
            else:
                settled.append(found)
                inside = found.layers[0]
                part = replace(part, children=inside.children) if copied else replace(inside, name=name)
        planned.append(part)
    if request.like is not None and request.order == "reference":
        require_loadable(planned, request.like)
    return _Stored(
        layers=tuple(planned),
        notes=tuple(dict.fromkeys(note for one in settled for note in one.notes)),
        frozen=tuple(path for one in settled for path in one.frozen),
        reordered=any(one.reordered for one in settled),
    )


def _partners(names: Sequence[str], like: Reference | None) -> dict[str, Reference]:
    """Give for each layer a reference model that has this layer alone; by name, else by position."""
    if like is None:
        return {}
    listed = {layer.name: layer for layer in load_order(like.architecture)} if like.architecture else {}
    groups = {group.name: group for group in like.groups or ()}
    theirs = like.layer_names
    if len(names) != len(theirs):
        return {}
    pairs = zip(names, names if set(names) == set(theirs) else theirs, strict=True)
    return {
        ours: replace(
            like,
            architecture=replace(like.architecture, children=(listed[name],)) if like.architecture else None,
            groups=(groups[name],) if name in groups else None,
        )
        for ours, name in pairs
    }


def take_apart(layers: Sequence[PlannedLayer], path: Path) -> tuple[PlannedLayer, ...]:
    """Give the layers of a nested model among planned layers; none if it has no weights."""
    for name in path:
        layers = next((layer.children for layer in layers if layer.name == name), ())
    return tuple(layers)


def flat_file(
    checkpoint: Checkpoint, layers: Sequence[PlannedLayer], model: Layer, *, full: bool
) -> Checkpoint:
    """Describe the file that Keras would have saved for a nested model of a checkpoint, without training state.

    Args:
        checkpoint: The checkpoint.
        layers: The layers of the nested model that may have weights.
        model: Its architecture.
        full: Whether the file has an architecture.
    """
    planned = {layer.name: layer.weights for layer in layers}
    groups = tuple(
        LayerGroup(
            name=layer.name,
            weights=tuple(replace(weight.source, name=weight.name) for weight in planned.get(layer.name, ())),
        )
        for layer in load_order(model)
    )
    return replace(
        checkpoint,
        layers=groups,
        model_config=json.dumps(model.entry) if full else None,
        training_config=None,
        optimizer=None,
    )


def _require_fit(checkpoint: Checkpoint, like: Reference) -> None:
    """Refuse a reference model of another model than the file holds, whatever its trainable flags are."""
    saved = file_layers(checkpoint.layers)
    loading = load_by_order(saved, narrowed(model_layers(like), saved))
    complaints = [loading.complaint, *(step.complaint for step in loading.steps if not _in_other_order(step))]
    complaint = next(filter(None, complaints), "")
    if complaint:
        raise Undecided(
            f"the reference model does not fit the checkpoint: {complaint}",
            where=like.where,
            hint="write the reference model with the code that built the saved model",
        )


def _in_other_order(step: LoadStep) -> bool:
    """Tell whether a layer is a nested model with as many weights, whose order depends on trainable flags."""
    want, have = step.expected, step.saved
    if want is None or have is None or want.shapes is None:
        return False
    return len(set(want.owners)) > 1 and len(want.shapes) == len(have.shapes)


def _require_plain(architecture: Layer, checkpoint: Checkpoint) -> None:
    """Refuse an architecture that contradicts the assumption that nothing was frozen and no model is nested."""
    for layer in load_order(architecture):
        found = "is a nested model" if layer.innermost.children is not None else ""
        if not found and not layer.trainable and not layer.is_input:
            found = "was frozen"
        if found:
            raise not_plain(f"{layer.name!r} {found}", checkpoint.root)


def optimizer_note(optimizer: tuple[PlannedWeight, ...] | None) -> Iterator[str]:
    """Note the names of an optimizer's weights where they are not those of the input."""
    if optimizer and optimizer[-1].name == f"w{len(optimizer) - 1}" != optimizer[-1].source.name:
        yield "optimizer weights are named w0, w1 …: Keras before 2.4 cannot read long lists of names back"
