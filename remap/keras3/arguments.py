"""The arguments of a layer of a declared class, translated for Keras 3."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from remap.errors import RemapError, Undecided
from remap.keras.config import Layer
from remap.keras.values import Json
from remap.keras3.built import describe, refuse
from remap.keras3.objects import by_argument
from remap.layers.declaration import ANYTHING, Keras3

__all__ = ["Arguments", "translate_arguments"]

# What every layer may hold beside its own arguments, handled elsewhere or of no use to Keras 3.
_COMMON = frozenset({"name", "trainable", "dtype", "batch_input_shape", "activity_regularizer", "autocast"})
_REGULARIZER = "activity_regularizer"


@dataclass(frozen=True, slots=True)
class Arguments:
    """What Keras 3 is given, what is to be said of it, and why it may not be given."""

    values: dict[str, Json]
    notes: tuple[str, ...]
    problems: tuple[RemapError, ...]


def translate_arguments(layer: Layer, target: Keras3) -> Arguments:
    """Translate the arguments by the class's declaration."""
    config = layer.config
    keeps = target.keeps.split()
    values: dict[str, Json] = {}
    for key, value in config.items():
        if key in keeps or key in target.renamed:
            values[target.renamed.get(key, key)] = by_argument(key, value)
    if config.given(_REGULARIZER):
        values[_REGULARIZER] = by_argument(_REGULARIZER, config.value(_REGULARIZER))
    values = {**target.missing, **values, **target.fixed}
    for key in target.single & values.keys():
        if isinstance(values[key], list) and len(values[key]) == 1:
            values[key] = values[key][0]
    if "seed" in values and not isinstance(values["seed"], int):
        values["seed"] = None
    unsaid = (note for key, note in target.unsaid.items() if not config.has(key))
    return Arguments(
        values,
        notes=tuple(f"{describe(layer)}: {note}" for note in unsaid),
        problems=tuple(_problems(layer, target)),
    )


def _problems(layer: Layer, target: Keras3) -> Iterator[RemapError]:
    """Find arguments that are not known, and values that mean something else in Keras 3 or that it does not take."""
    known = {*target.keeps.split(), *target.renamed, *target.dropped, *_COMMON}
    for key, value in layer.config.items():
        allowed = target.dropped.get(key, ANYTHING)
        limit = target.limits.get(key)
        if key not in known:
            yield refuse(layer, f"an argument {key!r} that h5remap does not know of this class")
        elif allowed is not ANYTHING and not value.is_one_of(allowed):
            yield refuse(layer, f"{key}={value.json()!r}, which {target.name} of Keras 3 does not have")
        elif limit is not None and not limit.allows(value):
            what = f"{key}={value.plain()!r}: {limit.why}"
            hint = "convert to .weights.h5 instead"
            yield Undecided(what, where=describe(layer), hint=hint) if limit.unsure else refuse(layer, what)
