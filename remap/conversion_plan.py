"""What a conversion writes, decided before a byte is written."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from remap.architecture import Layer
from remap.checkpoint import Weight

__all__ = ["Plan", "PlannedLayer", "PlannedWeight", "SettledBy"]

SettledBy = Literal["architecture", "reference", "names"]
"""What settled the layers: the file's own architecture, the reference model, or names and shapes alone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedWeight:
    """A tensor of the output: its name there, and the tensor of the input that is copied."""

    name: str
    source: Weight


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedLayer:
    """A layer of the output.

    Attributes:
        name: Its name.
        weights: Its weights in the order in which Keras loads them.
        children: The layers inside a nested model that have weights, if the architecture is known; their weights are those
            of the nested model again, each with its own layer.
    """

    name: str
    weights: tuple[PlannedWeight, ...]
    children: tuple[PlannedLayer, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """The whole output, in order.

    Attributes:
        template: The name of the extracted model.
        replicas: How often the wrapper calls it; None if the file does not tell.
        settled_by: What settled the layers: ``architecture``, ``reference`` or ``names``.
        layers: The layers in order.
        backend: The backend that the output names.
        keras_version: The release of Keras that the output names.
        file_backend: The same on the root of a full-model file.
        file_keras_version: The same on the root of a full-model file.
        model_config: The architecture as JSON; None for a weights file, whose layers lie at its root.
        training_config: The training configuration as JSON; None if there is none.
        optimizer: The state of the optimizer; None if there is none.
        architecture: The description of the extracted model; None if none is known.
        notes: What was assumed, changed, or not needed.
        frozen: The layers and nested models that were frozen when the checkpoint was saved, as paths, as far as the order
            of its weights shows it.
        flags: Whose trainable flags the order inside nested models follows: ``saved`` or ``reference``.
        left_behind: What of the input is not in the output, and why.
        extension: How the name of the output ends: the format.
        custom_objects: The names under which `load_model` must be given functions and classes.
    """

    template: str
    replicas: int | None
    settled_by: SettledBy
    layers: tuple[PlannedLayer, ...] = field(repr=False)
    backend: str | None
    keras_version: str | None
    file_backend: str | None = None
    file_keras_version: str | None = None
    model_config: str | None = field(default=None, repr=False)
    training_config: str | None = field(default=None, repr=False)
    optimizer: tuple[PlannedWeight, ...] | None = field(default=None, repr=False)
    architecture: Layer | None = field(default=None, repr=False)
    notes: tuple[str, ...] = field(default=(), repr=False)
    frozen: tuple[str, ...] = field(default=(), repr=False)
    flags: str = "saved"
    left_behind: tuple[str, ...] = field(default=(), repr=False)
    custom_objects: tuple[str, ...] = field(default=(), repr=False)
    extension: str = ".h5"
