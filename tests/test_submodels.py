"""Any model inside a model is extracted alone: by its path, or by its name where only one has it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from remap import InputRefused, Undecided
from remap.assignment.reference import Request, reference_from_json
from remap.checkpoint import Checkpoint
from remap.planning import compose, compose_for_keras3
from remap.recognize import own_architecture, recognize
from tests.paper import dense, entry, group, listed, parallel, replicated, stack

Entry = dict[str, Any]

INNER = ("dense_1/kernel", "dense_1/bias")
CORE = stack(stack(dense("dense_1"), name="backbone"), dense("dense_2"), name="core")
CORE_WEIGHTS = (*INNER, "dense_2/kernel", "dense_2/bias")


def saved(*layers: Entry, full: bool = True) -> Checkpoint:
    """Save a stack of models with the weights of `CORE`, and a Dense layer."""
    groups = tuple(group(one["name"], *(CORE_WEIGHTS if "layers" in one["config"] else ())) for one in layers)
    config = json.dumps(stack(*layers, name="whole")) if full else None
    return Checkpoint(root="/", layers=groups, model_config=config, training_config='{"loss": "mse"}')


def multi(*, full: bool) -> Checkpoint:
    wrapper = parallel(CORE, name="wrapper")
    config = json.dumps(wrapper) if full else None
    layers = tuple(
        group(one["name"], *(CORE_WEIGHTS if one["name"] == "core" else ()))
        for one in wrapper["config"]["layers"]
    )
    return Checkpoint(root="/", layers=layers, model_config=config)


def names(checkpoint: Checkpoint, submodel: str, **request: Any) -> tuple[str, list[str]]:
    plan = compose(checkpoint, Request(submodel=submodel, **request))
    return plan.template, [weight.name for layer in plan.layers for weight in layer.weights]


BACKBONE = ("backbone", [f"{name}:0" for name in INNER])


@pytest.mark.parametrize("submodel", ["core/backbone", "backbone"])
def test_a_nested_model_is_found_by_its_path_and_by_its_name(submodel: str) -> None:
    assert names(saved(CORE, dense("head")), submodel) == BACKBONE
    assert names(multi(full=True), submodel) == BACKBONE


@pytest.mark.parametrize("submodel", ["core/backbone", "backbone"])
def test_the_reference_model_of_a_weights_file_describes_the_model_around(submodel: str) -> None:
    like = reference_from_json(json.dumps(CORE), where="model.json")
    assert names(multi(full=False), submodel, like=like) == BACKBONE


def test_a_nested_model_comes_without_training_state_and_says_what_is_left() -> None:
    plan = compose(saved(CORE, dense("head")), Request(submodel="backbone"))
    assert (plan.training_config, plan.optimizer, plan.settled_by) == (None, None, "architecture")
    assert json.loads(plan.model_config or "") == {
        "class_name": "Sequential",
        "config": stack(dense("dense_1"), name="backbone")["config"],
    }
    assert plan.left_behind == (
        "2 weights of layers outside the nested model",
        "training configuration and optimizer state: they belong to the whole file, not to this model",
    )


def test_weights_only_leaves_the_architecture_of_a_nested_model_out() -> None:
    plan = compose(saved(CORE), Request(submodel="backbone", weights_only=True))
    assert plan.model_config is None
    assert [layer.name for layer in plan.layers] == ["dense_1"]


def test_a_nested_model_is_planned_for_keras_3() -> None:
    plan = compose_for_keras3(saved(CORE), Request(submodel="core/backbone"))
    assert plan.architecture is not None
    assert (plan.architecture.name, [layer.name for layer in plan.layers]) == ("backbone", ["dense_1"])


def test_a_name_of_several_models_needs_the_path() -> None:
    other = stack(stack(dense("dense_1"), name="backbone"), dense("dense_2"), name="other")
    checkpoint = saved(CORE, other)
    with pytest.raises(Undecided, match="2 models are called 'backbone'") as caught:
        compose(checkpoint, Request(submodel="backbone"))
    assert [remedy.value for remedy in caught.value.remedies] == ["core/backbone", "other/backbone"]
    for remedy in caught.value.remedies:
        assert names(checkpoint, str(remedy.value)) == BACKBONE


def test_a_path_goes_before_a_name() -> None:
    inner = stack(dense("dense_1"), name="backbone")
    outer = stack(stack(inner, name="x"), dense("dense_2"), name="backbone")
    checkpoint = saved(outer)
    assert names(checkpoint, "backbone")[0] == "backbone"
    assert len(names(checkpoint, "backbone")[1]) == 4
    assert names(checkpoint, "backbone/x/backbone") == BACKBONE


def test_the_model_of_a_time_distributed_layer_has_its_path_and_its_own_name() -> None:
    each = entry("each", "TimeDistributed", layer=CORE)
    layers = (group("each", *CORE_WEIGHTS),)
    checkpoint = Checkpoint(root="/", layers=layers, model_config=json.dumps(stack(each, name="whole")))
    assert recognize(checkpoint, own_architecture(checkpoint)).submodels == (("each",), ("each", "backbone"))
    for submodel in ("each", "core"):
        assert names(checkpoint, submodel)[0] == "core"
    assert names(checkpoint, "each/backbone") == BACKBONE


def test_an_unknown_model_is_refused_with_those_that_are_there() -> None:
    for checkpoint in (saved(CORE), multi(full=True)):
        with pytest.raises(Undecided, match="no model with weights is called 'nobody'") as caught:
            compose(checkpoint, Request(submodel="nobody"))
        assert [remedy.value for remedy in caught.value.remedies] == ["core", "core/backbone"]


def test_a_model_without_weights_is_no_submodel() -> None:
    bare = stack(entry("a", "Activation", activation="relu"), name="bare")
    checkpoint = saved(stack(bare, stack(dense("dense_1"), name="backbone"), dense("dense_2"), name="core"))
    with pytest.raises(Undecided, match="no model with weights is called 'bare'"):
        compose(checkpoint, Request(submodel="bare"))


def test_a_file_without_weights_has_no_submodel() -> None:
    checkpoint = Checkpoint(root="/", layers=(group("core"),), model_config=json.dumps(stack(CORE)))
    with pytest.raises(InputRefused, match="no weights"):
        compose(checkpoint, Request(submodel="core"))


def test_a_nested_model_whose_layers_are_not_settled_is_refused() -> None:
    """Nothing tells which of two equal layers was frozen."""
    twins = stack(
        stack(dense("dense_1"), name="one"),
        stack(dense("dense_2"), name="two"),
        dense("dense_3"),
        name="core",
    )
    weights = listed("a/kernel", "a/bias", "b/kernel", "b/bias", "c/kernel", "c/bias")
    core = group("core").__class__(name="core", weights=weights)
    checkpoint = Checkpoint(root="/", layers=(core,), model_config=json.dumps(stack(twins, name="whole")))
    with pytest.raises(Undecided):
        compose(checkpoint, Request(submodel="one"))


def test_a_weights_file_alone_has_the_models_that_its_groups_show() -> None:
    checkpoint = replicated(*CORE_WEIGHTS, name="core")
    assert recognize(checkpoint, None).submodels == (("core",),)
    with pytest.raises(Undecided, match="no model with weights is called 'backbone'"):
        compose(checkpoint, Request(submodel="backbone"))
