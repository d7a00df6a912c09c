"""The order in which a reference model's `load_weights` expects the weights of nested models.

The group of a nested model in a flat file is one list: trainable weights, then all others, in layer order. Its order
depends on the trainable flags of the model that *loads* it, and where shapes are equal no Keras notices another order. So
the weights, which the checkpoint has in the order of its own flags, are listed in the order of the reference model's flags:
by the names of its weights if it is a file, by its config if it is JSON.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from remap.assignment.decide import Choice, decide, decide_by_reference, decide_or_once
from remap.assignment.expected import ExpectedLayer, ExpectedModel, ExpectedSubmodel, iter_layers
from remap.assignment.flag_order import ITS_WEIGHTS, certainly_trainable, list_by_flags
from remap.assignment.named_lists import listed_by_name
from remap.assignment.reading import Lists, Reading, Span
from remap.assignment.reference import Reference
from remap.assignment.same_model import (
    SAME_CODE,
    Placed,
    another_model,
    matched_layers,
    paired_groups,
    placed,
)
from remap.checkpoint import LayerGroup, Weight
from remap.errors import GIVE_JSON, GIVE_WEIGHTS, Undecided

__all__ = ["reference_lists"]


def reference_lists(
    weights: Sequence[Weight], expected: ExpectedModel, reading: Reading, like: Reference, *, own: bool
) -> Lists:
    """List the weights of each part of an expected model as the reference model's `load_weights` expects them.

    Args:
        weights: The checkpoint's list.
        expected: The layers by which the list was read.
        reading: Which weights each layer owns.
        like: The reference model.
        own: Whether the expected model's flags are the checkpoint's own, and not the reference model's.

    Returns:
        For each part of the expected model the indices of its weights.

    Raises:
        Undecided: If the reference model does not tell the order, or is another model.
    """
    parts = placed(expected, reading)
    if like.groups is not None:
        return _lists_by_groups(weights, parts, like)
    theirs = matched_layers(expected, like)
    trained = certainly_trainable(expected, reading) if own else frozenset()
    return tuple(
        list_by_flags(part, owned, theirs, like, trained)
        if isinstance(part, ExpectedSubmodel)
        else owned[0].indices
        for part, owned in parts
    )


def _lists_by_groups(weights: Sequence[Weight], parts: Placed, like: Reference) -> Lists:
    """Follow the groups of a file: by the names of weights, else by reading each group as a list of the nested model."""
    weighted = [(part, owned) for part, owned in parts if any(span.indices for span in owned)]
    groups = paired_groups([part.path[-1] for part, _ in weighted], like)
    named = listed_by_name(weights, groups)
    matched = None
    if named is None and like.architecture is not None:
        matched = matched_layers(tuple(part for part, _ in parts), like)
    found = {}
    for number, ((part, owned), group) in enumerate(zip(weighted, groups, strict=True)):
        own = [index for span in owned for index in span.indices]
        if named is not None and set(named.lists[number]) != set(own):
            raise Undecided(
                f"the weights that the reference model calls those of {group.name!r} are another layer's in the checkpoint",
                where=like.where,
                hint=SAME_CODE,
            )
        if isinstance(part, ExpectedLayer):
            listed = tuple(own)
        elif named is not None:
            listed = named.lists[number]
        else:
            listed = _listed_as_read(part, owned, group, like, matched)
        if [weights[index].shape for index in listed] != [weight.shape for weight in group.weights]:
            raise another_model(like)
        found[part.path] = listed
    return tuple(found.get(part.path, ()) for part, _ in parts)


def _listed_as_read(
    part: ExpectedSubmodel,
    owned: Sequence[Span],
    group: LayerGroup,
    like: Reference,
    matched: Mapping[tuple[str, ...], ExpectedLayer | ExpectedSubmodel] | None,
) -> tuple[int, ...]:
    """Read a group of the file by the flags of the model that it was saved from, or by none if they are not known."""
    layers = list(iter_layers(part.children))
    theirs = part if matched is None else matched[part.path]
    if matched is not None and isinstance(theirs, ExpectedSubmodel):
        expected = _as_listed(theirs, like)
        _, choice = decide_or_once(expected, lambda model: decide(group.weights, model, inside=True))
    elif any(layer.same_as is not None for layer in layers):
        choice = Choice()  # in which of its places the layer is listed is not known
    else:
        choice = decide_by_reference(
            group.weights, part.children, flags=False, ordered=like.ordered, inside=True
        )
    if choice.reading is None:
        raise Undecided(
            f"the reference model does not tell in which order it loads the nested model {part.path[-1]!r}",
            where=like.where,
            hint=ITS_WEIGHTS + ", written in a session that has built nothing before",
            remedies=(GIVE_JSON, GIVE_WEIGHTS),
        )
    read = {
        layer.path: span.indices
        for layer, span in zip(iter_layers((theirs,)), choice.reading.spans, strict=True)
    }
    at: dict[int, int] = {}
    for layer, span in zip(layers, owned, strict=True):
        places = read.get(layer.path if matched is None else matched[layer.path].path, ())
        if len(span.indices) != len(places):
            raise another_model(like)
        at.update(zip(places, span.indices, strict=True))
    if at.keys() != set(range(len(group.weights))):
        raise another_model(like)
    return tuple(at[index] for index in range(len(group.weights)))


def _as_listed(nest: ExpectedSubmodel, like: Reference) -> ExpectedModel:
    """Give the layers of a nested model with the flags by which its group is listed."""
    return nest.children if not like.keras3 or nest.trainable else _all_frozen(nest.children)


def _all_frozen(expected: ExpectedModel) -> ExpectedModel:
    return tuple(
        replace(part, children=_all_frozen(part.children))
        if isinstance(part, ExpectedSubmodel)
        else replace(part, splits=(0,))
        for part in expected
    )
