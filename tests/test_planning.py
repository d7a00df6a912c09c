"""The plan of a single-model file, from a checkpoint and a request."""

from __future__ import annotations

import json
from typing import Any

import pytest

from remap import NothingToExtract, Undecided, UsageRefused
from remap.assignment.reference import Request, reference_from_json
from remap.checkpoint import Checkpoint
from remap.conversion_plan import Plan
from remap.planning import compose, compose_for_keras3
from tests.paper import dense, group, replicated, stack

LEAVES = ("kernel", "bias")
# The layers of equal shapes in a nested model, of which e0 and e2 were frozen, as its group and a flat list have them.
ENCODER = tuple(f"{name}/{leaf}" for name in ("e1", "e3", "e0", "e2") for leaf in LEAVES)
LISTED = ("a/kernel", "a/bias", *ENCODER[:4], "z/kernel", "z/bias", *ENCODER[4:])


def encoder(*frozen: str) -> dict[str, Any]:
    inner = stack(*(dense(f"e{n}", trainable=f"e{n}" not in frozen) for n in range(4)), name="enc")
    return stack(dense("a"), inner, dense("z"))


def single(*, config: dict[str, Any] | None = None) -> Checkpoint:
    layers = (group("a", "a/kernel", "a/bias"), group("enc", *ENCODER), group("z", "z/kernel", "z/bias"))
    return Checkpoint(root="/", layers=layers, model_config=None if config is None else json.dumps(config))


def like(*frozen: str) -> Request:
    return Request(like=reference_from_json(json.dumps(encoder(*frozen)), where="like.json"))


def inside(plan: Plan) -> dict[str, list[str]]:
    """Give the weights of each layer inside the nested model."""
    (nested,) = (layer for layer in plan.layers if layer.name == "enc")
    return {layer.name: [weight.source.name for weight in layer.weights] for layer in nested.children}


OWN = {f"e{n}": [f"e{n}/kernel:0", f"e{n}/bias:0"] for n in range(4)}


@pytest.mark.parametrize(
    ("checkpoint", "request_"),
    [
        (replicated(*LISTED), like()),
        (replicated(*LISTED), like("e0", "e2")),
        (single(), like("e0", "e2")),
    ],
    ids=["multi-gpu, unfrozen reference", "multi-gpu", "single"],
)
def test_layers_inside_a_nested_model_get_their_own_weights(
    checkpoint: Checkpoint, request_: Request
) -> None:
    plan = compose_for_keras3(checkpoint, request_)
    assert plan.settled_by == "reference"
    assert inside(plan) == OWN
    assert not any("frozen" in note for note in plan.notes)


def test_a_nested_list_that_fits_two_sets_of_flags_is_not_taken_in_the_order_of_the_reference_model() -> None:
    """By position e1's weights are e0's; by name e0 and e2 were frozen when the file was saved."""
    with pytest.raises(Undecided, match="in several ways"):
        compose_for_keras3(single(), like())


def test_a_single_full_model_is_planned_as_it_is() -> None:
    checkpoint = single(config=encoder("e0", "e2"))
    plan = compose_for_keras3(checkpoint, Request())
    assert (plan.settled_by, plan.template) == ("architecture", "model_1")
    assert inside(plan) == OWN
    with pytest.raises(NothingToExtract):
        compose(checkpoint, Request())


def test_what_a_single_full_model_does_not_need_is_noted_or_refused() -> None:
    checkpoint = single(config=encoder("e0", "e2"))
    notes = compose_for_keras3(checkpoint, like()).notes
    assert any(note.startswith("the reference model was not needed") for note in notes)
    other = reference_from_json(json.dumps(stack(dense("a"), dense("z"))), where="like.json")
    with pytest.raises(Undecided, match="does not fit the checkpoint"):
        compose_for_keras3(checkpoint, Request(like=other))
    with pytest.raises(UsageRefused, match="'enc' is a nested model"):
        compose_for_keras3(checkpoint, Request(plain=True))
    plain = Checkpoint(
        root="/",
        layers=(group("a", "a/kernel", "a/bias"),),
        model_config=json.dumps(stack(dense("a"))),
    )
    notes = compose_for_keras3(plain, Request(plain=True)).notes
    assert any("plain model was not needed" in note for note in notes)
    frozen = stack(dense("a", trainable=False))
    with pytest.raises(UsageRefused, match="'a' was frozen"):
        compose_for_keras3(
            Checkpoint(root="/", layers=plain.layers, model_config=json.dumps(frozen)), Request(plain=True)
        )


def test_a_weights_file_without_a_description_is_not_enough_for_keras_3() -> None:
    for checkpoint in (single(), replicated("dense_1/kernel", "dense_1/bias")):
        with pytest.raises(Undecided, match="need the architecture") as caught:
            compose_for_keras3(checkpoint, Request())
        assert [remedy.option for remedy in caught.value.remedies] == ["like"]
