"""All declarations of layer classes, by name; a class that is not here is the user's own, and unknown."""

from __future__ import annotations

import re
from collections.abc import Mapping
from itertools import chain

from remap.layers import (
    attention,
    convolution,
    core,
    merging,
    normalization,
    pooling,
    recurrent,
    removed,
    wrappers,
)
from remap.layers.declaration import LayerClass

__all__ = ["CATALOGUE", "FUNCTIONAL", "NEVER_TRAINED", "SEQUENTIAL", "is_automatic_name", "is_model_class"]

_FAMILIES = (
    attention,
    convolution,
    core,
    merging,
    normalization,
    pooling,
    recurrent,
    removed,
    wrappers,
)
FUNCTIONAL = "Functional"
SEQUENTIAL = "Sequential"
_MODELS = frozenset({FUNCTIONAL, SEQUENTIAL, "Model"})

CATALOGUE: Mapping[str, LayerClass] = {
    declared.name: declared for declared in chain.from_iterable(family.LAYERS for family in _FAMILIES)
}
NEVER_TRAINED: frozenset[str] = frozenset().union(
    *(declared.never_trained for declared in CATALOGUE.values())
)
"""Leaves of which Keras never makes a trainable weight."""

_NAMES = "|".join(
    sorted(
        re.escape(name)
        for declared in CATALOGUE.values()
        if declared.told_by_name
        for name in declared.automatic_names
    )
)
_AUTOMATIC = re.compile(rf"({_NAMES})(_\d+)*")


def is_automatic_name(name: str) -> bool:
    """Tell whether Keras gave a name to a layer of a class whose name says what it is."""
    return _AUTOMATIC.fullmatch(name) is not None


def is_model_class(class_name: str) -> bool:
    """Tell whether a class is one of Keras's models: a container, no layer."""
    return class_name in _MODELS
