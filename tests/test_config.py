from __future__ import annotations

import json

import pytest

from remap import InputRefused
from remap.architecture import parse_model


def dense(name: str) -> dict[str, object]:
    return {"class_name": "Dense", "config": {"name": name, "units": 2}}


@pytest.mark.parametrize(
    "text", ["{}", "[]", '{"class_name": "Model"}', '{"config": {"name": "m"}}', "3", '"Model"', "null"]
)
def test_refuses_json_that_describes_no_model(text: str) -> None:
    with pytest.raises(InputRefused, match="not a Keras architecture"):
        parse_model(text, where="file")


def test_refuses_the_json_of_a_layer() -> None:
    with pytest.raises(InputRefused, match="a Dense layer, not a model"):
        parse_model(json.dumps(dense("d")), where="file")


@pytest.mark.parametrize(
    ("layer", "path"),
    [
        ({"class_name": "Dense", "config": {"name": 3}}, "$.config[0].config.name"),
        ({"class_name": "Dense", "config": {"trainable": "no"}}, "$.config[0].config.trainable"),
        ({"class_name": "Dense", "config": "units"}, "$.config[0].config"),
        ({"class_name": "Dense"}, "$.config[0]"),
        ({"class_name": ["Dense"], "config": {}}, "$.config[0].class_name"),
        ({"class_name": "Dense", "config": {}, "inbound_nodes": 1}, "$.config[0].inbound_nodes"),
        ({"class_name": "Model", "config": {"name": "m"}}, "$.config[0].config"),
        ({"class_name": "Model", "config": {"layers": {}}}, "$.config[0].config.layers"),
        (
            {"class_name": "TimeDistributed", "config": {"layer": {"class_name": "Dense"}}},
            "$.config[0].config.layer",
        ),
        (3, "$.config[0]"),
    ],
)
def test_refuses_a_layer_that_is_not_as_keras_writes_it_and_names_the_place(layer: object, path: str) -> None:
    with pytest.raises(InputRefused) as caught:
        parse_model(json.dumps({"class_name": "Sequential", "config": [layer]}), where="file")
    assert caught.value.where == f"file, {path}"


def test_a_layer_frozen_with_0_is_frozen() -> None:
    layer = {"class_name": "Dense", "config": {"name": "d", "trainable": 0}}
    model = parse_model(json.dumps({"class_name": "Sequential", "config": [layer]}), where="file")
    assert [one.trainable for one in model.walk()] == [True, False]


@pytest.mark.parametrize(
    "config",
    [[dense("d")], {"name": "s", "layers": [dense("d")]}, {"layers": [dense("d")], "dtype": "float32"}],
)
@pytest.mark.parametrize("class_name", ["Sequential", "MyStack"])
def test_reads_stacks_of_every_generation_and_class(config: object, class_name: str) -> None:
    model = parse_model(json.dumps({"class_name": class_name, "config": config}), where="file")
    assert model.children is not None
    assert [child.name for child in model.children] == ["d"]
    assert model.sequential


def test_reads_the_nodes_of_keras_2_and_keras_3_alike() -> None:
    old = {**dense("d"), "name": "d", "inbound_nodes": [[["x", 1, 2, {}]], [["y", 0, 0]]]}
    history = {"class_name": "__keras_tensor__", "config": {"keras_history": ["x", 1, 2]}}
    new = {**dense("d"), "name": "d", "inbound_nodes": [{"args": [history], "kwargs": {"training": False}}]}
    for entry, nodes in ((old, ((("x", 1, 2),), (("y", 0, 0),))), (new, ((("x", 1, 2),),))):
        config = {"layers": [entry], "input_layers": [["x", 0, 0]], "output_layers": [["d", 0, 0]]}
        model = parse_model(json.dumps({"class_name": "MyModel", "config": config}), where="file")
        assert model.children is not None
        assert model.children[0].nodes == nodes
        assert not model.sequential
        assert model.inputs == (("x", 0, 0),)


def test_walks_what_wrappers_hold() -> None:
    inner = {"class_name": "LSTM", "config": {"name": "l", "units": 2}}
    other = {"class_name": "GRU", "config": {"name": "g", "units": 2}}
    both = {"class_name": "Bidirectional", "config": {"name": "b", "layer": inner, "backward_layer": other}}
    model = parse_model(json.dumps({"class_name": "Sequential", "config": [both]}), where="file")
    assert [layer.name for layer in model.walk()] == ["", "b", "l", "g"]
    assert model.entry == {"class_name": "Sequential", "config": [both]}


@pytest.mark.parametrize("config", [[dense("d"), dense("d")], {"layers": [dense("d"), dense("d")]}])
def test_refuses_two_layers_of_one_name_in_one_model(config: object) -> None:
    with pytest.raises(InputRefused, match="a second layer of this model is called 'd'"):
        parse_model(json.dumps({"class_name": "Sequential", "config": config}), where="file")


def test_stacks_in_a_bare_list_have_no_name_of_their_own() -> None:
    inner = {"class_name": "Sequential", "config": [dense("d")]}
    model = parse_model(json.dumps({"class_name": "Sequential", "config": [inner, inner]}), where="file")
    assert [layer.name for layer in model.walk()] == ["", "", "d", "", "d"]
    assert model.bare
