"""From a checkpoint, replicated or single, to what today's Keras shall read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from remap.errors import NothingToExtract, Undecided
from remap.keras.checkpoint import Checkpoint, LayerGroup, Weight
from remap.keras.compose import compose
from remap.keras.config import Layer, parse_model
from remap.keras.like import Like
from remap.keras.loading import expected_layers, load_by_order, saved_layers
from remap.keras.outline import load_order
from remap.keras.plan import Plan, PlannedLayer, PlannedWeight
from remap.keras.training import lift_optimizer, output_names
from remap.keras.wrapper import unwrap
from remap.keras3.flat import named, tell_apart
from remap.keras3.training import add_training
from remap.keras3.translation import Translation, translate

__all__ = ["modernise"]


def modernise(
    checkpoint: Checkpoint, *, like: Like | None, plain: bool, submodel: str | None, weights_only: bool
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
    layers = tell_apart(_flat(checkpoint, plan), architecture, given=like if plan.rung == "like" else None)
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


def _is_whole(checkpoint: Checkpoint, own: Layer | None, like: Like | None) -> bool:
    """Tell whether an architecture describes all of the file, and no wrapper anywhere in it."""
    if own is not None:
        return all(layer.children is None or unwrap(layer) is None for layer in own.walk())
    if like is None or like.architecture is None:
        return False
    listed = [layer.name for layer in load_order(like.architecture)]
    return listed == [group.name for group in checkpoint.layers]


def _as_it_stands(
    checkpoint: Checkpoint, own: Layer | None, like: Like | None, *, weights_only: bool
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
        rung="config" if own is not None else "like",
        layers=tuple(
            PlannedLayer(name=group.name, weights=_planned(group.weights)) for group in checkpoint.layers
        ),
        backend=checkpoint.backend,
        keras_version=checkpoint.keras_version,
        training_config=checkpoint.training_config if whole else None,
        optimizer=lift_optimizer(optimizer) if whole and optimizer is not None else None,
        architecture=architecture,
        notes=("there was no wrapper: the single model is converted as it stands",),
    )


def _planned(weights: Sequence[Weight]) -> tuple[PlannedWeight, ...]:
    return tuple(PlannedWeight(name=weight.name, source=weight) for weight in weights)


def _require_fit(checkpoint: Checkpoint, like: Like) -> None:
    """Refuse a like-file of another model than the file holds."""
    loading = load_by_order(saved_layers(checkpoint.layers), expected_layers(like))
    if not loading.loads:
        raise Undecided(
            f"the like-file does not fit the checkpoint: {loading.first_complaint}",
            where=like.where,
            hint="make the like-file from the code of the very model that was saved",
        )
