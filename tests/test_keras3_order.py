"""Keras 3 numbers the layers of a file by an order of its own: ours is that order, whatever the graph."""

from __future__ import annotations

import json
from typing import Any

import pytest

from remap.architecture import Layer, parse_model
from remap.assignment.expected import load_order
from remap.checkpoint import Weight
from remap.conversion_plan import PlannedLayer, PlannedWeight
from remap.errors import InputRefused
from remap.keras3.conversion import translate
from remap.keras3.graph import layer_order
from remap.keras3.tensors import Translation


def planned(model: Layer, path: str = "") -> tuple[PlannedLayer, ...]:
    """Give every Dense a kernel and a bias."""
    layers = []
    for layer in load_order(model):
        place = f"{path}/{layer.name}"
        children = planned(layer, place) if layer.children is not None else ()
        weights = tuple(weight for child in children for weight in child.weights)
        if layer.class_name == "Dense":
            weights = tuple(
                PlannedWeight(
                    name=name, source=Weight(name=name, path=f"{place}/{name}", shape=shape, dtype="<f4")
                )
                for name, shape in (("kernel:0", (2, 2)), ("bias:0", (2,)))
            )
        layers.append(PlannedLayer(name=layer.name, weights=weights, children=children))
    return tuple(layers)


def translated(config: dict[str, Any]) -> Translation:
    model = parse_model(json.dumps(config), where="the test")
    return translate(model, planned(model), keras_version="2.2.4")


def test_an_input_that_leads_nowhere_is_listed_last() -> None:
    calls = {"a": ((),), "b": ((),), "dense": ((("a", 0, 0),),)}
    order = layer_order(calls, [("b", 0, 0), ("a", 0, 0)], [("dense", 0, 0)])
    assert order == ["a", "b", "dense"]


def test_a_chain_of_thousands_of_layers_needs_no_recursion() -> None:
    calls = {"0": ((),)} | {str(number): (((str(number - 1), 0, 0),),) for number in range(1, 5000)}
    assert layer_order(calls, [("0", 0, 0)], [("4999", 0, 0)]) == [str(number) for number in range(5000)]


@pytest.mark.parametrize(
    ("node", "what"),
    [
        ([["nowhere", 0, 0, {}]], "which is not there"),
        ([["input_0", 7, 0, {}]], "which is not there"),
        ({"a": 1}, "in a form"),
        ([["input_0", 0, 0, {"constants": [1]}]], "constants"),
        ([["input_0", 0, -1, {}]], "output -1 .* which is not there"),
        ([["input_0", 0, 0, 3]], "an object was expected"),
        ([[["input_0", 0, 0], 0, 0, {}]], "in a form"),
        ([["dense", 0, 0, {}]], "in a circle"),
        ([], "in a form"),
    ],
)
def test_refuses_connections_that_no_keras_writes(node: Any, what: str) -> None:
    with pytest.raises(InputRefused, match=what):
        translated(_chain({"dense": [node]}, outputs=[["dense", 0, 0]]))


@pytest.mark.parametrize(
    ("nodes", "outputs", "what"),
    [
        (
            {"renamed": [], "dense": [[["renamed", 0, 0, {}]]]},
            [["dense", 0, 0]],
            "'renamed', which is not there",
        ),
        ({"dense": [[["input_0", 0, 0, {}]]], "renamed": []}, [], "lead to no output: dense, renamed"),
    ],
)
def test_refuses_a_model_whose_layers_were_renamed_after_it_was_built(
    nodes: dict[str, Any], outputs: list[Any], what: str
) -> None:
    """Keras 2 then forgets the calls of these layers; a file of Keras 3 would lack their weights or number them wrongly."""
    with pytest.raises(InputRefused, match=what):
        translated(_chain(nodes, outputs=outputs))


def _chain(nodes: dict[str, Any], *, outputs: list[Any]) -> dict[str, Any]:
    inputs = {"class_name": "InputLayer", "config": {"name": "input_0", "batch_input_shape": [None, 2]}}
    dense = [
        {"class_name": "Dense", "config": {"name": name, "units": 2}, "name": name, "inbound_nodes": calls}
        for name, calls in nodes.items()
    ]
    layers = [{**inputs, "name": "input_0", "inbound_nodes": []}, *dense]
    ends = {"input_layers": [["input_0", 0, 0]], "output_layers": outputs}
    return {"class_name": "Model", "config": {"name": "whole", "layers": layers, **ends}}


def test_a_call_on_a_dictionary_takes_its_tensors_in_the_order_of_the_keys() -> None:
    """As tf.keras from 2.2 writes it: of DenseFeatures above all, which Keras 3 has not, so weights only."""
    inputs: list[dict[str, Any]] = [
        {
            "name": name,
            "class_name": "InputLayer",
            "config": {"name": name, "batch_input_shape": [None, 1]},
            "inbound_nodes": [],
        }
        for name in ("b", "a")
    ]
    features = {
        "name": "features",
        "class_name": "DenseFeatures",
        "config": {"name": "features", "feature_columns": []},
        "inbound_nodes": [{"b": ["b", 0, 0, {}], "a": ["a", 0, 0, {}]}],
    }
    config = {
        "name": "whole",
        "layers": [*inputs, features],
        "input_layers": [["b", 0, 0], ["a", 0, 0]],
        "output_layers": [["features", 0, 0]],
    }
    translation = translated({"class_name": "Model", "config": config})
    (problem,) = translation.problems
    assert "Keras 3 has no such layer" in problem.what
    node = translation.config["config"]["layers"][-1]["inbound_nodes"][0]
    assert list(node["args"][0]) == ["a", "b"]
    assert [one["config"]["keras_history"][0] for one in node["args"][0].values()] == ["a", "b"]
