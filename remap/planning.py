"""Plan the single-model file of a checkpoint: for the formats of old Keras, or for those of Keras 3."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import replace

from remap.architecture import Layer
from remap.assignment.assign import Assignment, assign
from remap.assignment.expected import load_order
from remap.assignment.reference import Reference, Request, named_by
from remap.checkpoint import Checkpoint
from remap.conversion_plan import Plan
from remap.recognize import (
    Path,
    Recognition,
    Template,
    choose,
    find_submodel,
    models_inside,
    own_architecture,
    recognize,
    require_certain,
)
from remap.training_state import lift_optimizer, lift_training_config
from remap.whole_file import (
    REORDERED,
    flat_file,
    named_like,
    no_architecture,
    optimizer_note,
    plan_whole,
    take_apart,
)

__all__ = ["compose", "compose_for_keras3"]

_AS_IT_IS = "there was no wrapper: the single model is converted as it is"


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
    recognition = recognize(checkpoint, own_architecture(checkpoint))
    if request.submodel is not None:
        return _submodel(recognition, request)
    plan = _whole(recognition, request)
    return plan or _extracted(recognition, choose(recognition, submodel=None), request)


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
    recognition = recognize(checkpoint, own_architecture(checkpoint) if model is None else model)
    if request.submodel is not None:
        plan = _submodel(recognition, request)
    elif (found := _whole(recognition, request)) is not None:
        plan = found
    elif _is_whole(recognition, request.like):
        notes = (_AS_IT_IS, *_kept_notes(recognition))
        plan = plan_whole(recognition.checkpoint, recognition.model, request, notes=notes)
    else:
        plan = _extracted(recognition, choose(recognition, submodel=None), request)
    if plan.architecture is None:
        raise no_architecture(checkpoint)
    return plan


def _whole(recognition: Recognition, request: Request) -> Plan | None:
    """Plan the whole model of a file that has multi-GPU wrappers inside; None for any other file.

    A weights file does not show them. It has one if the reference model has other names than the file for nested models
    and the same names for all else.
    """
    checkpoint, model = recognition.checkpoint, recognition.model
    if recognition.kind == "multi-gpu-inside":
        require_certain(recognition)
        return plan_whole(checkpoint, model, request, notes=tuple(_wrapper_notes(recognition)))
    if model is not None or recognition.kind not in ("single", "several") or request.like is None:
        return None
    renamed = named_like(checkpoint, request.like)
    if renamed is None:
        return None
    pairs = [
        f"{ours.name} is {theirs.name}"
        for ours, theirs in zip(checkpoint.layers, renamed.layers, strict=True)
        if ours.name != theirs.name
    ]
    note = f"nested models have the names that they have in the reference model: {', '.join(pairs)}"
    return plan_whole(renamed, None, request, notes=(note,))


def _wrapper_notes(recognition: Recognition) -> Iterator[str]:
    for one in recognition.inner:
        if not one.doubt:
            yield (
                f"the multi-GPU wrapper {'/'.join(one.path)!r} of {one.replicas} replicas inside the model was replaced "
                f"by its template {'/'.join(one.template)!r}"
            )
    yield from _kept_notes(recognition)


def _kept_notes(recognition: Recognition) -> Iterator[str]:
    for one in recognition.inner:
        if one.doubt:
            yield (
                f"the nested model {'/'.join(one.path)!r} was kept as it is: it has the structure of a multi-GPU "
                f"wrapper, but {one.doubt}"
            )


def _submodel(recognition: Recognition, request: Request) -> Plan:
    """Plan a model inside the file's own model, of any depth."""
    name = request.submodel
    assert name is not None  # noqa: S101 - the callers ask
    model, like = recognition.model, request.like
    if recognition.checkpoint.weighted and model is not None:
        models = models_inside(named_by(model, tuple(group.name for group in recognition.checkpoint.layers)))
        path = find_submodel(models, _of_template(recognition, name), where=recognition.root)
        layers = {template.group.name for template in recognition.models}
        weighted = {group.name for group in recognition.checkpoint.weighted}
        if path is not None and path[0] in weighted and (len(path) > 1 or path[0] not in layers):
            return _from_list(recognition, models, path, request)
    elif recognition.checkpoint.weighted and like is not None and like.architecture is not None:
        models = models_inside(like.architecture)
        above = {like.architecture.name, *(template.group.name for template in recognition.models)}
        first, _, rest = name.partition("/")
        path = find_submodel(models, name, where=like.where)
        if path is None and rest and first in above:
            path = find_submodel(models, rest, where=like.where)
        if path is not None:
            return _from_reference(recognition, models, path, replace(request, like=like))
    return _extracted(recognition, choose(recognition, submodel=_of_template(recognition, name)), request)


def _of_template(recognition: Recognition, name: str) -> str:
    """Give the path of the template if a name is that of a wrapper inside the model, or its path."""
    for one in recognition.inner:
        if not one.doubt and name in (one.path[-1], "/".join(one.path)):
            return "/".join(one.template)
    return name


def _from_list(recognition: Recognition, models: Mapping[Path, Layer], path: Path, request: Request) -> Plan:
    """Plan a nested model of a file with an architecture."""
    checkpoint = recognition.checkpoint
    group = next(group for group in checkpoint.weighted if group.name == path[0])
    top = Template(group=group, architecture=replace(models[path[:1]], name=path[0]), replicas=None)
    settled = assign(top, Request(order="any"))
    file = flat_file(checkpoint, take_apart(settled.layers, path[1:]), models[path], full=True)
    plan = plan_whole(file, models[path], request, notes=settled.notes)
    return replace(plan, left_behind=(*plan.left_behind, *_outside(checkpoint, file)))


def _from_reference(
    recognition: Recognition, models: Mapping[Path, Layer], path: Path, request: Request
) -> Plan:
    """Plan a nested model of a weights file, whose reference model describes the model around it."""
    whole = replace(request, submodel=None, order="any")
    if recognition.template is not None:
        around = _extracted(recognition, recognition.template, whole)
    else:
        named = named_like(recognition.checkpoint, whole.like) if whole.like is not None else None
        around = plan_whole(named or recognition.checkpoint, None, whole)
    file = flat_file(recognition.checkpoint, take_apart(around.layers, path), models[path], full=False)
    like = None if request.like is None else replace(request.like, architecture=models[path], groups=None)
    plan = plan_whole(file, None, replace(request, like=like))
    return replace(plan, left_behind=(*plan.left_behind, *_outside(recognition.checkpoint, file)))


def _outside(checkpoint: Checkpoint, file: Checkpoint) -> Iterator[str]:
    """Say how many weights of a file are not those of a nested model in it, and that training state is not."""
    taken = {weight.path for group in file.weighted for weight in group.weights}
    others = {weight.path for group in checkpoint.weighted for weight in group.weights} - taken
    if others:
        yield f"{len(others)} weights of layers outside the nested model"
    if checkpoint.training_config is not None or checkpoint.optimizer is not None:
        yield "training configuration and optimizer state: they belong to the whole file, not to this model"


def _extracted(recognition: Recognition, template: Template, request: Request) -> Plan:
    """Plan a model that is a layer of the file's own model."""
    checkpoint, model = recognition.checkpoint, recognition.model
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
        notes=(
            *assignment.notes,
            *(_wrapper_notes(recognition) if trained else ()),
            *optimizer_note(optimizer),
        ),
        frozen=assignment.frozen,
        flags="reference" if assignment.reordered else "saved",
        left_behind=(
            *_layers_left_behind(checkpoint, model, template),
            *_state_left_behind(checkpoint, template, request, assignment, trained=trained),
        ),
    )


def _is_whole(recognition: Recognition, like: Reference | None) -> bool:
    """Tell whether a file is one model without a wrapper, which needs no choice of a model in it."""
    if recognition.kind in ("single", "empty"):
        return recognition.kind == "single" or recognition.model is not None
    if recognition.model is not None:
        return not recognition.wrapper and not recognition.inner
    if like is None or like.architecture is None:
        return False
    listed = [layer.name for layer in load_order(like.architecture)]
    return listed == [group.name for group in recognition.checkpoint.layers]


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
        yield REORDERED
    elif state and request.weights_only:
        yield "training configuration and optimizer state: only weights were asked for"
    elif state and checkpoint.model_config is not None and not trained:
        yield "training configuration and optimizer state: they belong to the whole file, not to this model"


def _shortened(names: list[str]) -> str:
    return ", ".join(names) if len(names) <= 6 else f"{', '.join(names[:3])} … {', '.join(names[-2:])}"
