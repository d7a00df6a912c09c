"""The table of layer classes against layers that real Keras built."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest

from remap.architecture import parse_model
from remap.assignment.decide import decide
from remap.assignment.expected import expected_model, iter_layers
from remap.assignment.reading import lists
from remap.checkpoint import Weight
from tests.conftest import FIXTURES

ERAS = sorted(path.parent.name for path in FIXTURES.glob("*/zoo.json"))

# What the table leaves to position, as it does the user's own classes: the averages of renormalisation differ
# between releases, and Keras 2.0 does not write down what a cell is like.
LEFT_OPEN = ("renorm", "RNN(")


def zoo(era: str) -> dict[str, dict[str, Any]]:
    content: dict[str, dict[str, Any]] = json.loads((FIXTURES / era / "zoo.json").read_text())["layers"]
    # The recorder could not write this one's config as JSON.
    return {key: entry for key, entry in content.items() if "backward_layer" not in key}


def states(entry: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    """Give each recorded state of a layer with the config that Keras writes for it."""
    found = [("as built", entry)]
    found += [(name, entry[name]) for name in ("frozen", "inner_frozen") if entry.get(name)]
    return found


def config_with(entry: dict[str, Any], flags: dict[str, bool]) -> dict[str, Any]:
    config: dict[str, Any] = copy.deepcopy(entry["config"])
    for path, value in flags.items():
        *above, last = path.split("/")
        place: Any = config
        for part in above:
            place = place[int(part) if isinstance(place, list) else part]
        place[last] = value
    return config


def model_around(entry: dict[str, Any], config: dict[str, Any]) -> str:
    """Put the layer between two others, as the middle of a stack."""
    layers = [
        {"class_name": "Dense", "config": {"name": "first", "units": 3, "trainable": True}},
        {"class_name": entry["class_name"], "config": config},
        {"class_name": "Dense", "config": {"name": "last", "units": 3, "trainable": True}},
    ]
    return json.dumps({"class_name": "Sequential", "config": {"name": "model", "layers": layers}})


def listed(entry: list[list[Any]]) -> list[Weight]:
    return [
        Weight(name=name, path=f"{number} of {id(entry)}", shape=tuple(shape), dtype=dtype)
        for number, (name, shape, dtype) in enumerate(entry)
    ]


@pytest.mark.parametrize("era", ERAS)
def test_every_built_in_layer_owns_what_keras_gave_it(era: str) -> None:
    wrong: list[str] = []
    for key, entry in zoo(era).items():
        for state, weights in states(entry):
            middle = listed(weights["trainable"])
            rest = listed(weights["non_trainable"])
            flat = [
                *listed([["first/kernel:0", [3, 3], "float32"], ["first/bias:0", [3], "float32"]]),
                *middle,
                *listed([["last/kernel:0", [3, 3], "float32"], ["last/bias:0", [3], "float32"]]),
                *rest,
            ]
            model = parse_model(model_around(entry, config_with(entry, weights["flags"])), where=key)
            layers = expected_model(model)
            choice = decide(flat, layers, inside=False)
            if choice.reading is None:
                wrong.append(f"{key} {state}: {choice}")
                continue
            owned = lists(layers, choice.reading)
            expected = [flat.index(weight) for weight in (*middle, *rest)]
            got = list(owned[1]) if len(owned) == 3 else []
            if got != expected:
                wrong.append(f"{key} {state}: {got} for {expected}")
    assert wrong == []


@pytest.mark.parametrize("era", ERAS)
def test_no_built_in_layer_counts_as_custom(era: str) -> None:
    unknown = []
    for key, entry in zoo(era).items():
        model = parse_model(model_around(entry, entry["config"]), where=key)
        if any(layer.custom for layer in iter_layers(expected_model(model))):
            unknown.append(key)
    assert [key for key in unknown if not any(part in key for part in LEFT_OPEN)] == []
