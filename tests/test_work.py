"""Writing a model for Keras 3 takes work in proportion to its size: twice the layers, twice the function calls."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from types import FrameType
from typing import Any

import pytest

from remap.architecture import Layer, parse_model
from remap.checkpoint import Weight
from remap.conversion_plan import PlannedLayer, PlannedWeight
from remap.keras3.conversion import translate
from tests.paper import dense, entry

Architecture = dict[str, Any]


def lines_of(work: Callable[[Architecture], object], architecture: Architecture) -> int:
    """Count the lines of Python that are run."""
    count = 0

    def trace(_frame: FrameType, event: str, _argument: object) -> Any:
        nonlocal count
        count += event == "line"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        work(architecture)
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
