"""List the weights of a nested model by the trainable flags in a reference model's config.

Keras up to 2.3, tf.keras and tf_keras list a model as `Network.trainable_weights` and `non_trainable_weights` say
(keras/engine/network.py), and rebuild a model from JSON without the flag of a nested model itself. Keras 3 asks each
variable whether it trains, and lists a model that is frozen as a whole layer by layer (`Layer.weights` in
keras/src/layers/layer.py, `_legacy_weights` in keras/src/legacy/saving/legacy_h5_format.py).
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from math import prod

from remap.assignment.expected import ExpectedLayer, ExpectedModel, ExpectedSubmodel, iter_layers
from remap.assignment.reading import Reading, Span, without_repeats
from remap.assignment.reference import Reference
from remap.assignment.same_model import another_model
from remap.errors import GIVE_WEIGHTS, Undecided

__all__ = ["ITS_WEIGHTS", "certainly_trainable", "list_by_flags"]

# More combinations of flags that the config leaves open are not tried.
_MOST_COMBINATIONS = 256

ITS_WEIGHTS = "give a weights file of the model to load into"

_Sides = tuple[tuple[int, ...], tuple[int, ...]]
"""The trainable weights of a layer and the others, as indices into the checkpoint's list."""


def certainly_trainable(expected: ExpectedModel, reading: Reading) -> frozenset[tuple[str, ...]]:
    """Find the custom layers all of whose weights that were read as trainable certainly are.

    A layer that certainly has trainable weights has to follow in the same list: if none does, the last of the weights may
    as well be the first of those that are not trainable.
    """
    placed = [
        (layer, span, _list_of(layer.path, reading))
        for layer, span in zip(iter_layers(expected), reading.spans, strict=True)
    ]
    last: dict[tuple[str, ...], int] = {}
    for layer, span, listed_in in placed:
        if not layer.custom and min(layer.splits):
            last[listed_in] = max(last.get(listed_in, -1), span.start)
    return frozenset(
        layer.path
        for layer, span, listed_in in placed
        if layer.custom and layer.splits[0] and not span.others and span.start < last.get(listed_in, -1)
    )


def _list_of(path: tuple[str, ...], reading: Reading) -> tuple[str, ...]:
    """Give the innermost frozen model around a layer, whose list its weights are in."""
    ends = range(len(path), 0, -1)
    return next((path[:end] for end in ends if path[:end] in reading.frozen), ())


def list_by_flags(
    part: ExpectedSubmodel,
    owned: Sequence[Span],
    theirs: Mapping[tuple[str, ...], ExpectedLayer | ExpectedSubmodel],
    like: Reference,
    trained: frozenset[tuple[str, ...]],
) -> tuple[int, ...]:
    """List the weights of a nested model by the flags of the reference model's config."""
    layers = list(iter_layers((part,)))
    choices = [
        _counts(layer, theirs[layer.path], span, known=layer.path in trained)
        for layer, span in zip(layers, owned, strict=True)
    ]
    if prod(map(len, choices)) > _MOST_COMBINATIONS:
        raise _unknown_flags(part, like)
    # A reference model may list the same layers in another order: Keras 3 sorts branches by rules of its own.
    submodel = theirs[part.path]
    place = {theirs[layer.path].path: number for number, layer in enumerate(layers)}
    turn = [place[layer.path] for layer in iter_layers((submodel,))]
    if len(turn) != len(layers):
        raise another_model(like)
    lists = set()
    for counts in itertools.product(*choices):
        for whole in _whole_models(submodel, like):
            sides = [
                (span.indices[:count], span.indices[count:])
                for span, count in zip(owned, counts, strict=True)
            ]
            lists.add(whole(submodel, iter([sides[number] for number in turn])))
    if len(lists) != 1:
        raise _unknown_flags(part, like)
    return lists.pop()


def _counts(
    layer: ExpectedLayer, theirs: ExpectedLayer | ExpectedSubmodel, span: Span, *, known: bool
) -> tuple[int, ...]:
    """Give how many weights of a layer are trainable in the reference model; several if its config does not tell."""
    if not isinstance(theirs, ExpectedLayer):
        return (0,)
    count = len(span.indices)
    if layer.custom:
        if not theirs.splits[0]:
            return (0,)
        # If its weights stand in one piece, the trainable part may end anywhere in it.
        apart = span.length > 0 and span.others > 0 and span.other != span.start + span.length
        return (span.length,) if apart or known or not count else tuple(range(count + 1))
    splits = tuple(dict.fromkeys(min(split, count) for split in theirs.splits))
    # A wrapper and its inner layer may have different flags; the checkpoint shows which one counts in its Keras.
    return (span.length,) if span.length in splits else splits


def _unknown_flags(part: ExpectedSubmodel, like: Reference) -> Undecided:
    return Undecided(
        f"the reference model's config does not tell which weights of the nested model {part.path[-1]!r} are trainable",
        where=like.where,
        hint=ITS_WEIGHTS,
        remedies=(GIVE_WEIGHTS,),
    )


_Lister = Callable[[ExpectedLayer | ExpectedSubmodel, Iterator[_Sides]], tuple[int, ...]]


def _whole_models(theirs: ExpectedLayer | ExpectedSubmodel, like: Reference) -> tuple[_Lister, ...]:
    """Give the ways in which the flags of models themselves may count."""
    frozen = frozenset(submodel.path for submodel in _submodels(theirs) if not submodel.trainable)
    in_keras3 = _one_by_one if theirs.path in frozen else _by_layers(frozenset())
    if like.keras3:
        return (in_keras3,)
    if like.keras3 is None:
        return (in_keras3, _by_layers(frozenset()), _by_layers(frozen))
    # JSON has the flag, but a model that is built from it does not: the two may expect different orders.
    return (_by_layers(frozenset()), _by_layers(frozen)) if frozen else (_by_layers(frozenset()),)


def _submodels(part: ExpectedLayer | ExpectedSubmodel) -> Iterator[ExpectedSubmodel]:
    if isinstance(part, ExpectedSubmodel):
        yield part
        for child in part.children:
            yield from _submodels(child)


def _one_by_one(_: ExpectedLayer | ExpectedSubmodel, sides: Iterator[_Sides]) -> tuple[int, ...]:
    return without_repeats(index for upper, lower in sides for index in (*upper, *lower))


def _by_layers(frozen: frozenset[tuple[str, ...]]) -> _Lister:
    def lister(part: ExpectedLayer | ExpectedSubmodel, sides: Iterator[_Sides]) -> tuple[int, ...]:
        upper, lower = _sides(part, sides, frozen)
        return (*upper, *lower)

    return lister


def _sides(
    part: ExpectedLayer | ExpectedSubmodel, sides: Iterator[_Sides], frozen: frozenset[tuple[str, ...]]
) -> _Sides:
    if isinstance(part, ExpectedLayer):
        return next(sides)
    upper: list[int] = []
    lower: list[int] = []
    for child in part.children:
        above, below = _sides(child, sides, frozen)
        if isinstance(child, ExpectedSubmodel) and child.path in frozen:
            above, below = (), (*above, *below)
        upper += above
        lower += below
    return without_repeats(upper), without_repeats(lower)
