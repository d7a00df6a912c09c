from __future__ import annotations

import pytest

from remap import Undecided
from remap.assignment.assign import assign
from remap.assignment.by_names import ends, follows, layers_by_name
from remap.assignment.reference import Request
from remap.checkpoint import LayerGroup, Weight
from remap.errors import GIVE_JSON, SAY_PLAIN
from remap.recognize import Template
from tests.paper import listed

Shapes = list[tuple[str, tuple[int, ...]]]


def order(*names: str, plain: bool = False, model: str = "model_1") -> list[str]:
    return [name for name, _ in layers_by_name(listed(*names), plain=plain, model=model).layers]


def sized(*named: tuple[str, tuple[int, ...]]) -> list[Weight]:
    return [Weight(name=f"{name}:0", path=name, shape=shape, dtype="<f4") for name, shape in named]


def test_layers_numbered_by_keras_come_in_their_order() -> None:
    assert order("dense_1/kernel", "dense_1/bias", "dense_2/kernel") == ["dense_1", "dense_2"]


def test_normalisation_layers_stand_where_their_first_weights_stand() -> None:
    names = (
        "dense_1/kernel", "batch_normalization_1/gamma", "dense_2/kernel", "batch_normalization_2/gamma",
        "batch_normalization_1/moving_mean", "batch_normalization_2/moving_mean",
    )  # fmt: skip
    assert order(*names) == ["dense_1", "batch_normalization_1", "dense_2", "batch_normalization_2"]


@pytest.mark.parametrize(
    ("names", "reason"),
    [
        (("dense_1/kernel", "dense_3/kernel", "dense_2/kernel"), "'dense_2' stands behind 'dense_3'"),
        (("w", "dense_1/kernel"), "does not say which layer"),
        (("dense_1/kernel", "dense_2/kernel", "dense_1/bias", "dense_2/bias", "dense_1/x"), "more places"),
        (
            ("dense_1/kernel", "batch_normalization_1/moving_mean", "dense_2/kernel"),
            "'dense_2' was frozen",
        ),
        (
            ("batch_normalization_1/gamma", "dense_1/kernel", "batch_normalization_2/gamma",
             "batch_normalization_2/moving_mean", "batch_normalization_1/moving_mean"),
            "different orders",
        ),
        (
            ("dense_1/kernel", "dense_2/kernel", "batch_normalization_1/moving_mean"),
            "no trainable weights",
        ),
        (
            ("dense_2/kernel", "batch_normalization_1/gamma", "dense_1/kernel",
             "batch_normalization_1/moving_mean"),
            "'dense_1' stands behind 'dense_2'",
        ),
    ],
)  # fmt: skip
@pytest.mark.parametrize("plain", [False, True])
def test_refuses_what_the_assumption_of_a_plain_model_cannot_settle(
    names: tuple[str, ...], reason: str, plain: bool
) -> None:
    with pytest.raises(Undecided, match=reason) as caught:
        order(*names, plain=plain)
    assert caught.value.remedies == (GIVE_JSON,)


@pytest.mark.parametrize(
    ("names", "model", "reason"),
    [
        (("head/kernel", "tail/kernel"), "model_1", "custom layer name, so it may belong to a nested model"),
        (("dense_1/kernel", "dense_2/kernel"), "model_2", "a model was built before"),
        (("dense/kernel", "dense_1/kernel"), "model_1", "a model was built before"),
        (("dense_1/kernel", "gru_1/kernel"), "model_1", "equal shapes"),
    ],
)
def test_suggests_the_assumption_of_a_plain_model_where_it_settles_the_order(
    names: tuple[str, ...], model: str, reason: str
) -> None:
    with pytest.raises(Undecided, match=reason) as caught:
        order(*names, model=model)
    assert caught.value.remedies == (GIVE_JSON, SAY_PLAIN)
    assert order(*names, model=model, plain=True) == [name.partition("/")[0] for name in names]


def test_keras_own_networks_are_known_to_hold_no_model() -> None:
    weights = sized(("conv1/kernel", (3, 3, 3, 8)), ("fc/kernel", (8, 10)))
    assert [name for name, _ in layers_by_name(weights, plain=False, model="resnet50").layers] == [
        "conv1",
        "fc",
    ]


def test_a_later_session_numbers_everything_higher() -> None:
    assert order("dense_5/kernel", "dense_6/kernel", model="model_3") == ["dense_5", "dense_6"]


def test_a_frozen_beginning_shows_by_what_leads_into_what() -> None:
    weights = sized(
        ("dense_1/kernel", (8, 5)), ("conv2d_1/kernel", (3, 3, 3, 4)), ("conv2d_2/kernel", (3, 3, 4, 8))
    )
    with pytest.raises(Undecided, match="'dense_1' does not lead into 'conv2d_1'"):
        layers_by_name(weights, plain=False, model="model_1")


def test_only_layers_before_the_first_averages_can_hide() -> None:
    names = (
        "conv2d_1/kernel", "batch_normalization_1/gamma", "dense_1/kernel", "gru_1/kernel",
        "batch_normalization_1/moving_mean",
    )  # fmt: skip
    weights = [
        Weight(name=w.name, path=w.path, shape=(3, 3, 2, 2) if "conv" in w.name else w.shape, dtype="<f4")
        for w in listed(*names)
    ]
    found = [name for name, _ in layers_by_name(weights, plain=False, model="model_1").layers]
    assert found == ["conv2d_1", "batch_normalization_1", "dense_1", "gru_1"]


def test_an_assumed_order_of_equal_shapes_is_said_to_be_assumed() -> None:
    weights = listed("dense_1/kernel", "gru_1/kernel")
    (doubt,) = layers_by_name(weights, plain=True, model="model_1").doubts
    assert "'dense_1' and 'gru_1' have equal shapes" in doubt
    template = Template(group=LayerGroup(name="model_1", weights=weights), architecture=None, replicas=2)
    notes = assign(template, Request(plain=True)).notes
    assert any(note.startswith("assumed, not verified: the order") and doubt in note for note in notes)
    unlike = sized(("dense_1/kernel", (2, 3)), ("gru_1/kernel", (3, 4)))
    assert layers_by_name(unlike, plain=True, model="model_1").doubts == ()


@pytest.mark.parametrize(
    ("shapes", "expected"),
    [
        ([("kernel", (3, 3, 4, 8)), ("bias", (8,))], (4, 8)),
        ([("kernel", (3, 3, 8, 4)), ("bias", (8,))], (4, 8)),  # transposed
        ([("depthwise_kernel", (3, 3, 4, 2)), ("bias", (8,))], (4, 8)),
        ([("depthwise_kernel", (3, 3, 4, 1)), ("pointwise_kernel", (1, 1, 4, 8))], (4, 8)),
        ([("kernel", (5, 16)), ("recurrent_kernel", (4, 16)), ("bias", (16,))], (5, 4)),
        ([("embeddings", (100, 8))], (0, 8)),
        ([("gamma", (8,)), ("beta", (8,)), ("moving_mean", (8,))], (8, 8)),
        ([("w", (2, 3, 4))], (0, 0)),
    ],
)
def test_features_in_and_out_follow_from_weights(shapes: Shapes, expected: tuple[int, int]) -> None:
    assert ends(shapes) == expected


def test_flattening_and_reshaping_multiply_and_divide() -> None:
    assert follows((3, 8), (128, 10))
    assert follows((100, 6272), (128, 64))
    assert follows((3, 8), (0, 0))
    assert not follows((3, 10), (3, 8))
