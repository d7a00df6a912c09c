"""Find for each layer of the checkpoint's model the same layer of a reference model, or refuse another model.

Trainable flags may differ: they tell the order of a nested model's weights, not which model it is.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator, Sequence

from remap.assignment.expected import ExpectedLayer, ExpectedModel, ExpectedSubmodel, iter_layers
from remap.assignment.reading import Reading, Span, without_repeats
from remap.assignment.reference import Reference
from remap.checkpoint import LayerGroup, Weight
from remap.errors import Undecided
from remap.weight_names import same_but_for_numbers

__all__ = [
    "SAME_CODE",
    "Placed",
    "another_model",
    "matched_layers",
    "paired_groups",
    "placed",
    "require_same_model",
]

SAME_CODE = "make the reference model with the code that built the trained model"

Placed = list[tuple[ExpectedLayer | ExpectedSubmodel, list[Span]]]


def require_same_model(
    weights: Sequence[Weight], expected: ExpectedModel, reading: Reading, like: Reference
) -> None:
    """Refuse a reference model that is another model than the checkpoint's, whatever its trainable flags are.

    Args:
        weights: The checkpoint's list.
        expected: The layers by which the list was read.
        reading: Which weights each layer owns.
        like: The reference model.

    Raises:
        Undecided: If it has other layers, or layers with other weights.
    """
    if like.groups is not None:
        listed = [
            (part.path[-1], without_repeats(index for span in owned for index in span.indices))
            for part, owned in placed(expected, reading)
        ]
        listed = [(name, indices) for name, indices in listed if indices]
        groups = paired_groups([name for name, _ in listed], like)
        for (_, indices), group in zip(listed, groups, strict=True):
            if Counter(weights[index].shape for index in indices) != Counter(
                weight.shape for weight in group.weights
            ):
                raise another_model(like)
        return
    if not like.ordered and dict(_walked(expected)).keys() != dict(_walked(like.expected)).keys():
        return  # layers with other names in another order cannot be compared
    theirs = matched_layers(expected, like)
    for layer, span in zip(iter_layers(expected), reading.spans, strict=True):
        other = theirs[layer.path]
        if layer.same_as is None and isinstance(other, ExpectedLayer) and not other.custom:
            shapes = [weights[index].shape for index in span.indices]
            if len(shapes) != len(other.slots) or not all(
                slot.fits(shape) for slot, shape in zip(other.slots, shapes, strict=True)
            ):
                raise another_model(like)


def placed(expected: ExpectedModel, reading: Reading) -> Placed:
    """Give the spans of each part of an expected model: one for each of its layers."""
    spans = iter(reading.spans)
    return [(part, [next(spans) for _ in iter_layers((part,))]) for part in expected]


def paired_groups(names: Sequence[str], like: Reference) -> list[LayerGroup]:
    """Find the group of each layer in the reference file: by name if all names are the same, else by position."""
    groups = {group.name: group for group in like.groups or () if group.weights}
    if groups.keys() == set(names):
        return [groups[name] for name in names]
    pairs = list(zip(names, groups, strict=False))
    crossed = any(ours != theirs and ours in groups for ours, theirs in pairs)
    if len(groups) != len(names) or (crossed and not same_but_for_numbers(pairs)):
        raise another_model(like)
    return list(groups.values())


def matched_layers(
    expected: ExpectedModel, like: Reference
) -> dict[tuple[str, ...], ExpectedLayer | ExpectedSubmodel]:
    """Find for each expected layer the same layer of the reference model: by name, else by position."""
    ours, theirs = dict(_walked(expected)), dict(_walked(like.expected))
    if ours.keys() == theirs.keys():
        pairs = [(part, theirs[path]) for path, part in ours.items()]
    else:
        pairs = list(zip(ours.values(), theirs.values(), strict=False)) if like.ordered else []
        if len(pairs) != len(ours) or len(pairs) != len(theirs):
            raise another_model(like)
    if not all(itertools.starmap(_alike, pairs)):
        raise another_model(like)
    return {part.path: other for part, other in pairs}


def _walked(expected: ExpectedModel) -> Iterator[tuple[tuple[str, ...], ExpectedLayer | ExpectedSubmodel]]:
    for part in expected:
        yield part.path, part
        if isinstance(part, ExpectedSubmodel):
            yield from _walked(part.children)


def _alike(ours: ExpectedLayer | ExpectedSubmodel, theirs: ExpectedLayer | ExpectedSubmodel) -> bool:
    if isinstance(ours, ExpectedSubmodel) or isinstance(theirs, ExpectedSubmodel):
        return (
            isinstance(ours, ExpectedSubmodel)
            and isinstance(theirs, ExpectedSubmodel)
            and len(ours.children) == len(theirs.children)
        )
    if ours.custom or theirs.custom or ours.same_as is not None:
        return True
    return [slot.leaf for slot in ours.slots] == [slot.leaf for slot in theirs.slots]


def another_model(like: Reference) -> Undecided:
    """Describe that the reference model is another model."""
    return Undecided(
        "the reference model is another model than the checkpoint's: its layers have other weights",
        where=like.where,
        hint=SAME_CODE,
    )
