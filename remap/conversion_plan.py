"""What a conversion will write, settled before a byte is written."""

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
    """A tensor of the output: its name there and the tensor of the input that it is."""

    name: str
    source: Weight


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedLayer:
    """A layer of the output with its weights in the order Keras loads them.

    `children` are the layers inside a nested model, in load order, as far as the architecture is known; their
    weights are those of the nested model again, each told apart.
    """

    name: str
    weights: tuple[PlannedWeight, ...]
    children: tuple[PlannedLayer, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """The whole output, in order.

    `template` is the name of the extracted model, `replicas` how often the wrapper calls it (None when the
    file does not tell). `settled_by` says what settled the layers: ``architecture``, ``reference`` or ``names``. `notes` are
    the things taken on trust or changed, `left_behind` what of the input is not in the output and why.
    `frozen` lists the layers and nested models that were frozen when the checkpoint was saved, as paths, as far as the
    order of its weights shows; `flags` says whose trainable flags the order inside nested models follows: ``saved`` or
    ``reference``.
    `architecture` is the extracted model's own description where one is known.
    With `model_config` None the output is a weights file: `layers` then lie at its root.
    """

    template: str
    replicas: int | None
    settled_by: SettledBy
    layers: tuple[PlannedLayer, ...]
    backend: str | None
    keras_version: str | None
    file_backend: str | None = None
    file_keras_version: str | None = None
    model_config: str | None = None
    training_config: str | None = None
    optimizer: tuple[PlannedWeight, ...] | None = None
    architecture: Layer | None = field(default=None, repr=False)
    notes: tuple[str, ...] = ()
    frozen: tuple[str, ...] = ()
    flags: str = "saved"
    left_behind: tuple[str, ...] = ()
