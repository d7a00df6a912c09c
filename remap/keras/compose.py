"""From a checkpoint to the plan of its single-model file."""

from __future__ import annotations

import json
from collections.abc import Iterator

from remap.keras.assign import Order, assign
from remap.keras.checkpoint import Checkpoint
from remap.keras.config import Layer, parse_model
from remap.keras.like import Like
from remap.keras.plan import Plan, PlannedWeight
from remap.keras.training import lift_optimizer, lift_training_config
from remap.keras.wrapper import Wrapper, find_template, unwrap

__all__ = ["compose"]


def compose(
    checkpoint: Checkpoint,
    *,
    like: Like | None,
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
        rung=assignment.rung,
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


def _trains(model: Layer, wrapper: Wrapper) -> bool:
    """Tell whether the file's training state is the template's: only a wrapper trains just that."""
    found = unwrap(model)
    return found is not None and found[0].name == wrapper.group.name


def _optimizer_note(optimizer: tuple[PlannedWeight, ...] | None) -> Iterator[str]:
    if optimizer and optimizer[-1].name == f"w{len(optimizer) - 1}" != optimizer[-1].source.name:
        yield "optimizer weights are named w0, w1 …: Keras before 2.4 cannot read long lists of names back"


def _left_behind(
    checkpoint: Checkpoint, model: Layer | None, wrapper: Wrapper, *, weights_only: bool, reordered: bool
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
