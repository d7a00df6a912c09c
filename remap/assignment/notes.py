"""What an assignment assumed, changed, or found out of trainable flags, in words."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from remap.assignment.decide import Choice
from remap.assignment.expected import ExpectedLayer, ExpectedModel, ExpectedSubmodel, iter_layers
from remap.assignment.reading import Lists, Reading, lists, without_repeats
from remap.checkpoint import Weight
from remap.weight_names import layer_scope

__all__ = [
    "assumption_notes",
    "flag_notes",
    "flagged",
    "frozen_parts",
    "name_notes",
    "reordered_notes",
    "whole_model_notes",
]


def assumption_notes(choice: Choice, expected: ExpectedModel) -> Iterator[str]:
    """Tell what chose among several readings."""
    if choice.basis == "names":
        yield "positions and shapes allow several orders; the names of the weights settled it"
    elif choice.basis == "flags":
        yield "assumed, not verified: the trainable flags of the reference model are those of the checkpoint"
    elif choice.basis == "custom":
        custom = ", ".join(layer.path[-1] for layer in iter_layers(expected) if layer.custom)
        yield f"assumed, not verified: each custom layer ({custom}) owns the weights with a common scope"


def flagged(expected: ExpectedModel, reading: Reading) -> Iterator[str]:
    """List the nested models whose order in their groups depends on trainable flags."""
    numbers = iter(range(len(reading.spans)))
    for part in expected:
        layers = list(iter_layers((part,)))
        spans = tuple(reading.spans[next(numbers)] for _ in layers)
        if not isinstance(part, ExpectedSubmodel):
            continue
        saved = Reading(spans=spans, frozen=reading.frozen)
        if lists((part,), saved)[0] != _unfrozen_list(layers, saved):
            yield part.path[-1]


def _unfrozen_list(layers: Sequence[ExpectedLayer], reading: Reading) -> tuple[int, ...]:
    """List the weights of a nested model as if nothing inside it were frozen."""
    upper: list[int] = []
    lower: list[int] = []
    for layer, span in zip(layers, reading.spans, strict=True):
        owned = span.indices
        count = span.length if layer.custom else layer.trainable
        upper += owned[:count]
        lower += owned[count:]
    return without_repeats((*upper, *lower))


def flag_notes(names: Sequence[str]) -> Iterator[str]:
    """Note the nested models that are in the saved order, which depends on flags."""
    for name in names:
        yield (
            f"the nested model {name!r} had frozen layers when it was saved; its group is in that order: "
            "load it into a model with the same trainable flags, or give the model to load into as the reference model"
        )


def reordered_notes(names: Sequence[str]) -> Iterator[str]:
    """Note the nested models that are in the order of the reference model."""
    for name in names:
        yield (
            f"the nested model {name!r} has other trainable flags in the reference model than in the checkpoint; "
            "its group is in the order that the reference model loads, not in the saved order"
        )


def whole_model_notes(
    expected: ExpectedModel, reading: Reading, saved: Lists, listed: Lists
) -> Iterator[str]:
    """Note the nested models whose own flag changed the order: JSON of old Keras does not have it."""
    for part, ours, theirs in zip(expected, saved, listed, strict=True):
        inside = ["/".join(path) for path in sorted(reading.frozen) if path[: len(part.path)] == part.path]
        if ours != theirs and inside:
            yield (
                f"{', '.join(inside)} was frozen as a whole when it was saved, which the config of a model does not "
                "tell: if the code to load into freezes it too, the saved order is the right one"
            )


def name_notes(weights: Sequence[Weight], expected: ExpectedModel, reading: Reading) -> Iterator[str]:
    """Note how many weights have another name than the layer that owns them."""
    others = [
        weights[index].name
        for layer, span in zip(iter_layers(expected), reading.spans, strict=True)
        for index in span.indices
        if layer.path[-1] not in layer_scope(weights[index].name)
    ]
    if others:
        yield f"{len(others)} weights were placed by their position: names such as {others[0]} do not tell the layer"


def frozen_parts(expected: ExpectedModel, reading: Reading) -> Iterator[str]:
    """List what the checkpoint shows to be frozen: nested models as a whole, and layers outside them."""
    yield from ("/".join(path) for path in sorted(reading.frozen))
    for layer, span in zip(iter_layers(expected), reading.spans, strict=True):
        inside = any(layer.path[: len(path)] == path for path in reading.frozen)
        if layer.trainable and span.others and not span.length and not inside and not layer.custom:
            yield "/".join(layer.path)
