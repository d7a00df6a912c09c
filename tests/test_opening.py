"""What keeps Keras 3 from opening an .h5 file is found in the architecture."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from remap import extract, inspect
from remap.architecture import parse_model
from remap.errors import TO_KERAS_3, TO_KERAS_3_WEIGHTS
from remap.keras3.opening import LoadModel, load_model_of

Case = Callable[[str, str], Path]

INPUT = {
    "class_name": "InputLayer",
    "config": {"name": "in", "batch_input_shape": [None, 4], "dtype": "float32"},
}


def layer(class_name: str, name: str = "it", **config: Any) -> dict[str, Any]:
    return {"class_name": class_name, "config": {"name": name, "trainable": True, **config}}


def functional(*layers: dict[str, Any], class_name: str = "Model") -> dict[str, Any]:
    """Chain layers after an input."""
    names = ["in", *(one["config"]["name"] for one in layers)]
    entries = [
        {**one, "name": name, "inbound_nodes": one.get("inbound_nodes", [[[before, 0, 0, {}]]])}
        for before, name, one in zip(names, names[1:], layers, strict=False)
    ]
    config = {
        "name": "m",
        "layers": [{**INPUT, "name": "in", "inbound_nodes": []}, *entries],
        "input_layers": [["in", 0, 0]],
        "output_layers": [[names[-1], 0, 0]],
    }
    return {"class_name": class_name, "config": config}


def sequential(*layers: dict[str, Any]) -> dict[str, Any]:
    return {"class_name": "Sequential", "config": {"name": "m", "layers": list(layers)}}


def found(model: dict[str, Any]) -> LoadModel:
    return load_model_of(parse_model(json.dumps(model), where="test"), tuple, keras_version="2.2.4")


DENSE: dict[str, Any] = {"units": 4, "activation": "relu", "use_bias": True}
OPENED = [
    functional(layer("Dense", **DENSE)),
    functional(layer("Dense", **DENSE, kernel_initializer={"class_name": "Zeros", "config": {}})),
    functional(layer("Embedding", input_dim=4, output_dim=2, input_length=7)),
    functional(layer("LeakyReLU", alpha=0.1)),
    sequential(INPUT, layer("Dense", **DENSE)),
]
OBSTACLES = [
    ("a Sequential model whose config is a list", {"class_name": "Sequential", "config": [layer("Dense", **DENSE)]}),
    ("a Sequential model without an InputLayer", sequential(layer("Dense", **DENSE, batch_input_shape=[None, 4]))),
    ("a model class of your own, 'Mine'", functional(layer("Dense", **DENSE), class_name="Mine")),
    ("the nested model 'm'", functional(functional(layer("Dense", **DENSE)))),
    ("the name of layer 'a/b' (Dense)", functional(layer("Dense", "a/b", **DENSE))),
    ("hard_sigmoid, which is steeper", functional(layer("Dense", units=4, activation="hard_sigmoid"))),
    ("hard_sigmoid", functional(layer("LSTM", units=4, activation="tanh", recurrent_activation="hard_sigmoid"))),
    ("the argument 'time_major'", functional(layer("LSTM", units=4, recurrent_activation="tanh", time_major=False))),
    ("the missing argument 'reset_after'", functional(layer("GRU", units=4, recurrent_activation="tanh"))),
    (
        "'dtype' in 'kernel_initializer'",
        functional(
            layer("Dense", **DENSE, kernel_initializer={"class_name": "Zeros", "config": {"dtype": "float32"}})
        ),
    ),
    ("the inner layer", functional(layer("TimeDistributed", layer=layer("Dense", "inner", **DENSE)))),
    ("the cells", functional(layer("RNN", cell=layer("LSTMCell", "cell", units=4)))),
    ("the class of layer 'it' (CuDNNLSTM)", functional(layer("CuDNNLSTM", units=4))),
    ("the class of layer 'it' (ThresholdedReLU)", functional(layer("ThresholdedReLU", theta=1.0))),
    ("the class", functional(layer("LocallyConnected1D", filters=2, kernel_size=[3]))),
    ("the Python code", functional(layer("Lambda", function=["code", None, None], function_type="lambda"))),
    ("the axes", functional(layer("LayerNormalization", axis=[1, 2], center=True, epsilon=0.1, scale=True))),
    ("the dtype policy", functional(layer("Dense", **DENSE, dtype={"class_name": "Policy", "config": {}}))),
    (
        "a call",
        functional(layer("SimpleRNN", units=4, activation="tanh", inbound_nodes=[])
                   | {"inbound_nodes": [[["in", 0, 0, {}], ["in", 0, 0, {}]]]}),
    ),
]  # fmt: skip


@pytest.mark.parametrize("model", OPENED)
def test_opens_what_keras_3_reads_as_it_was_written(model: dict[str, Any]) -> None:
    assert found(model) == LoadModel(obstacle="", custom_objects=(), remedies=())


@pytest.mark.parametrize(("obstacle", "model"), OBSTACLES, ids=[obstacle for obstacle, _ in OBSTACLES])
def test_names_what_keras_3_does_not_read(obstacle: str, model: dict[str, Any]) -> None:
    assert obstacle in found(model).obstacle


def test_an_unreadable_config_is_an_obstacle() -> None:
    assert found(functional(layer("Dense", units=4, activation=[1]))).obstacle.startswith("text was expected")


def test_names_the_classes_that_custom_objects_must_have() -> None:
    twice = functional(layer("Mine", "a"), layer("Yours", "b"), layer("Mine", "c"))
    assert found(twice) == LoadModel(obstacle="", custom_objects=("Mine", "Yours"), remedies=())


@pytest.mark.parametrize(
    ("name", "obstacle", "remedies"),
    [("conv_bn", "", ()), ("nested", "the nested model 'backbone'", (TO_KERAS_3,))],
)
def test_reports_and_inspections_say_which_format_keras_3_opens(
    case: Case, tmp_path: Path, name: str, obstacle: str, remedies: tuple[object, ...]
) -> None:
    multi = case("keras-2.2.4", name) / "multi.h5"
    report = extract(multi, tmp_path / "out.h5")
    inside, single = inspect(multi), inspect(tmp_path / "out.h5")
    for told in (report, inside, single):
        assert (told.keras3_obstacle, told.remedies) == (obstacle, remedies)
    assert extract(multi, tmp_path / "out.keras").keras3_obstacle == ""
    assert extract(multi, tmp_path / "weights.h5", weights_only=True).keras3_obstacle == ""


def test_weights_are_offered_where_the_architecture_cannot_be_written() -> None:
    assert found(functional(layer("LocallyConnected1D", filters=2, kernel_size=[3]))).remedies == (
        TO_KERAS_3_WEIGHTS,
    )
