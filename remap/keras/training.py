"""The training state of a wrapper, made the template's own.

A wrapper trains the template's weights in the template's order, so optimizer slots carry over as they are.
What is keyed by the names of outputs has to be keyed anew where the wrapper called them otherwise.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

from remap.keras.checkpoint import Weight
from remap.keras.config import Layer
from remap.keras.naming import clean, uniquify
from remap.keras.outline import load_order
from remap.keras.plan import PlannedWeight
from remap.keras.values import Json, Value, read_json

__all__ = ["lift_optimizer", "lift_training_config", "output_names"]

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
