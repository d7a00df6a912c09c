"""Masks that Keras 3 would make otherwise are found wherever a layer uses them, in work that is bounded."""

from __future__ import annotations

import json
from typing import Any

import pytest

from remap.architecture import parse_model
from remap.errors import InputRefused, RemapError, Undecided
from remap.keras3 import graph as graphs
from remap.keras3 import masks
from remap.keras3.conversion import translate
from remap.keras3.masks import mask_problems
from remap.layers.declaration import Writer

Entry = tuple[str, str, dict[str, Any], list[list[str]]]
"""A layer's name, class and config, and the names of the layers that each of its calls takes."""

TWO_MASKS: list[Entry] = [
    ("a", "InputLayer", {"batch_input_shape": [None, 5]}, []),
    ("b", "InputLayer", {"batch_input_shape": [None, 5]}, []),
    ("mask_a", "Embedding", {"input_dim": 9, "output_dim": 4, "mask_zero": True}, [["a"]]),
    ("mask_b", "Embedding", {"input_dim": 9, "output_dim": 4, "mask_zero": True}, [["b"]]),
    ("plain_b", "Embedding", {"input_dim": 9, "output_dim": 4, "mask_zero": False}, [["b"]]),
]


# What Keras always writes of these classes.
ALWAYS: dict[str, dict[str, Any]] = {
    "Conv1D": {"filters": 4, "kernel_size": [1]},
    "Dense": {"units": 4},
    "LSTM": {"units": 2},
    "Normalization": {"axis": [-1]},
    "SimpleRNN": {"units": 2},
    "Rescaling": {"scale": 2.0, "offset": 0.0},
}


def graph(entries: list[Entry], inputs: list[str], outputs: list[str]) -> dict[str, Any]:
    """Describe a functional model; a name such as ``m:1`` stands for that call of the layer."""
    models = {name for name, _, config, _ in entries if "layers" in config}

    def tensor(name: str) -> list[Any]:
        base, _, call = name.partition(":")
        return [base, int(call or 0) + (base in models), 0]

    layers: list[dict[str, Any]] = [
        {
            "name": name,
            "class_name": class_name,
            "config": {"name": name, **ALWAYS.get(class_name, {}), **config},
            "inbound_nodes": [[[*tensor(one), {}] for one in call] for call in calls],
        }
        for name, class_name, config, calls in entries
    ]
    return {
        "layers": layers,
        "input_layers": [[name, 0, 0] for name in inputs],
        "output_layers": [tensor(name) for name in outputs],
    }


def problems(config: dict[str, Any], version: str = "2.2.4") -> tuple[RemapError, ...]:
    text = json.dumps({"class_name": "Model", "config": {"name": "whole", **config}})
    return mask_problems(parse_model(text, where="the test"), Writer(version))


def after_two_masks(*entries: Entry) -> tuple[RemapError, ...]:
    return problems(graph([*TWO_MASKS, *entries], ["a", "b"], [entries[-1][0]]))


ADD: Entry = ("add", "Add", {}, [["mask_a", "mask_b"]])


@pytest.mark.parametrize("between", ["Dropout", "Dense", "OfTheUser", "SpatialDropout2D"])
def test_masks_that_meet_are_refused_whatever_stands_before_the_layer_that_uses_them(between: str) -> None:
    found = after_two_masks(
        ADD, ("between", between, {}, [["add"]]), ("lstm", "LSTM", {"units": 2}, [["between"]])
    )
    assert "layer 'add' (Add), where masks meet" in [one.where for one in found]
    assert all(
        "would be different in Keras 3" in one.what for one in found if one.where.startswith("layer 'add'")
    )


@pytest.mark.parametrize("user", ["OfTheUser", "Lambda"])
def test_code_of_the_user_may_use_a_mask_that_would_be_another(user: str) -> None:
    (found, *_) = after_two_masks(ADD, ("own", user, {}, [["add"]]))
    assert isinstance(found, InputRefused)
    assert "'own' uses would be different" in found.what


@pytest.mark.parametrize("reader", ["LSTM", "GlobalAveragePooling1D", "AnotherOfTheUser"])
def test_what_a_custom_layer_makes_of_a_mask_is_unknown(reader: str) -> None:
    (found,) = after_two_masks(("own", "OfTheUser", {}, [["mask_a"]]), ("last", reader, {}, [["own"]]))
    assert isinstance(found, Undecided)
    assert "what class 'OfTheUser' does with masks is not known" in found.what
    assert found.where == "layer 'own' (OfTheUser)"


def steps(name: str, above: str, class_name: str, **config: Any) -> Entry:
    """Describe a layer in TimeDistributed."""
    inner = {
        "class_name": class_name,
        "config": {"name": f"{name}_step", **ALWAYS.get(class_name, {}), **config},
    }
    return name, "TimeDistributed", {"layer": inner}, [[above]]


def under_mask(*entries: Entry, shape: tuple[int | None, ...] = (None, 3, 5)) -> tuple[RemapError, ...]:
    """Find problems of layers behind an Embedding of words in sentences, which makes a mask of (batch, 3, 5)."""
    words: list[Entry] = [
        ("a", "InputLayer", {"batch_input_shape": list(shape)}, []),
        ("mask", "Embedding", {"input_dim": 9, "output_dim": 4, "mask_zero": True}, [["a"]]),
    ]
    return problems(graph([*words, *entries], ["a"], [entries[-1][0]]))


READER: Entry = ("last", "LSTM", {"units": 2}, [["steps"]])


def test_what_a_custom_layer_inside_time_distributed_makes_of_a_mask_is_unknown() -> None:
    own = steps("steps", "mask", "OfTheUser")
    assert under_mask(own) == ()
    (found,) = under_mask(own, READER)
    assert isinstance(found, Undecided)
    assert "what class 'OfTheUser' does with masks is not known" in found.what


@pytest.mark.parametrize("class_name", ["LSTM", "Dense", "Lambda", "Softmax"])
def test_layers_inside_time_distributed_are_given_the_same_mask(class_name: str) -> None:
    assert under_mask(steps("steps", "mask", class_name), ("last", "Dense", {}, [["steps"]])) == ()


@pytest.mark.parametrize("class_name", ["LSTM", "Lambda", "Conv1D"])
def test_a_mask_of_more_axes_than_time_that_ends_inside_time_distributed_is_another(class_name: str) -> None:
    (found,) = under_mask(steps("steps", "mask", class_name), READER)
    assert isinstance(found, InputRefused)
    assert found.where == "layer 'steps' (TimeDistributed)"


def test_a_mask_of_time_alone_stays_the_same_where_it_ends_inside_time_distributed() -> None:
    assert under_mask(steps("steps", "mask", "Lambda"), READER, shape=(None, 5)) == ()


def test_a_mask_of_unknown_axes_that_ends_inside_time_distributed_may_be_another() -> None:
    (found,) = after_two_masks(
        ("reshape", "Permute", {"dims": [1, 2]}, [["plain_b"]]),
        ("mask", "Masking", {"mask_value": 0.0}, [["reshape"]]),
        steps("steps", "mask", "Lambda"),
        READER,
    )
    assert isinstance(found, InputRefused)


def test_old_keras_gives_no_mask_to_layers_inside_time_distributed_for_a_fixed_batch_size() -> None:
    entry = steps("steps", "mask", "LSTM")
    assert under_mask(entry, shape=(None, 3, 5)) == ()
    (found,) = under_mask(entry, shape=(4, 3, 5))
    assert isinstance(found, InputRefused)


@pytest.mark.parametrize(
    ("version", "kind"),
    [("2.1.6", InputRefused), ("2.1.6-tf", Undecided), ("2.2.4-tf", None), ("2.4.0", None)],
)
def test_only_some_releases_give_masks_to_layers_inside_time_distributed(
    version: str, kind: type[RemapError] | None
) -> None:
    config = graph(
        [
            ("a", "InputLayer", {"batch_input_shape": [None, 3, 5]}, []),
            ("mask", "Embedding", {"input_dim": 9, "output_dim": 4, "mask_zero": True}, [["a"]]),
            steps("steps", "mask", "SimpleRNN"),
        ],
        ["a"],
        ["steps"],
    )
    assert [type(one) for one in problems(config, version)] == ([] if kind is None else [kind])


def test_time_distributed_of_keras_3_takes_no_mask_of_one_axis() -> None:
    twice = steps("steps", "mask", "TimeDistributed", layer={"class_name": "Dense", "config": {"units": 2}})
    assert under_mask(twice, ("last", "Dense", {}, [["steps"]])) == ()
    (found,) = under_mask(twice, shape=(None, 5))
    assert isinstance(found, InputRefused)


@pytest.mark.parametrize("config", [{"mask_zero": True}, {"mask_value": 0.0}])
def test_a_custom_layer_with_the_arguments_of_a_mask_may_make_one(config: dict[str, Any]) -> None:
    entries: list[Entry] = [
        ("a", "InputLayer", {}, []),
        ("own", "OfTheUser", config, [["a"]]),
        ("lstm", "LSTM", {"units": 2}, [["own"]]),
    ]
    (found,) = problems(graph(entries, ["a"], ["lstm"]))
    assert isinstance(found, Undecided)


@pytest.mark.parametrize(
    "entries",
    [
        # Nobody uses the mask after it.
        [("own", "OfTheUser", {}, [["mask_a"]]), ("dense", "Dense", {}, [["own"]])],
        # No mask comes near it.
        [("own", "OfTheUser", {}, [["plain_b"]]), ("lstm", "LSTM", {}, [["own"]])],
        # The mask ends before it.
        [
            ("conv", "Conv1D", {}, [["mask_a"]]),
            ("own", "OfTheUser", {}, [["conv"]]),
            ("lstm", "LSTM", {}, [["own"]]),
        ],
        # One mask, two ways.
        [
            ("left", "Dropout", {}, [["mask_a"]]),
            ("both", "Add", {}, [["left", "mask_a"]]),
            ("lstm", "LSTM", {}, [["both"]]),
        ],
    ],
)
def test_masks_that_stay_the_same_are_no_problem(entries: list[Entry]) -> None:
    assert after_two_masks(*entries) == ()


@pytest.mark.parametrize("class_name", ["Rescaling", "Normalization"])
def test_a_mask_that_ended_and_goes_on_in_keras_3_is_refused(class_name: str) -> None:
    (found,) = after_two_masks(("scale", class_name, {}, [["mask_a"]]), ("lstm", "LSTM", {}, [["scale"]]))
    assert isinstance(found, InputRefused)
    assert found.where == f"layer 'scale' ({class_name})"


def test_layers_connected_in_a_circle_are_refused() -> None:
    circle: list[Entry] = [("x", "Dense", {}, [["y"]]), ("y", "Dense", {}, [["x"]])]
    with pytest.raises(InputRefused, match="in a circle"):
        after_two_masks(*circle)


def doubling(depth: int, *, ends: int = 1) -> dict[str, Any]:
    """Nest models each of which calls the next one twice, the second time on what the first gave."""
    names = [f"in_{number}" for number in range(ends)]
    feeds: list[Entry] = [(name, "InputLayer", {"batch_input_shape": [None, 5]}, []) for name in names]
    if depth == 0:
        inner: list[Entry] = [("inner", "Dense", {"units": 4}, [[names[0]], ["inner"]])]
        return graph([*feeds, *inner], names, ["inner:1"])
    calls = [list(names), ["inner", *names[:0:-1]]]
    return graph([*feeds, ("inner", "Model", doubling(depth - 1, ends=ends), calls)], names, ["inner:1"])


def masked(inner: dict[str, Any], ends: int = 1) -> dict[str, Any]:
    feeds = [*TWO_MASKS[:1], TWO_MASKS[2]]
    reader: list[Entry] = [("lstm", "LSTM", {"units": 2}, [["inner"]])]
    return graph([*feeds, ("inner", "Model", inner, [["mask_a"] * ends]), *reader], ["a"], ["lstm"])


def test_models_that_call_models_twice_are_followed_in_linear_work(monkeypatch: pytest.MonkeyPatch) -> None:
    followed: list[str] = []
    read_graph = graphs.read_graph

    def counting(model: Any, *rest: Any) -> Any:
        followed.append(model.name)
        return read_graph(model, *rest)

    monkeypatch.setattr(masks, "read_graph", counting)
    counts = []
    for depth in (5, 10, 20):
        followed.clear()
        assert problems(masked(doubling(depth))) == ()
        counts.append(len(followed))
    assert counts[2] - counts[1] == 2 * (counts[1] - counts[0]) <= 20 * 2


def test_models_called_in_more_ways_than_can_be_followed_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    assert problems(masked(doubling(6, ends=3), ends=3)) == ()
    monkeypatch.setattr(masks, "_VISITS", 0)
    with pytest.raises(InputRefused, match="in too many ways"):
        problems(masked(doubling(6, ends=3), ends=3))


def test_calls_may_be_listed_against_their_order() -> None:
    steps: list[Entry] = [("step_0", "Dense", {}, [["mask_a"]])]
    steps += [(f"step_{number}", "Dense", {}, [[f"step_{number - 1}"]]) for number in range(1, 3000)]
    lstm: Entry = ("lstm", "LSTM", {"units": 2}, [["step_2999"]])
    assert problems(graph([lstm, *reversed(steps), *TWO_MASKS], ["a", "b"], ["lstm"])) == ()


def test_softmax_after_a_custom_layer_that_may_make_a_mask_is_written_as_an_activation() -> None:
    own = {
        "class_name": "OfTheUser",
        "config": {"name": "own", "mask_zero": True, "batch_input_shape": [None, 5]},
    }
    softmax = {"class_name": "Softmax", "config": {"name": "softmax", "axis": -1}}
    text = json.dumps({"class_name": "Sequential", "config": {"name": "whole", "layers": [own, softmax]}})
    translation = translate(parse_model(text, where="the test"), (), keras_version="2.2.4")
    assert [entry["class_name"] for entry in translation.config["config"]["layers"]][-1] == "Activation"
