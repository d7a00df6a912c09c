"""From a checkpoint, replicated or single, to what today's Keras shall read."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from remap.architecture import Layer, dtype_name, parse_model
from remap.assignment.assign import assign
from remap.assignment.expected import load_order
from remap.assignment.loading import file_layers, load_by_order, model_layers
from remap.assignment.reference import Reference
from remap.checkpoint import Checkpoint, LayerGroup, Weight
from remap.conversion_plan import Plan, PlannedLayer, PlannedWeight
from remap.errors import InputRefused, NothingToExtract, Undecided
from remap.keras3.graph import makes_mask
from remap.keras3.masks import mask_problems
from remap.keras3.model import build_model
from remap.keras3.tensors import Translation
from remap.keras3.training import add_training
from remap.layers import SEQUENTIAL
from remap.layers.declaration import Setting, Writer
from remap.planning import compose, lift_optimizer, output_names
from remap.recognize import Template, unwrap

__all__ = ["named", "tell_apart", "to_keras3", "translate"]

_NO_SHAPE = "convert to .weights.h5 instead, and load that into the model once it is built"


def translate(
    architecture: Layer, planned: Sequence[PlannedLayer], *, keras_version: str | None
) -> Translation:
    """Write a model of Keras 2 or tf.keras for Keras 3.

    `planned` are the weights of the model's layers, told apart down to the innermost. Raises InputRefused
    when they do not belong to the architecture.
    """
    setting = Setting(
        floatx=_float_type(architecture, planned),
        writer=Writer(keras_version),
        masks=any(makes_mask(layer) for layer in architecture.walk()),
    )
    built = build_model(architecture, architecture.name or "model", planned, setting)
    problems = (*built.problems, *mask_problems(architecture, setting.writer))
    if not _tells_input(built.entry):
        problems = (*problems, InputRefused("nothing tells the shape of the model's input", hint=_NO_SHAPE))
    return Translation(config=built.entry, groups=built.groups, notes=built.notes, problems=problems)


def _tells_input(entry: dict[str, Any]) -> bool:
    return entry["class_name"] != SEQUENTIAL or "build_input_shape" in entry["config"]


def _float_type(architecture: Layer, planned: Sequence[PlannedLayer]) -> str:
    """Find the float type of the model: of most weights, else of the inputs."""
    found = Counter(
        f"float{8 * int(weight.source.dtype[2:])}"
        for layer in planned
        for weight in layer.weights
        if weight.source.dtype[1] == "f"
    )
    if found:
        return found.most_common(1)[0][0]
    for layer in architecture.walk():
        if layer.is_input:
            name = dtype_name(layer.config) or ""
            if name.startswith("float"):
                return name
    return "float32"


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
    checkpoint: Checkpoint, architecture: Layer, *, given: Reference | None = None
) -> tuple[PlannedLayer, ...]:
    """Plan a flat file as it stands, and settle the flat list of each model inside.

    `given` is the like-file that the architecture comes from, whose trainable flags need not be the file's.
    Raises InputRefused where the file's layers are not those of the architecture, and what `assign` raises.
    """
    groups = {group.name: group for group in checkpoint.layers}
    layers = tuple(load_order(architecture))
    names = {layer.name for layer in layers}
    strangers = [group.name for group in checkpoint.weighted if group.name not in names]
    if strangers:
        raise InputRefused(
            f"the file holds weights of {strangers[0]!r}, of which its architecture does not speak",
            where=checkpoint.root,
        )
    return tuple(_planned_layer(layer, groups.get(layer.name), given) for layer in layers)


def _planned_layer(layer: Layer, group: LayerGroup | None, given: Reference | None) -> PlannedLayer:
    weights = () if group is None else group.weights
    named = tuple(PlannedWeight(name=weight.name, source=weight) for weight in weights)
    inner = layer.innermost
    if inner.children is None or group is None:
        return PlannedLayer(name=layer.name, weights=named)
    own = replace(inner, name=layer.name)
    alone = Template(group=group, architecture=own if given is None else None, replicas=None)
    like = None if given is None else replace(given, architecture=own, groups=None)
    inside = assign(alone, like=like, plain=False, order="any")
    return PlannedLayer(name=layer.name, weights=named, children=inside.layers)


def to_keras3(
    checkpoint: Checkpoint, *, like: Reference | None, plain: bool, submodel: str | None, weights_only: bool
) -> tuple[Plan, Translation]:
    """Settle what the model is, then write it for Keras 3.

    A single model is taken as it stands, also one that consists of models. Raises what `compose` raises but
    NothingToExtract, Undecided where no architecture is known or weights inside a model cannot be told apart,
    and InputRefused for what Keras 3 has not.
    """
    try:
        # These formats keep each layer's weights apart: no flags decide their order.
        plan = compose(
            checkpoint, like=like, plain=plain, submodel=submodel, weights_only=weights_only, order="any"
        )
    except (NothingToExtract, Undecided) as refusal:
        own = _own_architecture(checkpoint)
        if isinstance(refusal, Undecided) and (submodel is not None or not _is_whole(checkpoint, own, like)):
            raise
        plan = _as_it_stands(checkpoint, own, like, weights_only=weights_only)
    architecture = plan.architecture
    if architecture is None:
        raise Undecided(
            "today's formats need the architecture, and nothing given so far tells it",
            where=checkpoint.root,
            hint="give it with --like FILE: model.to_json() of the single model",
        )
    layers = tell_apart(
        _flat(checkpoint, plan), architecture, given=like if plan.settled_by == "reference" else None
    )
    translation = translate(architecture, layers, keras_version=plan.keras_version)
    if plan.training_config is not None:
        translation = add_training(
            translation,
            layers,
            training_config=plan.training_config,
            optimizer=[weight.source for weight in plan.optimizer] if plan.optimizer is not None else None,
            outputs=output_names(architecture),
        )
    return replace(plan, layers=layers, notes=(*plan.notes, *translation.notes)), translation


def _flat(checkpoint: Checkpoint, plan: Plan) -> Checkpoint:
    """See a plan's output as a file."""
    groups = (
        LayerGroup(name=layer.name, weights=tuple(weight.source for weight in layer.weights))
        for layer in plan.layers
    )
    return replace(checkpoint, layers=tuple(groups))


def _own_architecture(checkpoint: Checkpoint) -> Layer | None:
    """Read the architecture that a full file holds; None for a weights file."""
    if checkpoint.model_config is None:
        return None
    return named(parse_model(checkpoint.model_config, where=f"{checkpoint.root}, model_config"), checkpoint)


def _is_whole(checkpoint: Checkpoint, own: Layer | None, like: Reference | None) -> bool:
    """Tell whether an architecture describes all of the file, and no wrapper anywhere in it."""
    if own is not None:
        return all(layer.children is None or unwrap(layer) is None for layer in own.walk())
    if like is None or like.architecture is None:
        return False
    listed = [layer.name for layer in load_order(like.architecture)]
    return listed == [group.name for group in checkpoint.layers]


def _as_it_stands(
    checkpoint: Checkpoint, own: Layer | None, like: Reference | None, *, weights_only: bool
) -> Plan:
    """Plan a single model's own file."""
    architecture = own
    if own is None and like is not None:
        architecture = like.architecture
        _require_fit(checkpoint, like)
    whole = own is not None and not weights_only
    optimizer = checkpoint.optimizer
    return Plan(
        template=architecture.name if architecture is not None else "",
        replicas=None,
        settled_by="architecture" if own is not None else "reference",
        layers=tuple(
            PlannedLayer(name=group.name, weights=_planned_weights(group.weights))
            for group in checkpoint.layers
        ),
        backend=checkpoint.backend,
        keras_version=checkpoint.keras_version,
        training_config=checkpoint.training_config if whole else None,
        optimizer=lift_optimizer(optimizer) if whole and optimizer is not None else None,
        architecture=architecture,
        notes=("there was no wrapper: the single model is converted as it stands",),
    )


def _planned_weights(weights: Sequence[Weight]) -> tuple[PlannedWeight, ...]:
    return tuple(PlannedWeight(name=weight.name, source=weight) for weight in weights)


def _require_fit(checkpoint: Checkpoint, like: Reference) -> None:
    """Refuse a like-file of another model than the file holds."""
    loading = load_by_order(file_layers(checkpoint.layers), model_layers(like))
    if not loading.loads:
        raise Undecided(
            f"the like-file does not fit the checkpoint: {loading.first_complaint}",
            where=like.where,
            hint="make the like-file from the code of the very model that was saved",
        )
