"""What a like-file says of the single model: its architecture, or a flat file's list of layers."""

from __future__ import annotations

from dataclasses import dataclass, replace

from remap.architecture import Layer, parse_model
from remap.assignment.expected import (
    ExpectedModel,
    expected_from_groups,
    expected_model,
    load_order,
    with_groups,
)
from remap.checkpoint import Checkpoint, LayerGroup
from remap.errors import Undecided
from remap.recognize import replicas_by_surroundings, unwrap

__all__ = ["Reference", "named_by", "reference_from_checkpoint", "reference_from_json"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Reference:
    """A description of the single model that came from outside the checkpoint.

    `groups` are the layers of a flat file, `architecture` is the model's config; one of them is there.
    `ordered` says that layers are listed as the Kerases that wrote multi-GPU checkpoints list them.
    """

    where: str
    architecture: Layer | None = None
    groups: tuple[LayerGroup, ...] | None = None
    ordered: bool = True

    @property
    def outline(self) -> ExpectedModel:
        """Outline the model, with all that is known of it."""
        if self.architecture is None:
            return expected_from_groups(self.groups or ())
        outline = expected_model(self.architecture)
        return (with_groups(outline, self.groups) if self.groups else None) or outline

    @property
    def layer_names(self) -> tuple[str, ...]:
        """List the layers in load order, weightless ones included."""
        if self.architecture is None:
            return tuple(group.name for group in self.groups or ())
        return tuple(layer.name for layer in load_order(self.architecture))


def reference_from_json(text: str, *, where: str) -> Reference:
    """Take a model's JSON: `model.to_json()` of any Keras, the `config.json` of a `.keras` archive.

    The JSON of a wrapper counts for the model in it. Raises InputRefused for anything else.
    """
    model = parse_model(text, where=where)
    found = unwrap(model)
    # Keras 3 sorts branches by rules of its own; it alone writes `registered_name`.
    return Reference(
        where=where, architecture=found[0] if found else model, ordered='"registered_name"' not in text
    )


def reference_from_checkpoint(checkpoint: Checkpoint, *, where: str) -> Reference:
    """Take a Keras .h5 of the single model, with or without its architecture.

    Raises Undecided for a file that is itself a wrapper without architecture, InputRefused for a broken
    architecture.
    """
    ordered = not (checkpoint.keras_version or "").startswith("3")
    groups = checkpoint.layers
    if checkpoint.model_config is None:
        if not checkpoint.weighted or replicas_by_surroundings(checkpoint) is not None:
            fault = "is a multi-GPU checkpoint itself" if checkpoint.weighted else "holds no weights"
            raise Undecided(
                f"the like-file {fault}, so it does not list the single model's layers",
                where=where,
                hint="make it with model.save_weights('like.h5') from the code of the single model",
            )
        return Reference(where=where, groups=groups, ordered=ordered)
    model = parse_model(checkpoint.model_config, where=f"{where}, model_config")
    found = unwrap(model)
    if found is not None:
        return Reference(where=where, architecture=found[0], ordered=ordered)
    model = named_by(model, tuple(group.name for group in groups))
    return Reference(where=where, architecture=model, groups=groups, ordered=ordered)


def named_by(model: Layer, names: tuple[str, ...]) -> Layer:
    """Name the layers of a stack whose config does not (Keras up to 2.2.2), where the names fit the rest."""
    layers = tuple(load_order(model))
    if all(layer.name for layer in layers) or len(layers) != len(names):
        return model
    if any(layer.name not in ("", name) for layer, name in zip(layers, names, strict=True)):
        return model
    children = tuple(replace(layer, name=name) for layer, name in zip(layers, names, strict=True))
    return replace(model, children=children)
