"""Operations of TensorFlow: written where all of them is known, refused by name elsewhere."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from remap.architecture import parse_model
from remap.errors import InputRefused
from remap.keras3.conversion import translate
from remap.keras3.operations import read_operation
from remap.typed_json import read_json
from tests.keras3_convert import translate_flat

FLOAT = {"T": {"type": "DT_FLOAT"}}
ADD: dict[str, Any] = {
    "node_def": {"name": "a", "op": "AddV2", "input": ["x", "a/y"], "attr": FLOAT},
    "constants": {"1": 2.0},
}
MEAN: dict[str, Any] = {
    "node_def": {
        "name": "m",
        "op": "Mean",
        "input": ["x", "m/axes"],
        "attr": {**FLOAT, "Tidx": {"type": "DT_INT32"}, "keep_dims": {"b": False}},
    },
    "constants": {"1": [1, 2]},
}
SLICE: dict[str, Any] = {
    "node_def": {
        "name": "s",
        "op": "StridedSlice",
        "input": ["x", "s/b", "s/e", "s/s"],
        "attr": {
            **FLOAT,
            "Index": {"type": "DT_INT32"},
            "begin_mask": {"i": "1"},
            "end_mask": {"i": "1"},
            "ellipsis_mask": {"i": "0"},
            "new_axis_mask": {"i": "0"},
            "shrink_axis_mask": {"i": "2"},
        },
    },
    "constants": {"1": [0, -1], "2": [0, 0], "3": [1, 1]},
}


def changed(config: dict[str, Any], path: str, value: Any) -> dict[str, Any]:
    """Put another value at a path such as `node_def/attr/T`."""
    changed: dict[str, Any] = json.loads(json.dumps(config))
    *above, last = path.split("/")
    place = changed
    for key in above:
        place = place[key]
    place[last] = value
    return changed


def read(config: dict[str, Any]) -> Any:
    return read_operation(read_json(json.dumps(config), where="the test").object())


def test_constants_stand_in_the_place_of_their_input() -> None:
    assert read(ADD).arguments(["x"]) == ["x", 2.0]
    assert read({**ADD, "constants": {"0": 2.0}}).arguments(["x"]) == [2.0, "x"]
    assert read(ADD).arguments(["x", "y"]) is None


def test_arrays_among_constants_have_the_type_of_the_tensor() -> None:
    half = changed(ADD, "node_def/attr/T/type", "DT_HALF")
    _, constant = read(changed(half, "constants/1", [1, 2])).arguments(["x"])
    assert constant["config"] == {"value": [1, 2], "dtype": "float16"}


def test_slices_become_the_key_of_an_index() -> None:
    _, key = read(SLICE).arguments(["x"])
    assert key[0]["config"] == {"start": None, "stop": None, "step": 1}
    assert key[1] == -1


@pytest.mark.parametrize(
    ("config", "words"),
    [
        (changed(ADD, "node_def/op", "Betainc"), "Betainc"),
        (changed(ADD, "node_def/attr/rounding", {"b": True}), "rounding"),
        (changed(ADD, "node_def/experimental", {}), "experimental"),
        (changed(ADD, "node_def/attr/T/type", "DT_COMPLEX64"), "DT_COMPLEX64"),
        (changed(ADD, "node_def/input", ["x", "y", "z"]), "3 inputs"),
        (changed(ADD, "node_def/input", ["x", "^y"]), "waits"),
        (changed(ADD, "constants", {"0": 1.0, "1": 1.0}), "2 of them constants"),
        (changed(ADD, "constants", {"2": 1.0}), "constant for input"),
        (changed(ADD, "constants", {"-1": 1.0}), "constant for input"),
        (changed(ADD, "constants", {"1": [[1], [1, 2]]}), "different lengths"),
        (changed(ADD, "constants", {"1": "text"}), "number"),
        (changed(ADD, "constants", {"1": []}), "empty"),
        (changed(MEAN, "constants/1", []), "no axis"),
        (changed(MEAN, "constants", {}), "2 inputs"),
        (changed(MEAN, "node_def/attr/keep_dims", {"i": "0"}), '"b"'),
        (changed(MEAN, "node_def/attr/T/type", "DT_INT32"), "DT_INT32"),
        (changed(SLICE, "constants/3", [1, 0]), "belong together"),
        (changed(SLICE, "constants/2", [1]), "belong together"),
        (changed(SLICE, "node_def/attr/end_mask/i", "4"), "belong together"),
        (changed(SLICE, "node_def/attr/ellipsis_mask/i", "3"), "belong together"),
        (changed(SLICE, "node_def/attr/begin_mask/i", "2"), "also a slice"),
        (changed(SLICE, "node_def/attr/begin_mask/i", "-1"), "small integer"),
    ],
)
def test_what_is_not_known_is_refused(config: dict[str, Any], words: str) -> None:
    with pytest.raises(InputRefused, match=words):
        read(config)


def test_operations_have_no_place_among_the_variables(unpacked: dict[str, Path]) -> None:
    """Keras 3 saves variables of layers only: an operation Add is not counted among layers of class Add."""
    translation = translate_flat(unpacked["tf.keras-2.3.4-eager"] / "operations_on_elements.h5")
    paths = [group.path for group in translation.groups]
    assert "layers/add" in paths
    assert "layers/add_1" not in paths
    modules = {one["module"] for one in translation.config["config"]["layers"]}
    assert "keras.src.ops.numpy" in modules


@pytest.mark.parametrize(
    ("name", "classes"),
    [
        ("operations_on_elements", "Add Divide Maximum Minimum Multiply Relu Sigmoid Subtract Tanh"),
        ("operations_on_matrices", "Einsum Matmul Transpose"),
        ("operations_on_shapes", "Add Cast Concatenate Mean Multiply Reshape Transpose"),
        ("operations_slices", "GetItem"),
    ],
)
def test_operations_that_tf_keras_recorded_become_classes_of_keras_3(
    name: str, classes: str, unpacked: dict[str, Path]
) -> None:
    translation = translate_flat(unpacked["tf.keras-2.3.4-eager"] / f"{name}.h5")
    assert translation.problems == ()
    entries = translation.config["config"]["layers"]
    assert {one["class_name"] for one in entries if one["module"].startswith("keras.src.ops.")} == set(
        classes.split()
    )


@pytest.mark.parametrize(
    ("op", "attributes", "constants", "words"),
    [
        ("Transpose", {"Tperm": {"type": "DT_INT32"}}, {"1": [0, 2]}, "permutation"),
        ("Reshape", {"Tshape": {"type": "DT_INT32"}}, {"1": [-2, 3]}, "at least -1"),
        ("Reshape", {"Tshape": {"type": "DT_INT32"}}, {}, "2 inputs"),
        ("ConcatV2", {"N": {"i": "2"}, "Tidx": {"type": "DT_INT32"}}, {"1": 0}, "2 inputs"),
        (
            "MatMul",
            {"transpose_a": {"b": "no"}, "transpose_b": {"b": False}},
            {"1": [[1.0]]},
            "true or false",
        ),
    ],
)
def test_operations_with_other_constants_are_refused(
    op: str, attributes: dict[str, Any], constants: dict[str, Any], words: str
) -> None:
    node = {"name": "n", "op": op, "input": ["x", "n/1"], "attr": {**FLOAT, **attributes}}
    with pytest.raises(InputRefused, match=words):
        read({"node_def": node, "constants": constants})


@pytest.mark.parametrize("target", ["DT_FLOAT", "DT_STRING"])
def test_a_cast_that_changes_nothing_or_is_not_to_numbers_is_refused(target: str) -> None:
    attributes = {"SrcT": {"type": "DT_FLOAT"}, "DstT": {"type": target}, "Truncate": {"b": False}}
    node = {"name": "c", "op": "Cast", "input": ["x"], "attr": attributes}
    with pytest.raises(InputRefused, match=r"changes nothing|DT_STRING"):
        read({"node_def": node, "constants": {}})


@pytest.mark.parametrize("wrapped", [False, True])
def test_an_operation_where_keras_3_takes_layers_only_is_refused(wrapped: bool) -> None:
    entry: dict[str, Any] = {"class_name": "TensorFlowOpLayer", "config": {"name": "a", **ADD}}
    if wrapped:
        entry = {"class_name": "TimeDistributed", "config": {"name": "t", "layer": entry}}
    first = {
        "class_name": "Activation",
        "config": {"name": "f", "activation": "relu", "batch_input_shape": [None, 4]},
    }
    text = json.dumps({"class_name": "Sequential", "config": {"name": "s", "layers": [first, entry]}})
    translation = translate(parse_model(text, where="the test"), [], keras_version="2.4.0")
    assert [problem.what for problem in translation.problems] == [
        "an operation where Keras 3 takes layers only: in a Sequential or a wrapper"
    ]


def test_a_call_on_another_number_of_tensors_is_refused() -> None:
    start = {"class_name": "InputLayer", "config": {"name": "x", "batch_input_shape": [None, 4]}}
    nodes = [[["x", 0, 0, {}], ["x", 0, 0, {}]]]
    layers = [
        {**start, "name": "x", "inbound_nodes": []},
        {
            "class_name": "TensorFlowOpLayer",
            "name": "a",
            "config": {"name": "a", **ADD},
            "inbound_nodes": nodes,
        },
    ]
    config = {"name": "m", "layers": layers, "input_layers": [["x", 0, 0]], "output_layers": [["a", 0, 0]]}
    model = parse_model(json.dumps({"class_name": "Functional", "config": config}), where="the test")
    with pytest.raises(InputRefused, match="called on 2 tensors"):
        translate(model, [], keras_version="2.4.0")
