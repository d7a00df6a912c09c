"""What the caller says of the single model: a reference model, and the options of the conversion."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from remap.architecture import Layer, parse_model
from remap.assignment.expected import (
    ExpectedModel,
    expected_from_groups,
    expected_model,
    load_order,
    with_groups,
)
from remap.checkpoint import Checkpoint, LayerGroup
from remap.errors import GIVE_JSON, Undecided
from remap.inner_wrappers import on_templates
from remap.recognize import own_architecture, recognize, replicas_by_surroundings
from remap.typed_json import read_json
from remap.wrappers import unwrap

__all__ = ["Order", "Reference", "Request", "named_by", "reference_from_checkpoint", "reference_from_json"]

Order = Literal["reference", "saved", "any"]
"""Whose trainable flags the order inside nested models follows: those of the reference model, as far as one is given;
those of the checkpoint; or nobody's, for a format that does not depend on flags."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reference:
    """A description of the single model that does not come from the checkpoint.

    Attributes:
        where: The file, for messages.
        architecture: The config of the model; None if the file has none.
        groups: The layers of a Keras .h5 file; None if it is another kind of file. At least one of the two is there.
        ordered: Whether the layers are listed in the order of the Keras releases that wrote multi-GPU checkpoints.
        keras3: Whether Keras 3 wrote it, so that Keras 3 builds the model; None if that is not known.
    """

    where: str
    architecture: Layer | None = None
    groups: tuple[LayerGroup, ...] | None = None
    ordered: bool = True
    keras3: bool | None = False

    @property
    def expected(self) -> ExpectedModel:
        """Give the layers of the model, with all that is known of their weights."""
        if self.architecture is None:
            return expected_from_groups(self.groups or ())
        expected = expected_model(self.architecture)
        return (with_groups(expected, self.groups) if self.groups else None) or expected

    @property
    def layer_names(self) -> tuple[str, ...]:
        """List the layers in load order, weightless ones included."""
        if self.architecture is None:
            return tuple(group.name for group in self.groups or ())
        return tuple(layer.name for layer in load_order(self.architecture))


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What the caller wants of a conversion.

    Attributes:
        like: The reference model that the weights are to be loaded into.
        plain: Whether to assume that nothing was frozen and that the model has no nested model.
        submodel: Which of several models to extract.
        weights_only: Whether to leave architecture and training state out.
        order: Whose trainable flags the order inside nested models follows.
    """

    like: Reference | None = None
    plain: bool = False
    submodel: str | None = None
    weights_only: bool = False
    order: Order = "reference"


def reference_from_json(text: str, *, where: str) -> Reference:
    """Read a reference model from JSON: `model.to_json()` of any Keras, the `config.json` of a `.keras` archive.

    The JSON of a multi-GPU wrapper describes its template; that of a model with wrappers inside, the model built on
    their templates.

    Raises:
        InputRefused: If the text is not the JSON of a model.
    """
    model, _ = on_templates(parse_model(text, where=where))
    found = unwrap(model)
    # Keras 3 sorts branches by other rules. It writes `registered_name`, as tf_keras and the last releases of Keras 2 do.
    return Reference(
        where=where,
        architecture=found[0] if found else model,
        ordered='"registered_name"' not in text,
        keras3=_is_keras3(text, where),
    )


def _is_keras3(text: str, where: str) -> bool | None:
    """Tell whether Keras 3 wrote JSON: `to_json` of Keras 2 adds its version; `InputLayer` has another key in each."""
    if '"registered_name"' not in text or read_json(text, where=where).object().has("keras_version"):
        return False
    if '"batch_input_shape"' in text:
        return False
    return True if '"batch_shape"' in text else None


def reference_from_checkpoint(checkpoint: Checkpoint, *, where: str) -> Reference:
    """Read a reference model from a Keras .h5 file of the single model, with or without its architecture.

    Raises:
        Undecided: If the file is a multi-GPU wrapper without an architecture, or has no weights.
        InputRefused: If its architecture is damaged.
    """
    keras3 = (checkpoint.keras_version or "").startswith("3")
    found_in = recognize(checkpoint, own_architecture(checkpoint, where=where))
    groups, model = found_in.checkpoint.layers, found_in.model
    if model is None:
        if not checkpoint.weighted or replicas_by_surroundings(checkpoint) is not None:
            problem = "is a multi-GPU checkpoint itself" if checkpoint.weighted else "holds no weights"
            raise Undecided(
                f"the reference model {problem}, so it does not list the single model's layers",
                where=where,
                hint="write it with the code that builds the single model",
                remedies=(GIVE_JSON,),
            )
        return Reference(where=where, groups=groups, ordered=not keras3, keras3=keras3)
    found = unwrap(model)
    if found is not None:
        return Reference(where=where, architecture=found[0], ordered=not keras3, keras3=keras3)
    model = named_by(model, tuple(group.name for group in groups))
    return Reference(where=where, architecture=model, groups=groups, ordered=not keras3, keras3=keras3)


def named_by(model: Layer, names: tuple[str, ...]) -> Layer:
    """Name the layers of a Sequential whose config does not (Keras up to 2.2.2), if the other names are the same."""
    layers = tuple(load_order(model))
    if all(layer.name for layer in layers) or len(layers) != len(names):
        return model
    if any(layer.name not in ("", name) for layer, name in zip(layers, names, strict=True)):
        return model
    children = tuple(replace(layer, name=name) for layer, name in zip(layers, names, strict=True))
    return replace(model, children=children)
