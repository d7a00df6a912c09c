"""Functions of Lambda layers: named so that Keras 3 takes them from `custom_objects` and from nowhere else."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from remap import extract
from remap.architecture import parse_model
from remap.errors import InputRefused
from remap.keras3.conversion import translate
from remap.keras3.tensors import Translation
from remap.keras3.training import add_training

Case = Callable[[str, str], Path]
CODE = "4wEAAAA=\n"
BYTE_CODE = [CODE, None, None]


def lambda_layer(name: str, **config: Any) -> dict[str, Any]:
    stored = {"name": name, "function": BYTE_CODE, "function_type": "lambda", **config}
    return {"class_name": "Lambda", "config": stored}


def model(*layers: dict[str, Any], name: str = "model") -> dict[str, Any]:
    return {"class_name": "Sequential", "config": {"name": name, "layers": list(layers)}}


def translated(*layers: dict[str, Any]) -> Translation:
    first = {
        "class_name": "Activation",
        "config": {"name": "first", "activation": "relu", "batch_input_shape": [None, 4]},
    }
    architecture = parse_model(json.dumps(model(first, *layers)), where="the test")
    return translate(architecture, [], keras_version="2.2.4")


def functions(translation: Translation) -> list[Any]:
    layers = translation.config["config"]["layers"]
    return [one["config"]["function"] for one in layers if one["class_name"] == "Lambda"]


def test_byte_code_becomes_a_function_called_like_the_layer() -> None:
    translation = translated(lambda_layer("lambda_1", arguments={"scale": 0.5}))
    assert translation.problems == ()
    assert translation.custom_objects == ("lambda_1",)
    (function,) = functions(translation)
    assert (function["config"], function["module"]) == ("lambda_1", None)
    (note,) = translation.loading_notes
    assert "layer 'lambda_1' (Lambda), after 'first'" in note
    assert "(inputs, scale)" in note
    assert "custom_objects={'lambda_1': ...}" in note
    assert CODE not in json.dumps(translation.config)


def test_a_custom_class_without_a_name_in_its_config_may_stand_next_to_a_lambda() -> None:
    """`get_config` of a custom class need not call that of the base class, which gives the name."""
    odd: dict[str, Any] = {"class_name": "Odd", "config": {"depth": 2}}
    (note,) = translated(odd, lambda_layer("lambda_1")).loading_notes
    assert "layer 'lambda_1' (Lambda), after 'Odd'" in note


@pytest.mark.parametrize(("loss", "kept"), [("mse", True), ({"odd": "mse"}, False)])
def test_a_custom_class_without_a_name_in_its_config_may_be_the_output(loss: object, kept: bool) -> None:
    """A loss of an output of another name cannot be given to it: only Keras knows the name."""
    translation = translated({"class_name": "Odd", "config": {"depth": 2}})
    stored = {"optimizer_config": {"class_name": "SGD", "config": {"lr": 0.1}}, "loss": loss}
    trained = add_training(
        translation, [], training_config=json.dumps(stored), optimizer=None, outputs=("odd",)
    )
    assert (trained.config.get("compile_config") is not None) == kept
    assert any("names of outputs that are not those of the model" in note for note in trained.notes) != kept


def test_a_stored_function_name_is_kept() -> None:
    translation = translated(lambda_layer("l", function="double", function_type="function"))
    assert translation.custom_objects == ("double",)


def test_layers_of_one_name_in_two_models_get_functions_of_different_names() -> None:
    inner = [model(lambda_layer("l"), name=name) for name in ("one", "two")]
    translation = translated(*inner)
    assert translation.custom_objects == ("l", "l_function")
    assert "inside 'one'" in translation.loading_notes[0]
    assert "inside 'two'" in translation.loading_notes[1]


@pytest.mark.parametrize("taken", ["relu", "tanh", "zeros"])
def test_no_function_has_a_name_that_keras_may_look_up_for_something_else(taken: str) -> None:
    """Keras 3 looks up activations and initializers in `custom_objects`, too."""
    assert translated(lambda_layer(taken)).custom_objects == (f"{taken}_function",)


def test_no_function_has_the_name_of_a_text_that_is_an_argument_of_a_function() -> None:
    named = lambda_layer("resize", arguments={"name": "resize"})
    assert translated(named).custom_objects == ("resize_function",)


def test_an_activation_of_the_users_own_is_not_taken_for_one_that_only_keras_3_has() -> None:
    """Keras 3 has a `leaky_relu`; in an old file the name can only be a function of the user's own."""
    own = {"class_name": "Activation", "config": {"name": "a", "activation": "leaky_relu"}}
    translation = translated(own)
    assert translation.custom_objects == ("leaky_relu",)
    assert translation.config["config"]["layers"][-1]["config"]["activation"]["module"] is None


def test_arrays_stay_arrays_among_the_arguments() -> None:
    given = {"mean": {"type": "ndarray", "value": [1.5, 2]}, "axes": [1, 2], "how": {"a": None}}
    translation = translated(lambda_layer("l", arguments=given))
    written = translation.config["config"]["layers"][-1]["config"]["arguments"]
    assert written["mean"]["class_name"] == "__numpy__"
    assert written["mean"]["config"] == {"value": [1.5, 2.0], "dtype": "float64"}
    assert written["axes"] == [1, 2]
    assert written["how"] == {"a": None}


@pytest.mark.parametrize(
    "argument",
    [
        {"class_name": "Dense", "config": {"units": 3}},
        [{"class_name": "function", "config": "f"}],
        {"type": "ndarray", "value": [[1], [1, 2]]},
        {"type": "ndarray", "value": ["a"]},
    ],
)
def test_arguments_that_keras_3_would_read_as_something_else_are_refused(argument: Any) -> None:
    (problem,) = translated(lambda_layer("l", arguments={"x": argument})).problems
    assert isinstance(problem, InputRefused)
    assert "arguments of its function" in problem.what
    assert [remedy.argument for remedy in problem.remedies] == ["target='NAME.weights.h5'"]


@pytest.mark.parametrize(
    ("config", "written"),
    [
        ({"output_shape": [3, None], "output_shape_type": "raw"}, [3, None]),
        ({"output_shape": [[3], [4]], "output_shape_type": "raw"}, None),
        ({"output_shape": None, "output_shape_type": "raw"}, None),
        ({"output_shape": BYTE_CODE, "output_shape_type": "lambda"}, None),
    ],
)
def test_an_output_shape_is_kept_where_it_is_one_shape(config: dict[str, Any], written: Any) -> None:
    layer = translated(lambda_layer("l", **config)).config["config"]["layers"][-1]
    assert layer["config"].get("output_shape") == written


def test_report_says_what_the_file_opens_with(case: Case, tmp_path: Path) -> None:
    source = case("keras-2.2.4", "own_lambda") / "multi.h5"
    report = extract(source, tmp_path / "o.keras")
    assert len(report.custom_objects) == 1
    assert f"custom_objects={{'{report.custom_objects[0]}': ...}}" in report.notes[0]
    weights = extract(source, tmp_path / "o.weights.h5")
    assert weights.custom_objects == ()
    assert not any("custom_objects" in note for note in weights.notes)
