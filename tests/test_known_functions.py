"""A Lambda of InceptionResNetV2 or ResNeXt becomes what Keras 3 has for it, and no other Lambda does."""

from __future__ import annotations

import json
from typing import Any

import pytest

from remap.architecture import Layer, parse_model
from remap.keras3.known_functions import replace_known_functions
from remap.keras3.operations import operation_of

CODE = ["4wIAAAA=", None, None]


def block(name: str = "block35_1", scale: float = 0.17, **changed: Any) -> list[dict[str, Any]]:
    """Describe one block of InceptionResNetV2 between an input and an Activation."""
    config = {"name": name, "function": CODE, "function_type": "lambda", "arguments": {"scale": scale}}
    config.update(changed.pop("config", {}))
    keywords = changed.pop("keywords", {})
    up = changed.pop("up", f"{name}_conv")
    assert not changed
    rest: list[tuple[str, str, dict[str, Any], list[Any]]] = [
        ("x", "InputLayer", {"batch_input_shape": [None, 8, 8, 4]}, []),
        ("branch", "Conv2D", {"filters": 2, "kernel_size": [1, 1], "activation": "relu"}, [["x", 0, 0, {}]]),
        (f"{name}_mixed", "Concatenate", {"axis": 3}, [["branch", 0, 0, {}], ["x", 0, 0, {}]]),
        (up, "Conv2D", {"filters": 4, "kernel_size": [1, 1], "activation": "linear"}, [[f"{name}_mixed", 0, 0, {}]]),
        (name, "Lambda", config, [["x", 0, 0, keywords], [up, 0, 0, {}]]),
    ]  # fmt: skip
    return [
        {"name": called, "class_name": cls, "config": {"name": called, **given}, "inbound_nodes": [call] if call else []}
        for called, cls, given, call in rest
    ]  # fmt: skip


def model(layers: list[dict[str, Any]]) -> Layer:
    config = {
        "name": "network",
        "layers": layers,
        "input_layers": [["x", 0, 0]],
        "output_layers": [[layers[-1]["name"], 0, 0]],
    }
    return parse_model(json.dumps({"class_name": "Model", "config": config}), where="the test")


def classes(found: Layer) -> list[str]:
    return [layer.class_name for layer in found.children or ()]


@pytest.mark.parametrize(
    ("name", "scale"), [("block35_1", 0.17), ("block17_20", 0.1), ("block8_9", 0.2), ("block8_10", 1.0)]
)
def test_a_block_is_known_by_where_it_stands(name: str, scale: float) -> None:
    found, notes = replace_known_functions(model(block(name, scale)))
    assert classes(found)[-2:] == ["Rescaling", "Add"]
    scaled, added = (found.children or ())[-2:]
    assert (scaled.name, added.name) == (f"{name}_scale", name)
    assert scaled.config.number("scale") == scale
    assert scaled.nodes == (((f"{name}_conv", 0, 0),),)
    assert added.nodes == ((("x", 0, 0), (f"{name}_scale", 0, 0)),)
    assert len(notes) == 1


@pytest.mark.parametrize(
    "changed",
    [
        {"name": "block36_1"},
        {"scale": 0.18},
        {"config": {"arguments": {"scale": 0.17, "more": 1}}},
        {"config": {"arguments": None}},
        {"config": {"mask": CODE}},
        {"keywords": {"scale": 0.3}},
        {"up": "another_conv"},
    ],
)
def test_a_function_that_stands_elsewhere_or_takes_other_arguments_is_unknown(
    changed: dict[str, Any],
) -> None:
    before = model(block(**changed))
    found, notes = replace_known_functions(before)
    assert classes(found) == classes(before)
    assert notes == ()


def test_blocks_inside_another_model_are_known_too() -> None:
    layers = model(block()).entry
    outer = [
        {"name": "start", "class_name": "InputLayer", "config": {"batch_input_shape": [None, 8, 8, 4]}, "inbound_nodes": []},
        {"name": "network", **layers, "inbound_nodes": [[["start", 0, 0, {}]]]},
    ]  # fmt: skip
    outer[0]["config"]["name"] = "start"
    whole = parse_model(
        json.dumps(
            {
                "class_name": "Model",
                "config": {
                    "name": "outer",
                    "layers": outer,
                    "input_layers": [["start", 0, 0]],
                    "output_layers": [["network", 1, 0]],
                },
            }
        ),
        where="the test",
    )
    found, notes = replace_known_functions(whole)
    assert "Add" in classes((found.children or ())[1])
    assert len(notes) == 1


def grouped(base: str = "conv2_block1", **changed: Any) -> list[dict[str, Any]]:
    """Describe the grouped convolution of one block of ResNeXt: four groups of two channels."""
    function = {"function": CODE, "function_type": "lambda", **changed.pop("config", {})}
    rest: list[tuple[str, str, dict[str, Any], str]] = [
        ("x", "InputLayer", {"batch_input_shape": [None, 9, 9, 8]}, ""),
        (f"{base}_2_conv", changed.pop("convolution", "DepthwiseConv2D"),
         {"kernel_size": [3, 3], "depth_multiplier": changed.pop("multiplier", 2), "use_bias": False}, "x"),
        ("apart", "Reshape", {"target_shape": changed.pop("apart", [7, 7, 4, 2, 2])}, f"{base}_2_conv"),
        (changed.pop("name", f"{base}_2_reduce"), "Lambda", function, changed.pop("taken", "apart")),
        ("together", "Reshape", {"target_shape": changed.pop("together", [7, 7, 8])}, f"{base}_2_reduce"),
        (f"{base}_2_bn", "BatchNormalization", {}, changed.pop("normalized", "together")),
    ]  # fmt: skip
    assert not changed
    return [
        {"name": called, "class_name": cls, "config": {"name": called, **given},
         "inbound_nodes": [[[source, 0, 0, {}]]] if source else []}
        for called, cls, given, source in rest
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("config", "dtype"), [({}, "DT_FLOAT"), ({"dtype": "float64", "arguments": {}}, "DT_DOUBLE")]
)
def test_the_sum_of_a_grouped_convolution_is_known_by_where_it_stands(
    config: dict[str, Any], dtype: str
) -> None:
    found, notes = replace_known_functions(model(grouped(config=config)))
    added = (found.children or ())[3]
    assert added.name == "conv2_block1_2_reduce"
    assert added.nodes == ((("apart", 0, 0),),)
    operation = operation_of(added)
    assert operation is not None
    assert operation.class_name == "Sum"
    assert operation.config == {"axis": [4], "keepdims": False}
    assert added.config.object("node_def").object("attr").object("T").holds("type", dtype)
    assert len(notes) == 1


@pytest.mark.parametrize(
    "changed",
    [
        {"base": "block1"},
        {"name": "conv2_block2_2_reduce"},
        {"config": {"arguments": {"axis": 4}}},
        {"config": {"mask": CODE}},
        {"config": {"dtype": "mixed"}},
        {"convolution": "SeparableConv2D"},
        {"multiplier": 4},
        {"apart": [7, 7, 4, 4]},
        {"apart": [7, 7, 2, 2, 4]},
        {"apart": [7, 7, 2, 4, 2]},
        {"apart": None},
        {"together": [7, 7, 4, 2]},
        {"together": [7, 8, 7]},
        {"taken": "x"},
        {"normalized": "x"},
    ],
)
def test_another_function_between_such_layers_is_unknown(changed: dict[str, Any]) -> None:
    before = model(grouped(**changed))
    found, notes = replace_known_functions(before)
    assert classes(found) == classes(before)
    assert notes == ()
