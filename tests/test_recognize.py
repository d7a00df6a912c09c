from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from remap import InputRefused, NothingToExtract, Undecided
from remap.architecture import Layer
from remap.checkpoint import Checkpoint
from remap.inspection import inspection_of
from remap.recognize import choose, recognize
from remap.wrappers import unwrap
from tests.paper import dense, entry, group, model, replicated, stack

INNER = ("dense_1/kernel", "dense_1/bias", "dense_2/kernel", "dense_2/bias")


def wrapper_like(
    *,
    slices: tuple[list[str], list[str]] = (["input_1"], ["input_1"]),
    calls: list[list[str]] | None = None,
    merge: dict[str, Any] | None = None,
    more: tuple[dict[str, Any], ...] = (),
) -> Layer:
    inner = stack(dense("dense_1"), dense("dense_2"))
    inner["inbound_nodes"] = [[[n, 0, 0] for n in call] for call in calls or [["slice_0"], ["slice_1"]]]
    join = merge or {"axis": 0}
    nodes = [[["model_1", 1, 0, {}], ["model_1", 2, 0, {}]]]
    out = {"name": "out", "class_name": join.pop("class_name", "Concatenate"), "inbound_nodes": nodes}
    return model(
        entry("input_1", "InputLayer"),
        entry("input_2", "InputLayer"),
        entry("slice_0", "Lambda", [slices[0]]),
        entry("slice_1", "Lambda", [slices[1]]),
        inner,
        {**out, "config": {"name": "out", **join}},
        *more,
        outputs=("out",),
    )


def test_a_replicated_model_is_found_by_structure() -> None:
    found = unwrap(wrapper_like())
    assert found is not None
    assert (found[0].name, found[1]) == ("model_1", 2)


def test_the_merge_of_keras_1_counts_too() -> None:
    merge = {"class_name": "Merge", "mode": "concat", "concat_axis": 0}
    assert unwrap(wrapper_like(merge=merge)) is not None


@pytest.mark.parametrize(
    "different",
    [
        {"merge": {"axis": -1}},  # two views side by side
        {"merge": {"class_name": "Add"}},
        {"slices": (["input_1"], ["input_2"])},  # two inputs, as in a siamese network
        {"calls": [["input_1"], ["input_1"]]},  # nothing is sliced
        {"calls": [["slice_0"]]},  # called once
        {"calls": [["slice_0"], ["model_1"]]},  # called on its own output
        {"more": (dense("head"),)},  # something else has weights
    ],
)
def test_what_only_looks_alike_is_no_wrapper(different: dict[str, Any]) -> None:
    assert unwrap(wrapper_like(**different)) is None


def test_a_model_whose_output_is_no_layer_is_no_wrapper() -> None:
    made = wrapper_like()
    assert made.children is not None
    assert unwrap(model(outputs=("nowhere",))) is None


def test_a_wrapper_in_a_wrapper_is_opened_whole() -> None:
    inner = stack(dense("dense_1"), name="model_1")
    inner["inbound_nodes"] = [[["s", 0, 0]], [["t", 0, 0]]]
    middle_layers = [
        entry("i", "InputLayer"),
        entry("s", "Lambda", [["i"]]),
        entry("t", "Lambda", [["i"]]),
        inner,
        {
            **entry("o", "Concatenate", axis=0),
            "inbound_nodes": [[["model_1", 1, 0, {}], ["model_1", 2, 0, {}]]],
        },
    ]
    middle = {
        "name": "middle",
        "class_name": "Model",
        "config": {
            "name": "middle",
            "layers": middle_layers,
            "input_layers": [],
            "output_layers": [["o", 0, 0]],
        },
        "inbound_nodes": [[["u", 0, 0]], [["v", 0, 0]]],
    }
    outer = model(
        entry("x", "InputLayer"),
        entry("u", "Lambda", [["x"]]),
        entry("v", "Lambda", [["x"]]),
        middle,
        {
            **entry("y", "Concatenate", axis=0),
            "inbound_nodes": [[["middle", 1, 0, {}], ["middle", 2, 0, {}]]],
        },
        outputs=("y",),
    )
    checkpoint = Checkpoint(
        root="/", layers=(group("x"), group("u"), group("v"), group("middle", *INNER[:2]), group("y"))
    )
    recognition = recognize(checkpoint, outer)
    assert recognition.wrapper
    assert [(one.path, one.replicas) for one in recognition.inner] == [(("middle",), 2)]
    for submodel in (None, "middle", "model_1"):
        found = choose(recognition, submodel=submodel)
        assert (found.group.name, found.name, found.replicas) == ("middle", "model_1", 4)
    checkpoint = replace(checkpoint, model_config=json.dumps(outer.entry))
    inspection = inspection_of(checkpoint, source="multi.h5", size=0)
    assert (inspection.kind, inspection.template, inspection.replicas) == ("multi-gpu", "model_1", 4)
    assert [part.name for part in inspection.models] == ["model_1"]
    assert [part.role for part in inspection.layers] == ["input", "slice", "slice", "layer", "merge"]
    assert [part.name for part in inspection.models[0].layers] == ["dense_1"]


def test_weights_file_tells_its_replicas_by_the_slices() -> None:
    assert choose(recognize(replicated(*INNER, gpus=4), None), submodel=None).replicas == 4
    assert choose(recognize(replicated(*INNER, gpus=3, inputs=2), None), submodel=None).replicas == 3


def test_slices_of_other_names_hide_their_number_only() -> None:
    layers = (group("in"), group("cut_a"), group("cut_b"), group("model_1", *INNER), group("out"))
    found = choose(recognize(Checkpoint(root="/", layers=layers), None), submodel=None)
    assert found.replicas is None


@pytest.mark.parametrize(
    "layers",
    [
        (group("in"), group("lambda_1"), group("lambda_2"), group("dense_1", *INNER[:2]), group("out")),
        (group("in"), group("model_1", *INNER), group("out")),
        (group("dense_1", *INNER[:2]), group("dense_2", *INNER[2:])),
        (group("model_1", *INNER), group("fc", "fc/kernel")),
        (
            group("a"), group("b"), group("c"),
            group("bi", "bi/forward_lstm/kernel", "bi/backward_lstm/lstm_cell_1/kernel"), group("d"),
        ),
    ],
)  # fmt: skip
def test_single_models_are_no_wrappers(layers: tuple[Any, ...]) -> None:
    recognition = recognize(Checkpoint(root="/", layers=layers), None)
    assert (recognition.kind, recognition.template) == ("single", None)
    with pytest.raises(NothingToExtract, match="already a single model"):
        choose(recognition, submodel=None)


def test_a_file_without_weights_is_refused() -> None:
    recognition = recognize(Checkpoint(root="/", layers=(group("in"),)), None)
    assert recognition.kind == "empty"
    for submodel in (None, "in"):
        with pytest.raises(InputRefused, match="holds no weights"):
            choose(recognition, submodel=submodel)


def test_several_models_are_listed_and_chosen_by_name() -> None:
    layers = (group("z"), group("gen", *INNER), group("disc", *INNER))
    checkpoint = Checkpoint(root="/", layers=layers)
    recognition = recognize(checkpoint, None)
    assert recognition.kind == "several"
    with pytest.raises(Undecided, match="2 models with weights: gen, disc") as caught:
        choose(recognition, submodel=None)
    assert [(one.option, one.value) for one in caught.value.remedies] == [
        ("submodel", "gen"),
        ("submodel", "disc"),
    ]
    assert choose(recognition, submodel="disc").group.name == "disc"
    with pytest.raises(Undecided, match="no model with weights is called 'z'"):
        choose(recognition, submodel="z")


def test_no_more_than_five_models_are_suggested() -> None:
    layers = tuple(group(f"net_{number}", *INNER) for number in range(7))
    with pytest.raises(Undecided, match="net_6") as caught:
        choose(recognize(Checkpoint(root="/", layers=layers), None), submodel=None)
    assert [one.value for one in caught.value.remedies] == [f"net_{number}" for number in range(5)]
