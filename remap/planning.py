"""From a checkpoint to the plan of its single-model file."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence

from remap.architecture import Layer, parse_model
from remap.assignment.assign import Order, assign
from remap.assignment.expected import load_order
from remap.assignment.reference import Reference
from remap.checkpoint import Checkpoint, Weight
from remap.conversion_plan import Plan, PlannedWeight
from remap.recognize import Template, find_template, unwrap
from remap.typed_json import Json, Value, read_json
from remap.weight_names import clean, uniquify

__all__ = ["compose", "lift_optimizer", "lift_training_config", "output_names"]


def compose(
    checkpoint: Checkpoint,
    *,
    like: Reference | None,
    plain: bool,
    submodel: str | None,
    weights_only: bool,
    order: Order,
) -> Plan:
    """Settle everything about the output.

    Where a reference model has other trainable flags than the checkpoint, and the order of weights follows them, only
    weights are written: `load_model` would go by the flags in the checkpoint's own architecture.

    Raises NothingToExtract for a single model, Undecided where a choice or a like-file is needed,
    InputRefused for an architecture that is no architecture.
    """
    model = None
    if checkpoint.model_config is not None:
        model = parse_model(checkpoint.model_config, where=f"{checkpoint.root}, model_config")
    wrapper = find_template(checkpoint, model, submodel=submodel)
    assignment = assign(wrapper, like=like, plain=plain, order=order)
    whole = wrapper.architecture is not None and not weights_only and not assignment.reordered
    training_config, optimizer = None, None
    if whole and model is not None and wrapper.architecture is not None and _trains(model, wrapper):
        if checkpoint.training_config is not None:
            training_config = lift_training_config(
                checkpoint.training_config, model, wrapper.architecture, where="training_config"
            )
        if checkpoint.optimizer is not None:
            optimizer = lift_optimizer(checkpoint.optimizer)
    return Plan(
        template=wrapper.architecture.name if wrapper.architecture is not None else wrapper.group.name,
        replicas=wrapper.replicas,
        settled_by=assignment.settled_by,
        layers=assignment.layers,
        backend=checkpoint.backend,
        keras_version=checkpoint.keras_version,
        file_backend=checkpoint.file_backend if whole else None,
        file_keras_version=checkpoint.file_keras_version if whole else None,
        model_config=json.dumps(wrapper.architecture.entry) if whole and wrapper.architecture else None,
        training_config=training_config,
        optimizer=optimizer,
        architecture=assignment.architecture,
        notes=(*assignment.notes, *_optimizer_note(optimizer)),
        frozen=assignment.frozen,
        flags="reference" if assignment.reordered else "saved",
        left_behind=tuple(
            _left_behind(
                checkpoint, model, wrapper, weights_only=weights_only, reordered=assignment.reordered
            )
        ),
    )


def _trains(model: Layer, wrapper: Template) -> bool:
    """Tell whether the file's training state is the template's: only a wrapper trains just that."""
    found = unwrap(model)
    return found is not None and found[0].name == wrapper.group.name


def _optimizer_note(optimizer: tuple[PlannedWeight, ...] | None) -> Iterator[str]:
    if optimizer and optimizer[-1].name == f"w{len(optimizer) - 1}" != optimizer[-1].source.name:
        yield "optimizer weights are named w0, w1 …: Keras before 2.4 cannot read long lists of names back"


def _left_behind(
    checkpoint: Checkpoint, model: Layer | None, wrapper: Template, *, weights_only: bool, reordered: bool
) -> Iterator[str]:
    weighted = {group.name: len(group.weights) for group in checkpoint.weighted}
    own = {layer.name for layer in (wrapper.architecture.children or ())} if wrapper.architecture else set()
    others = [group.name for group in checkpoint.layers if group.name != wrapper.group.name]
    around = [name for name in others if name not in weighted]
    inputs = {layer.name for layer in (model.children or ()) if layer.is_input} if model else own
    spent = [name for name in around if name not in inputs]
    if spent:
        yield f"{len(spent)} layers around the model, without weights: {_shortened(spent)}"
    for name in others:
        if name in weighted:
            yield f"{name}: {weighted[name]} weights of another model"
    state = checkpoint.training_config is not None or checkpoint.optimizer is not None
    if reordered and wrapper.architecture is not None and not weights_only:
        yield (
            "architecture and training state: their trainable flags are not those of the reference model, in whose "
            "order the weights are"
        )
        return
    if state and weights_only:
        yield "training configuration and optimizer state: only weights were asked for"
    elif state and model is not None and not _trains(model, wrapper):
        yield "training configuration and optimizer state: they belong to the whole file, not to this model"


def _shortened(names: list[str]) -> str:
    return ", ".join(names) if len(names) <= 6 else f"{', '.join(names[:3])} … {', '.join(names[-2:])}"


_BY_OUTPUT = ("loss", "loss_weights", "metrics", "weighted_metrics", "sample_weight_mode")
# Keras splits a longer list (HDF5_OBJECT_HEADER_LIMIT in keras/engine/saving.py), and then Keras up to 2.3.1
# and tf.keras up to 1.13 cannot read it back.
_LONGEST_LIST = 64512


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
    """Keep the optimizer's weights in order, under short names where Keras would have to split their list."""
    names = uniquify([clean(weight.name) for weight in weights])
    longest = max((len(name.encode()) for name in names), default=0)
    if longest * len(names) > _LONGEST_LIST:
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
