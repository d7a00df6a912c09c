"""A made-up model with multi-GPU wrappers inside becomes the same model without them, or it is refused.

What Keras would have saved without them is what `architectures` says, which knows nothing of wrappers.
"""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from remap.assignment.reference import Request, reference_from_json
from remap.checkpoint import Checkpoint, LayerGroup
from remap.conversion_plan import Plan
from remap.errors import RemapError
from remap.planning import compose
from tests.paper import parallel
from tests.property.architectures import Made, MadeLayer, config_of, groups_of, make
from tests.property.test_never_wrong import weight_of

Entry = dict[str, Any]
Change = Callable[[random.Random, Entry], None]


def wrapped(made: Made, chance: random.Random, change: Change | None = None) -> tuple[Entry, dict[str, str]]:
    """Give the config with some nested models in wrappers, and the names of the wrappers that are layers of the model."""
    names: dict[str, str] = {}

    def entry(layer: MadeLayer, depth: int) -> Entry:
        made_entry = config_of(layer)
        if layer.children is None:
            return made_entry
        made_entry["config"]["layers"] = [entry(child, depth + 1) for child in layer.children]
        if depth == 0 or chance.random() < 0.4:
            return made_entry
        name = f"parallel_{layer.name}"
        wrapper = parallel({"name": layer.name, **made_entry}, name=name, parts=chance.choice([2, 3]))
        if change is not None:
            wrapper = copy.deepcopy(wrapper)
            change(chance, wrapper)
        elif chance.random() < 0.2:
            name = f"again_{name}"
            wrapper = parallel(wrapper, name=name)
        if depth == 1:
            names[layer.name] = name
        del wrapper["name"]
        return wrapper

    return entry(made.template, 0), names


def saved(made: Made, config: Entry, names: dict[str, str], *, full: bool) -> Checkpoint:
    layers = tuple(
        LayerGroup(
            name=names.get(name, name), weights=tuple(weight_of(*weight, where="") for weight in weights)
        )
        for name, weights in groups_of(made)
    )
    text = json.dumps(config) if full else None
    return Checkpoint(root="/", layers=layers, keras_version="2.2.4", model_config=text)


def planned(checkpoint: Checkpoint, request: Request) -> Plan | None:
    try:
        return compose(checkpoint, request)
    except RemapError:
        return None


def answer(plan: Plan) -> list[tuple[str, list[str]]]:
    return [(layer.name, [weight.source.path for weight in layer.weights]) for layer in plan.layers]


def truth(made: Made) -> list[tuple[str, list[str]]]:
    return [(name, [weight_of(*one, where="").path for one in weights]) for name, weights in groups_of(made)]


@settings(max_examples=200, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_a_model_with_wrappers_inside_is_written_without_them(seed: int) -> None:
    chance = random.Random(seed)
    made = make(chance)
    config, names = wrapped(made, chance)
    plan = planned(saved(made, config, names, full=True), Request())
    if json.dumps(config) == json.dumps(config_of(made.template)):
        assert plan is None
        return
    assert plan is not None
    assert json.loads(plan.model_config or "") == config_of(made.template)
    assert answer(plan) == truth(made)


@settings(max_examples=200, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_a_weights_file_gets_the_names_and_keeps_the_order_or_is_refused(seed: int) -> None:
    """The reference model has the flags of the checkpoint, as far as a config has them."""
    chance = random.Random(seed)
    made = make(chance)
    config, names = wrapped(made, chance)
    like = reference_from_json(json.dumps(config_of(made.template)), where="like.json")
    plan = planned(saved(made, config, names, full=False), Request(like=like, order="saved"))
    if plan is not None and not (made.swapped and any("names" in note for note in plan.notes)):
        assert answer(plan) == truth(made)


def _lambdas(wrapper: Entry) -> list[Entry]:
    return [layer for layer in wrapper["config"]["layers"] if layer["class_name"] == "Lambda"]


def _own_code(chance: random.Random, wrapper: Entry) -> None:
    chance.choice(_lambdas(wrapper))["config"]["function"][0] = "4wEAAAAB"


def _argument(chance: random.Random, wrapper: Entry) -> None:
    key, value = chance.choice([("i", 7), ("i", -1), ("parts", 1), ("idx", 0), ("parts", None)])
    chance.choice(_lambdas(wrapper))["config"]["arguments"][key] = value


def _other_order(chance: random.Random, wrapper: Entry) -> None:
    chance.choice(
        [wrapper["config"]["layers"][-1]["inbound_nodes"][0], _model(wrapper)["inbound_nodes"]]
    ).reverse()


def _other_axis(chance: random.Random, wrapper: Entry) -> None:
    wrapper["config"]["layers"][-1]["config"]["axis"] = chance.choice([1, -1])


def _other_tensor(chance: random.Random, wrapper: Entry) -> None:
    chance.choice(wrapper["config"]["layers"][-1]["inbound_nodes"][0])[chance.choice([1, 2])] += 1


def _lost_slice(chance: random.Random, wrapper: Entry) -> None:
    chance.choice(_model(wrapper)["inbound_nodes"])[0][0] = "in"


def _kind_of_slice(chance: random.Random, wrapper: Entry) -> None:
    chance.choice(_lambdas(wrapper))["class_name"] = chance.choice(["Activation", "Odd", "Flatten"])


def _model(wrapper: Entry) -> Entry:
    found: Entry = next(layer for layer in wrapper["config"]["layers"] if "layers" in layer["config"])
    return found


CHANGES = [_own_code, _argument, _other_order, _other_axis, _other_tensor, _lost_slice, _kind_of_slice]


@pytest.mark.parametrize("change", CHANGES)
@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_a_changed_wrapper_is_never_replaced(change: Change, seed: int) -> None:
    chance = random.Random(seed)
    made = make(chance)
    config, names = wrapped(made, chance, change)
    plan = planned(saved(made, config, names, full=True), Request())
    assert plan is None
