"""Work grows in proportion to the size of a model: twice the layers, twice the lines of Python that are run."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable
from dataclasses import replace
from types import FrameType
from typing import Any, TypeVar

import pytest

from remap.architecture import Layer, parse_model
from remap.assignment.by_names import layers_by_name
from remap.assignment.expected import expected_model, first_difference
from remap.assignment.loading import file_layers
from remap.assignment.named_lists import contradicted_inside
from remap.assignment.reference import Request, reference_from_checkpoint
from remap.checking import layers_to_load
from remap.checkpoint import Checkpoint, LayerGroup, Weight
from remap.conversion_plan import PlannedLayer, PlannedWeight
from remap.inner_wrappers import on_templates
from remap.keras3.conversion import translate
from remap.planning import compose_for_keras3
from remap.recognize import Template, recognize
from remap.weight_names import layer_scope
from tests.paper import dense, entry, listed, parallel

Architecture = dict[str, Any]
Given = TypeVar("Given")


def lines_of(work: Callable[[Given], object], given: Given) -> int:
    """Count the lines of Python that are run."""
    count = 0

    def trace(_frame: FrameType, event: str, _argument: object) -> Any:
        nonlocal count
        count += event == "line"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        work(given)
    finally:
        sys.settrace(before)
    return count


def functional(*layers: Architecture) -> Architecture:
    first, last = layers[0]["name"], layers[-1]["name"]
    ends = {"input_layers": [[first, 0, 0]], "output_layers": [[last, 0, 0]]}
    return entry("whole", "Model", layers=list(layers), **ends)


def chain(size: int) -> Architecture:
    layers = [entry("x", "InputLayer", batch_input_shape=[None, 2])]
    for number in range(size):
        layers.append({**dense(f"d{number}"), "inbound_nodes": [[[layers[-1]["name"], 0, 0, {}]]]})
    return functional(*layers)


def one_layer_called_often(size: int) -> Architecture:
    shared = entry("shared", "Activation", [["x"]] * size, activation="relu")
    joined = entry("sum", "Add")
    joined["inbound_nodes"] = [[["shared", number, 0, {}] for number in range(size)]]
    return functional(entry("x", "InputLayer", batch_input_shape=[None, 2]), shared, joined)


def stack(size: int) -> Architecture:
    return entry("whole", "Sequential", layers=[dense(f"d{number}") for number in range(size)])


def names_with_slashes(size: int) -> Architecture:
    """Names that all become one when slashes, which Keras 3 does not take, are replaced."""
    width = size.bit_length()
    names = [
        "".join(f"a{'/' if number >> bit & 1 else '_'}" for bit in range(width)) for number in range(1, size)
    ]
    return entry("whole", "Sequential", layers=[entry(name, "Flatten") for name in names])


def stacks_without_names(size: int) -> Architecture:
    inner = [{"class_name": "Sequential", "config": [dense("d")]} for _ in range(size)]
    return {"class_name": "Sequential", "config": inner}


def planned(layer: Layer) -> PlannedLayer:
    inside = tuple(planned(child) for child in layer.children or ())
    shapes = (("kernel:0", (2, 2)), ("bias:0", (2,))) if layer.class_name == "Dense" else ()
    weights = tuple(
        PlannedWeight(
            name=name, source=Weight(name=name, path=f"/{layer.name}/{name}", shape=shape, dtype="<f4")
        )
        for name, shape in shapes
    )
    return PlannedLayer(name=layer.name, weights=weights, children=inside)


def backwards(architecture: Architecture) -> None:
    """Write a model for Keras 3 whose weights come in another order than its layers."""
    model = parse_model(json.dumps(architecture), where="paper")
    translate(model, [*map(planned, reversed(model.children or ()))], keras_version="2.2.4")


MAKERS = (chain, one_layer_called_often, stack, names_with_slashes, stacks_without_names)


@pytest.mark.parametrize("maker", MAKERS)
def test_twice_the_layers_take_twice_the_work(maker: Callable[[int], Architecture]) -> None:
    backwards(maker(4))  # what is made once
    small, large = (lines_of(backwards, architecture) for architecture in (maker(128), maker(256)))
    assert large < 2.2 * small


def weights_of(size: int) -> tuple[Weight, ...]:
    """Make kernels of as many shapes."""
    return tuple(
        Weight(name=f"d{number}/kernel:0", path=f"/d{number}", shape=(2, number + 2), dtype="<f4")
        for number in range(size)
    )


def groups_of(weights: Iterable[Weight]) -> tuple[LayerGroup, ...]:
    return tuple(LayerGroup(name=layer_scope(weight.name), weights=(weight,)) for weight in weights)


def first_difference_in_the_last_of_many(size: int) -> object:
    units = [
        entry(f"d{number}", "Dense", units=number + 2, use_bias=False) for number in reversed(range(size))
    ]
    model = parse_model(json.dumps(entry("whole", "Sequential", layers=units)), where="paper")
    return first_difference(weights_of(size), expected_model(model))


def many_layers_of_another_session_in_one_group(size: int) -> object:
    ours, theirs = ([f"dense_{number + first}/kernel" for number in range(size)] for first in (0, 1_000))
    places = {"inner": range(size)}
    return contradicted_inside(listed(*ours), [LayerGroup(name="inner", weights=listed(*theirs))], places)


def many_layers_to_check(size: int) -> object:
    layers = [entry(f"d{number}", "Dense", units=number + 2, use_bias=False) for number in range(size)]
    config = json.dumps(entry("whole", "Sequential", layers=layers))
    like = Checkpoint(root="/", layers=groups_of(weights_of(size)), model_config=config)
    return layers_to_load(reference_from_checkpoint(like, where="paper"), file_layers(like.layers))


def many_wrappers_inside(size: int) -> object:
    wrapped = [
        parallel(entry(f"m{number}", "Sequential", layers=[dense("d")]), name=f"p{number}")
        for number in range(size)
    ]
    model = parse_model(json.dumps(entry("whole", "Sequential", layers=wrapped)), where="paper")
    layers = tuple(
        LayerGroup(name=f"p{number}", weights=listed("d/kernel", "d/bias")) for number in range(size)
    )
    found = recognize(Checkpoint(root="/", layers=layers, model_config=json.dumps(model.entry)), model)
    assert len(found.inner) == len(found.submodels) == size
    return found


def a_model_with_wrappers_called_often(size: int) -> object:
    wrapper = parallel(entry("m", "Sequential", layers=[dense("d")]), name="p", parts=size)
    wrapper["inbound_nodes"] = [[["x", 0, 0, {}]]] * size
    heads = [{**dense(f"h{call}"), "inbound_nodes": [[["p", 1 + call, 0, {}]]]} for call in range(size)]
    model = parse_model(json.dumps(functional(entry("x", "InputLayer"), wrapper, *heads)), where="paper")
    built, found = on_templates(model)
    assert not found[0].doubt
    return built


def layers_of(shapes: Iterable[tuple[int, int]]) -> tuple[Weight, ...]:
    return tuple(
        Weight(name=f"l{chr(97 + number % 26)}{number}/kernel:0", path=f"/{number}", shape=shape, dtype="<f4")
        for number, shape in enumerate(shapes)
    )


def settled_by_names(weights: tuple[Weight, ...]) -> object:
    group = LayerGroup(name="model_1", weights=weights)
    return layers_by_name(Template(group=group, architecture=None, replicas=2), plain=True)


def names_of_many_layers_of_different_shapes(size: int) -> object:
    return settled_by_names(layers_of((number + 2, number + 3) for number in range(size)))


def names_of_many_layers_of_equal_shapes(size: int) -> object:
    return settled_by_names(layers_of((4, 4) for _ in range(size)))


def names_of_many_layers_that_fit_in_many_places(size: int) -> object:
    return settled_by_names(layers_of((2, 3 + number % 2) for number in range(size)))


def names_of_many_normalization_layers(size: int) -> object:
    first = [f"bn{number}x/{leaf}" for number in range(size) for leaf in ("gamma", "beta")]
    rest = [f"bn{number}x/{leaf}" for number in range(size) for leaf in ("moving_mean", "moving_variance")]
    return settled_by_names(listed(*first, *rest))


PARTS = (
    names_of_many_normalization_layers,
    names_of_many_layers_of_different_shapes,
    names_of_many_layers_of_equal_shapes,
    names_of_many_layers_that_fit_in_many_places,
    first_difference_in_the_last_of_many,
    many_layers_of_another_session_in_one_group,
    many_layers_to_check,
    many_wrappers_inside,
    a_model_with_wrappers_called_often,
)


@pytest.mark.parametrize("part", PARTS)
def test_twice_the_weights_take_twice_the_work(part: Callable[[int], object]) -> None:
    part(4)
    small, large = (lines_of(part, size) for size in (128, 256))
    assert large < 2.2 * small


class Compared(str):
    """A name that counts how often it is compared."""

    __slots__ = ()
    comparisons = 0

    def __eq__(self, other: object) -> bool:
        Compared.comparisons += 1
        return super().__eq__(other)

    __hash__ = str.__hash__


def test_layers_of_a_flat_file_are_not_searched_one_by_one() -> None:
    groups = tuple(replace(group, name=Compared(group.name)) for group in groups_of(weights_of(100)))
    Compared.comparisons = 0
    compose_for_keras3(Checkpoint(root="/", layers=groups, model_config=json.dumps(stack(100))), Request())
    assert Compared.comparisons <= 500
