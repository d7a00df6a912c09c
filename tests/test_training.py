from __future__ import annotations

import json
from collections.abc import Mapping

import pytest

from remap import InputRefused
from remap.checkpoint import Weight
from remap.training_state import lift_optimizer, lift_training_config
from tests.paper import dense, model


def lifted(config: Mapping[str, object], theirs: tuple[str, ...], ours: tuple[str, ...]) -> dict[str, object]:
    outer = model(outputs=theirs)
    inner = model(dense("d"), outputs=ours)
    result: dict[str, object] = json.loads(
        lift_training_config(json.dumps(config), outer, inner, where="paper")
    )
    return result


def test_losses_are_keyed_by_the_models_own_outputs() -> None:
    config = {
        "loss": {"concatenate_1": "mse", "concatenate_2": "mae"},
        "metrics": None,
        "optimizer_config": {},
    }
    assert lifted(config, ("concatenate_1", "concatenate_2"), ("a", "b"))["loss"] == {"a": "mse", "b": "mae"}


def test_outputs_of_one_name_are_listed_in_order() -> None:
    config = {"loss": {"bb_1": "mse", "bb_2": "mae"}}
    assert lifted(config, ("bb_1", "bb_2"), ("bb", "bb"))["loss"] == ["mse", "mae"]


def test_what_is_keyed_by_no_output_stays_to_the_letter() -> None:
    text = '{"loss":   "mse"}'
    assert lift_training_config(text, model(outputs=("x",)), model(outputs=("y",)), where="paper") == text


def test_a_training_configuration_that_is_no_object_is_refused() -> None:
    with pytest.raises(InputRefused, match="an object was expected and a list was found"):
        lift_training_config("[]", model(outputs=("x",)), model(outputs=("y",)), where="paper")


def test_optimizer_weights_keep_their_names_unless_keras_would_split_the_list() -> None:
    few = [Weight(name=f"Adam/m_{i}:0", path=str(i), shape=(), dtype="<f4") for i in range(3)]
    assert [weight.name for weight in lift_optimizer(few)] == ["Adam/m_0:0", "Adam/m_1:0", "Adam/m_2:0"]
    many = [Weight(name=f"{'a' * 60}{i}:0", path=str(i), shape=(), dtype="<f4") for i in range(2000)]
    renamed = lift_optimizer(many)
    assert [weight.name for weight in renamed[:2]] == ["w0", "w1"]
    assert [weight.source for weight in renamed] == many
