"""The training configuration and the optimizer state of one model as those of another that trains the same weights."""

from __future__ import annotations

import json
from collections.abc import Sequence

from remap.architecture import Layer
from remap.checkpoint import Weight
from remap.conversion_plan import PlannedWeight
from remap.typed_json import Json, Value, read_json
from remap.weight_names import LONGEST_LIST, clean, list_size, uniquify

__all__ = ["lift_optimizer", "lift_training_config", "output_names"]

_BY_OUTPUT = ("loss", "loss_weights", "metrics", "weighted_metrics", "sample_weight_mode")


def lift_training_config(text: str, wrapper: Layer, template: Layer, *, where: str) -> str:
    """Key losses, weights and metrics by the template's outputs instead of the wrapper's.

    Merge layers were numbered on their own before Keras 2.1.2 (``concatenate_1``), and counted where outputs
    share a name. Raises InputRefused for text that is not JSON.
    """
    theirs, ours = output_names(wrapper), output_names(template)
    config = read_json(text, where=where).object()
    if theirs == ours or len(theirs) != len(ours):
        return text
    lifted = {
        key: _rekeyed(value, theirs, ours) if key in _BY_OUTPUT else value.json()
        for key, value in config.items()
    }
    return text if lifted == config.json() else json.dumps(lifted)


def lift_optimizer(weights: Sequence[Weight]) -> tuple[PlannedWeight, ...]:
    """Keep the optimizer's weights in order, under short names where Keras would have to split their list.

    Keras up to 2.3.1 and tf.keras up to 1.13 cannot read a split list back.
    """
    names = uniquify([clean(weight.name) for weight in weights])
    if list_size(names) > LONGEST_LIST:
        names = [f"w{index}" for index in range(len(names))]
    return tuple(PlannedWeight(name=name, source=weight) for name, weight in zip(names, weights, strict=True))


def output_names(model: Layer) -> list[str]:
    """Name a model's outputs as Keras does: after the layers they come from."""
    if model.sequential:
        return [layer.name for layer in model.children or ()][-1:]
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
