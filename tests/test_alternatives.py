"""Whether Keras would load an order of layers into a model with another one, held against every order there is."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from itertools import pairwise, permutations

import pytest

from remap.assignment import alternatives
from remap.assignment.alternatives import Known, TooManyOrders, other_order
from remap.assignment.listed import Listed, ends

Layer = tuple[int, int, int]
"""A layer of a model: how many weights train, how many do not, and how many features all of them have."""


def listed(model: Sequence[Layer]) -> tuple[list[Listed], int]:
    """List the weights of a model as Keras does; give its layers in its order, and how many weights train."""
    trainable = [number for number, (count, _, _) in enumerate(model) for _ in range(count)]
    rest = [number for number, (_, count, _) in enumerate(model) for _ in range(count)]
    every = [*trainable, *rest]
    layers = [
        Listed(
            name=f"l{number}",
            weights=(places := tuple(place for place, owner in enumerate(every) if owner == number)),
            leaves=("w",) * len(places),
            shapes=((size, size),) * len(places),
            ends=(size, size),
        )
        for number, (_, _, size) in enumerate(model)
    ]
    return layers, len(trainable)


def every_order(layers: Sequence[Listed], trained: int | None = None) -> Iterator[tuple[int, ...]]:
    """Give every order of layers with which a model may have the list, whatever is trainable in it, or so many weights."""
    owner = {place: number for number, layer in enumerate(layers) for place in layer.weights}
    seen = set()
    for cut in range((len(owner) if trained is None else trained) + 1):
        parts = [_runs([owner[place] for place in places]) for places in (range(cut), range(cut, len(owner)))]
        if all(len(set(part)) == len(part) for part in parts):
            for order in permutations(range(len(layers))):
                if order not in seen and all(_keeps(order, part) for part in parts):
                    seen.add(order)
                    yield order


def _runs(numbers: Sequence[int]) -> list[int]:
    return [*numbers[:1], *(later for earlier, later in pairwise(numbers) if later != earlier)]


def _keeps(order: Sequence[int], part: Sequence[int]) -> bool:
    return [number for number in order if number in part] == list(part)


def loads(layers: Sequence[Listed], order: Sequence[int]) -> bool:
    """Tell whether the most lenient Keras would load the layers into a model that has them in another order."""
    first = next(place for place, number in enumerate(order) if place != number)
    return layers[first].ends == layers[order[first]].ends and all(
        len(layers[place].shapes) == len(layers[number].shapes) for place, number in enumerate(order)
    )


@pytest.mark.parametrize("seed", range(8))
def test_finds_another_order_exactly_if_there_is_one_that_keras_would_load(seed: int) -> None:
    chance = random.Random(seed)
    found = []
    for _ in range(150):
        sizes = range(1, chance.choice([2, 3, 5]) + 1)
        kinds = [(1, 0), (2, 0), (2, 2), (0, 2), (0, 1), (0, 2), (0, 4)]
        model = [(*chance.choice(kinds), chance.choice(sizes)) for _ in range(chance.randint(1, 6))]
        layers, _ = listed(model)
        own = tuple(range(len(layers)))
        expected = any(order != own and loads(layers, order) for order in every_order(layers))
        assert (other_order(layers) is not None) == expected, model
        found.append(expected)
    assert {True, False} == set(found)


def test_names_the_layers_that_would_change_places() -> None:
    layers, _ = listed([(1, 0, 3), (1, 0, 4), (1, 0, 4)])
    assert other_order(layers) == ("l1", "l2")


def test_two_equal_layers_are_told_apart_by_moving_averages_between_and_behind_them() -> None:
    layers, _ = listed([(2, 0, 4), (2, 2, 4), (2, 0, 4), (2, 2, 4)])
    assert other_order(layers) is None


@pytest.mark.parametrize("seed", range(6))
def test_what_is_known_leaves_exactly_the_orders_that_agree_with_it(seed: int) -> None:
    """The layers of a made-up model stand in the order of the model, of which some is told."""
    chance, found = random.Random(seed), []
    for _ in range(150):
        model = [
            (chance.randint(0, 2), chance.randint(0, 1), chance.choice([3, 3, 4]))
            for _ in range(chance.randint(2, 5))
        ]
        model = [layer for layer in model if layer[0] + layer[1]]
        layers, trainable = listed(model)
        own = tuple(range(len(layers)))
        known = Known(
            chains=[sorted(chance.sample(own, min(2, len(own)))) for _ in range(chance.randint(0, 2))],
            first=chance.random() < 0.3,
            last=chance.choice([0, 0, 1, min(2, len(own))]),
            trained=chance.choice([None, trainable, chance.randint(0, trainable)]),
        )
        agreeing = [
            order
            for order in every_order(layers, known.trained)
            if all(
                order.index(earlier) < order.index(later)
                for chain in known.chains
                for earlier, later in pairwise(chain)
            )
            and (not known.first or order[:1] == own[:1])
            and (not known.last or order[-known.last :] == own[-known.last :])
        ]
        expected = any(order != own and loads(layers, order) for order in agreeing)
        assert (other_order(layers, known) is not None) == expected, (model, known)
        found.append(expected)
    assert {True, False} == set(found)


def test_a_known_order_leaves_no_other_one() -> None:
    layers, _ = listed([(1, 0, 4)] * 5)
    assert other_order(layers) is not None
    assert other_order(layers, Known(chains=[range(5)])) is None
    assert other_order(layers, Known(chains=[[0, 1, 2], [3, 4]])) is not None


@pytest.mark.parametrize(
    ("leaves", "ours", "theirs", "same"),
    [
        (("kernel",), ((3, 3, 8, 4),), ((4, 8, 3, 3),), True),  # Keras transposes kernels of four axes
        (("kernel",), ((3, 3, 8, 4),), ((3, 3, 4, 8),), False),
        (("kernel", "recurrent_kernel", "bias"), ((2, 8), (2, 8), (16,)), ((2, 8), (2, 8), (8,)), True),  # CuDNN
        (("kernel", "bias"), ((8, 2), (2,)), ((8, 4), (4,)), True),  # TensorFlow 1.15 compares the axes only
        (("kernel", "bias"), ((8, 2), (2,)), ((6, 2), (2,)), False),  # and then the input does not fit
    ],
)  # fmt: skip
def test_is_as_lenient_as_any_keras(
    leaves: tuple[str, ...],
    ours: tuple[tuple[int, ...], ...],
    theirs: tuple[tuple[int, ...], ...],
    same: bool,
) -> None:
    layers = [
        Listed(
            name=name,
            weights=tuple(range(first, first + len(leaves))),
            leaves=leaves,
            shapes=shapes,
            ends=ends(tuple(zip(leaves, shapes, strict=True))),
        )
        for name, first, shapes in (("a", 0, ours), ("b", len(leaves), theirs))
    ]
    assert (other_order(layers) == ("a", "b")) is same


def test_gives_up_where_orders_are_too_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(alternatives, "_MOST_STEPS", 10)
    monkeypatch.setattr(alternatives, "_STEPS_PER_LAYER", 1)
    layers, _ = listed([(1, 0, 1 + number % 2) for number in range(40)])
    with pytest.raises(TooManyOrders):
        other_order([*layers[:38], layers[39], layers[38]])
