from __future__ import annotations

import json

import pytest

from remap import InputRefused
from remap.keras.config import load_json, parse_model


def dense(name: str) -> dict[str, object]:
    return {"class_name": "Dense", "config": {"name": name, "units": 2}}


def test_refuses_json_nested_deeper_than_any_model() -> None:
    with pytest.raises(InputRefused, match="levels deep"):
        load_json("[" * 5000 + "]" * 5000, where="file")


def test_brackets_inside_text_are_no_depth() -> None:
    assert load_json(json.dumps(["[" * 5000, '\\"']), where="file") == ["[" * 5000, '\\"']


@pytest.mark.parametrize(
    "text", ["{}", "[]", '{"class_name": "Model"}', '{"class_name": "Model", "config": {"name": "m"}}', "3"]
)
def test_refuses_json_that_describes_no_model(text: str) -> None:
    with pytest.raises(InputRefused, match="not a Keras architecture"):
        parse_model(text, where="file")


def test_refuses_the_json_of_a_layer() -> None:
    with pytest.raises(InputRefused, match="a Dense layer, not a model"):
        parse_model(json.dumps(dense("d")), where="file")


def test_refuses_a_layer_whose_name_is_no_text() -> None:
    layer = {"class_name": "Dense", "config": {"name": 3}}
    with pytest.raises(InputRefused, match="name is not text"):
        parse_model(json.dumps({"class_name": "Sequential", "config": [layer]}), where="file")


def test_refuses_a_list_of_layers_that_holds_something_else() -> None:
    with pytest.raises(InputRefused, match="not described by an object"):
        parse_model(json.dumps({"class_name": "Sequential", "config": [3]}), where="file")


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
