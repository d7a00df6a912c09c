"""Plan the single-model file of a checkpoint: for the formats of old Keras, or for those of Keras 3."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace

from remap.architecture import Layer
from remap.assignment.assign import Assignment, assign
from remap.assignment.expected import load_order
from remap.assignment.loading import LoadStep, file_layers, load_by_order, model_layers, narrowed
from remap.assignment.reference import Reference, Request, named_by
from remap.checkpoint import Checkpoint, LayerGroup, Weight
from remap.conversion_plan import Plan, PlannedLayer, PlannedWeight
from remap.errors import GIVE_JSON, InputRefused, Undecided, UsageRefused
from remap.recognize import Recognition, Template, choose, own_architecture, recognize
from remap.typed_json import Json, Value, read_json
from remap.weight_names import LONGEST_LIST, clean, list_size, uniquify

__all__ = [
    "compose",
    "compose_for_keras3",
    "lift_optimizer",
    "lift_training_config",
    "output_names",
]

_NOT_NEEDED = "was not needed: the file's own architecture settles the layers"


def compose(checkpoint: Checkpoint, request: Request) -> Plan:
    """Plan a .h5 file of the model.

    If a reference model has other trainable flags than the checkpoint, and the order of weights depends on them, only
    weights are written: `load_model` would use the flags in the checkpoint's own architecture.

    Args:
        checkpoint: What was read of the input.
        request: What the caller wants.

    Returns:
        The plan.

    Raises:
        NothingToExtract: If the file is a single model.
        Undecided: If a choice or a reference model is needed.
        UsageRefused: If the file contradicts what the caller asked to assume.
        InputRefused: If the architecture is damaged.
    """
    model = own_architecture(checkpoint)
    recognition = recognize(checkpoint, model)
    return _extracted(checkpoint, model, recognition, request)


def compose_for_keras3(checkpoint: Checkpoint, request: Request, *, model: Layer | None = None) -> Plan:
    """Plan a file of Keras 3, whose formats keep the weights of each layer apart, also those inside nested models.

    No trainable flags decide the order of weights in these formats. A single model is planned as it is, also one that
    consists of several models.

    Args:
        checkpoint: What was read of the input.
        request: What the caller wants; its order does not count.
        model: The file's own architecture, where the caller has read it.

    Returns:
        The plan. Its layers have children for every nested model, and its architecture is known.

    Raises:
        Undecided: If no architecture is known, or if a choice or a reference model is needed.
        UsageRefused: If the file contradicts what the caller asked to assume.
        InputRefused: If the architecture is damaged or not that of the file's layers.
    """
    request = replace(request, order="any")
    model = own_architecture(checkpoint) if model is None else model
    recognition = recognize(checkpoint, model)
    if request.submodel is None and _is_whole(checkpoint, recognition, model, request.like):
        plan = _as_it_is(checkpoint, model, request)
    else:
        plan = _extracted(checkpoint, model, recognition, request)
    if plan.architecture is None:
        raise _no_architecture(checkpoint)
    return plan


def _no_architecture(checkpoint: Checkpoint) -> Undecided:
    return Undecided(
        "Keras 3 formats need the architecture of the model, and nothing given so far tells it",
        where=checkpoint.root,
        remedies=(GIVE_JSON,),
    )


def _extracted(
    checkpoint: Checkpoint, model: Layer | None, recognition: Recognition, request: Request
) -> Plan:
    """Plan a model that is taken out of the file."""
    template = choose(recognition, submodel=request.submodel)
    assignment = assign(template, request)
    own = assignment.settled_by == "architecture" and not assignment.reordered
    whole = own and not request.weights_only
    trained = recognition.template is not None and recognition.template.group is template.group
    training_config, optimizer = None, None
    if whole and trained and model is not None and template.architecture is not None:
        if checkpoint.training_config is not None:
            training_config = lift_training_config(
                checkpoint.training_config, model, template.architecture, where="training_config"
            )
        if checkpoint.optimizer is not None:
            optimizer = lift_optimizer(checkpoint.optimizer)
    return Plan(
        template=template.name,
        replicas=template.replicas,
        settled_by=assignment.settled_by,
        layers=assignment.layers,
        backend=checkpoint.backend,
        keras_version=checkpoint.keras_version,
        file_backend=checkpoint.file_backend if whole else None,
        file_keras_version=checkpoint.file_keras_version if whole else None,
        model_config=json.dumps(template.architecture.entry) if whole and template.architecture else None,
        training_config=training_config,
        optimizer=optimizer,
        architecture=assignment.architecture,
        notes=(*assignment.notes, *_optimizer_note(optimizer)),
        frozen=assignment.frozen,
        flags="reference" if assignment.reordered else "saved",
        left_behind=(
            *_layers_left_behind(checkpoint, model, template),
            *_state_left_behind(checkpoint, template, request, assignment, trained=trained),
        ),
    )


def _is_whole(
    checkpoint: Checkpoint, recognition: Recognition, model: Layer | None, like: Reference | None
) -> bool:
    """Tell whether a file is one model without a wrapper, which needs no choice of a model in it."""
    if recognition.kind in ("single", "empty"):
        return recognition.kind == "single" or model is not None
    if model is not None:
        return not recognition.wrappers
    if like is None or like.architecture is None:
        return False
    listed = [layer.name for layer in load_order(like.architecture)]
    return listed == [group.name for group in checkpoint.layers]


def _as_it_is(checkpoint: Checkpoint, model: Layer | None, request: Request) -> Plan:
    """Plan the file of a single model: its groups are the layers, so only nested models have to be settled."""
    like = request.like
    notes = ["there was no wrapper: the single model is converted as it is"]
    if model is not None:
        architecture = named_by(model, tuple(group.name for group in checkpoint.layers))
        if like is not None:
            _require_fit(checkpoint, like)
            notes.append(f"the reference model {_NOT_NEEDED}")
        if request.plain:
            _require_plain(architecture, checkpoint)
            notes.append(f"the assumption of a plain model {_NOT_NEEDED}")
    elif like is not None and like.architecture is not None:
        architecture = like.architecture
        _require_fit(checkpoint, like)
    else:
        raise _no_architecture(checkpoint)
    whole = model is not None and not request.weights_only
    return Plan(
        template=architecture.name,
        replicas=None,
        settled_by="architecture" if model is not None else "reference",
        layers=tuple(_stored_layers(checkpoint, architecture, None if model is not None else like)),
        backend=checkpoint.backend,
        keras_version=checkpoint.keras_version,
        training_config=checkpoint.training_config if whole else None,
        optimizer=lift_optimizer(checkpoint.optimizer)
        if whole and checkpoint.optimizer is not None
        else None,
        architecture=architecture,
        notes=tuple(notes),
    )


def _stored_layers(
    checkpoint: Checkpoint, architecture: Layer, like: Reference | None
) -> Iterator[PlannedLayer]:
    """Plan the layers of an architecture from the groups of the same names; settle the list of each nested model.

    Args:
        checkpoint: The file of a single model.
        architecture: The description of the model.
        like: The reference model that the architecture comes from, whose trainable flags need not be those of the file;
            None if it is the file's own.

    Raises:
        InputRefused: If the file has weights of other layers.
        Undecided: If the list of a nested model cannot be settled.
    """
    groups = {group.name: group for group in checkpoint.layers}
    layers = tuple(load_order(architecture))
    names = {layer.name for layer in layers}
    unknown = next((group.name for group in checkpoint.weighted if group.name not in names), None)
    if unknown is not None:
        raise InputRefused(
            f"the file holds weights of {unknown!r}, which is no layer of its architecture",
            where=checkpoint.root,
        )
    for layer in layers:
        group = groups.get(layer.name, LayerGroup(name=layer.name, weights=()))
        inner = replace(layer.innermost, name=layer.name)
        children: tuple[PlannedLayer, ...] = ()
        if inner.children is not None and layer.name in groups:
            own = inner if like is None else None
            described = None if like is None else replace(like, architecture=inner, groups=None)
            nested = Template(group=group, architecture=own, replicas=None)
            children = assign(nested, Request(like=described, order="any")).layers
        yield PlannedLayer(
            name=layer.name,
            weights=tuple(PlannedWeight(name=weight.name, source=weight) for weight in group.weights),
            children=children,
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
            raise UsageRefused(
                "the assumption that nothing was frozen and no model is nested contradicts the file's own "
                f"architecture: {layer.name!r} {found}",
                where=checkpoint.root,
                hint="leave the assumption out: the architecture settles the layers",
            )


def _optimizer_note(optimizer: tuple[PlannedWeight, ...] | None) -> Iterator[str]:
    if optimizer and optimizer[-1].name == f"w{len(optimizer) - 1}" != optimizer[-1].source.name:
        yield "optimizer weights are named w0, w1 …: Keras before 2.4 cannot read long lists of names back"


def _layers_left_behind(checkpoint: Checkpoint, model: Layer | None, template: Template) -> Iterator[str]:
    weighted = {group.name: len(group.weights) for group in checkpoint.weighted}
    children = template.architecture.children if template.architecture is not None else ()
    own = {layer.name for layer in children or ()}
    others = [group.name for group in checkpoint.layers if group.name != template.group.name]
    inputs = {layer.name for layer in model.children or () if layer.is_input} if model is not None else own
    around = [name for name in others if name not in weighted and name not in inputs]
    if around:
        yield f"{len(around)} layers around the model, without weights: {_shortened(around)}"
    for name in others:
        if name in weighted:
            yield f"{name}: {weighted[name]} weights of another model"


def _state_left_behind(
    checkpoint: Checkpoint, template: Template, request: Request, assignment: Assignment, *, trained: bool
) -> Iterator[str]:
    state = checkpoint.training_config is not None or checkpoint.optimizer is not None
    described = template.architecture is not None and not request.weights_only
    if described and assignment.settled_by != "architecture":
        yield "architecture and training state: the file's own architecture does not settle the layers"
    elif described and assignment.reordered:
        yield (
            "architecture and training state: their trainable flags are not those of the reference model, in whose "
            "order the weights are"
        )
    elif state and request.weights_only:
        yield "training configuration and optimizer state: only weights were asked for"
    elif state and checkpoint.model_config is not None and not trained:
        yield "training configuration and optimizer state: they belong to the whole file, not to this model"


def _shortened(names: list[str]) -> str:
    return ", ".join(names) if len(names) <= 6 else f"{', '.join(names[:3])} … {', '.join(names[-2:])}"


_BY_OUTPUT = ("loss", "loss_weights", "metrics", "weighted_metrics", "sample_weight_mode")


def lift_training_config(text: str, wrapper: Layer, template: Layer, *, where: str) -> str:
    """Key losses, weights and metrics by the template's outputs instead of the wrapper's.

    Merge layers were numbered on their own before Keras 2.1.2 (``concatenate_1``), and counted where outputs
    share a name. Raises InputRefused for text that is not JSON.
    """
    theirs = [name for name, _, _ in wrapper.outputs]
    ours = output_names(template)
    config = read_json(text, where=where).object()
    if theirs == ours or len(theirs) != len(ours):
        return text
    lifted = {
        key: _rekeyed(value, theirs, ours) if key in _BY_OUTPUT else value.json()
        for key, value in config.items()
    }
    return text if lifted == config.json() else json.dumps(lifted)


def lift_optimizer(weights: Sequence[Weight]) -> tuple[PlannedWeight, ...]:
    """Keep the optimizer's weights in order, under short names where Keras would have to split their list.

    Keras up to 2.3.1 and tf.keras up to 1.13 cannot read a split list back.
    """
    names = uniquify([clean(weight.name) for weight in weights])
    if list_size(names) > LONGEST_LIST:
        names = [f"w{index}" for index in range(len(names))]
    return tuple(PlannedWeight(name=name, source=weight) for name, weight in zip(names, weights, strict=True))


def output_names(model: Layer) -> list[str]:
    """Name a model's outputs as Keras does: after the layers they come from."""
    if model.sequential:
        return [layer.name for layer in load_order(model)][-1:]
    return [name for name, _, _ in model.outputs]


def _rekeyed(value: Value, theirs: Sequence[str], ours: Sequence[str]) -> Json:
    """Rename the keys of what is given output by output; a list in the order of outputs where two share a name."""
    if value.kind != "object" or not set(value.object().keys()) <= set(theirs):
        return value.json()
    by_name = value.object()
    if len(set(ours)) < len(ours):
        return [by_name.value(name).json() if by_name.has(name) else None for name in theirs]
    names = dict(zip(theirs, ours, strict=True))
    return {names[key]: item.json() for key, item in by_name.items()}
