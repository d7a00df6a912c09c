"""Operations of TensorFlow: written where all of them is known, refused by name elsewhere."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from remap.errors import InputRefused
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
