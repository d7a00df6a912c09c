"""What a stack takes is found where its config says it, and nowhere else."""

from __future__ import annotations

import json
from typing import Any

import pytest

from remap.keras.config import parse_model
from remap.keras.inputs import input_of


def _stack(*layers: dict[str, Any], **config: Any) -> dict[str, Any]:
    return {"class_name": "Sequential", "config": {"name": "stack", "layers": list(layers), **config}}


def _dense(**config: Any) -> dict[str, Any]:
    return {"class_name": "Dense", "config": {"name": "dense", "units": 2, **config}}


def _model(*inputs: str) -> dict[str, Any]:
    layers = [
        {"class_name": "InputLayer", "config": {"name": name, "batch_input_shape": [None, 5]}, "name": name}
        for name in ("one", "two")
    ]
    ends = {"input_layers": [[name, 0, 0] for name in inputs], "output_layers": [["one", 0, 0]]}
    return {"class_name": "Model", "config": {"name": "model", "layers": layers, **ends}}


@pytest.mark.parametrize(
    ("model", "shape"),
    [
        (_stack(_dense(batch_input_shape=[None, 3])), [None, 3]),
        (_stack(_dense(batch_input_shape={"class_name": "__tuple__", "items": [None, 3]})), [None, 3]),
        (_stack(_stack(_dense(batch_input_shape=[None, 3]))), [None, 3]),
        (_stack(_model("two")), [None, 5]),
        (_stack(_dense(), build_input_shape=[7, 4]), [None, 4]),
        (_stack(_dense()), None),
        (_stack(_model()), None),
        (_stack(_model("one", "two")), None),
        (_stack(_model("nowhere")), None),
        (_stack(), None),
    ],
)
def test_finds_the_shape_where_a_config_says_it(model: dict[str, Any], shape: list[Any] | None) -> None:
    found = input_of(parse_model(json.dumps(model), where="model.json"))
    assert (found and found[0]) == shape
