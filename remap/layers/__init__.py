"""The catalogue of built-in layer classes; a class that is not in it is a custom class."""

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
"""Leaf names of weights that Keras never trains."""

_NAMES = "|".join(
    sorted(
        re.escape(name)
        for declared in CATALOGUE.values()
        if declared.identified_by_name
        for name in declared.automatic_names
    )
)
_AUTOMATIC = re.compile(rf"({_NAMES})(_\d+)*")


def is_automatic_name(name: str) -> bool:
    """Tell whether a name is an automatic one of a class that is identified by it."""
    return _AUTOMATIC.fullmatch(name) is not None


def is_model_class(class_name: str) -> bool:
    """Tell whether a class is one of Keras's model classes."""
    return class_name in _MODELS
