"""What a conversion will write, settled before a byte is written."""

from __future__ import annotations

from dataclasses import dataclass

from remap.keras.checkpoint import Weight

__all__ = ["Plan", "PlannedLayer", "PlannedWeight"]


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedWeight:
    """A tensor of the output: its name there and the tensor of the input that it is."""

    name: str
    source: Weight


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedLayer:
    """A layer of the output with its weights in the order Keras loads them."""

    name: str
    weights: tuple[PlannedWeight, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """The whole output, in order.

    `template` is the name of the extracted model, `replicas` how often the wrapper calls it (None when the
    file does not tell). `rung` says what settled the layers: ``config``, ``like`` or ``names``. `notes` are
    the things taken on trust or changed, `left_behind` what of the input is not in the output and why.
    With `model_config` None the output is a weights file: `layers` then lie at its root.
    """

    template: str
    replicas: int | None
    rung: str
    layers: tuple[PlannedLayer, ...]
    backend: str | None
    keras_version: str | None
    file_backend: str | None = None
    file_keras_version: str | None = None
    model_config: str | None = None
    training_config: str | None = None
    optimizer: tuple[PlannedWeight, ...] | None = None
    notes: tuple[str, ...] = ()
    left_behind: tuple[str, ...] = ()
