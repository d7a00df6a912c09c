"""What a stack takes is found where its config says it, and nowhere else."""

from __future__ import annotations

import json
from typing import Any

import pytest

from remap.architecture import input_of, parse_model
from tests.paper import dense, entry, stack


def _model(*inputs: str) -> dict[str, Any]:
    layers = [entry(name, "InputLayer", batch_input_shape=[None, 5]) for name in ("one", "two")]
    ends = {"input_layers": [[name, 0, 0] for name in inputs], "output_layers": [["one", 0, 0]]}
    return entry("model", "Model", layers=layers, **ends)


def _built(*layers: dict[str, Any], shape: list[Any]) -> dict[str, Any]:
    return entry("stack", "Sequential", layers=list(layers), build_input_shape=shape)


@pytest.mark.parametrize(
    ("model", "shape"),
    [
        (stack(dense("a", batch_input_shape=[None, 3])), [None, 3]),
        (stack(dense("a", batch_input_shape={"class_name": "__tuple__", "items": [None, 3]})), [None, 3]),
        (stack(stack(dense("a", batch_input_shape=[None, 3]))), [None, 3]),
        (stack(_model("two")), [None, 5]),
        (_built(dense("a"), shape=[7, 4]), [None, 4]),
        (stack(dense("a")), None),
        (stack(_model()), None),
        (stack(_model("one", "two")), None),
        (stack(_model("nowhere")), None),
        (stack(), None),
    ],
)
def test_finds_the_shape_where_a_config_says_it(model: dict[str, Any], shape: list[Any] | None) -> None:
    found = input_of(parse_model(json.dumps(model), where="model.json"))
    assert (found and found[0]) == shape
