from __future__ import annotations

from collections.abc import Sequence

import pytest

from remap import Undecided
from remap.assignment.assign import assign
from remap.assignment.by_names import NamedLayers, layers_by_name
from remap.assignment.listed import ends, follows
from remap.assignment.reference import Request
from remap.checkpoint import LayerGroup, Weight
from remap.errors import GIVE_JSON, SAY_PLAIN
from remap.recognize import Template
from tests.paper import listed

Shapes = list[tuple[str, tuple[int, ...]]]


def template(
    weights: Sequence[Weight],
    *,
    model: str = "model_1",
    inputs: Sequence[str] = (),
    outputs: Sequence[str] = (),
) -> Template:
    group = LayerGroup(name=model, weights=tuple(weights))
    return Template(group=group, architecture=None, replicas=2, inputs=tuple(inputs), outputs=tuple(outputs))


def settled(
    *named: tuple[str, tuple[int, ...]],
    plain: bool = False,
    model: str = "model_1",
    inputs: Sequence[str] = ("input_1",),
    outputs: Sequence[str] = ("out",),
) -> NamedLayers:
    return layers_by_name(template(sized(*named), model=model, inputs=inputs, outputs=outputs), plain=plain)


def order(*names: str, plain: bool = False, model: str = "model_1", outputs: Sequence[str] = ()) -> list[str]:
    given = template(listed(*names), model=model, outputs=outputs)
    return [name for name, _ in layers_by_name(given, plain=plain).layers]


def names_of(found: NamedLayers) -> list[str]:
    return [name for name, _ in found.layers]


def sized(*named: tuple[str, tuple[int, ...]]) -> list[Weight]:
    return [Weight(name=f"{name}:0", path=name, shape=shape, dtype="<f4") for name, shape in named]


def dense(name: str, given: int, taken: int) -> Shapes:
    return [(f"{name}/kernel", (given, taken)), (f"{name}/bias", (taken,))]


def conv(name: str, given: int, taken: int) -> Shapes:
    return [(f"{name}/kernel", (3, 3, given, taken)), (f"{name}/bias", (taken,))]


def norm(name: str, size: int) -> tuple[Shapes, Shapes]:
    """Give the weights of a normalization layer that train, and the others."""
    first, second = ("gamma", "beta"), ("moving_mean", "moving_variance")
    return [(f"{name}/{leaf}", (size,)) for leaf in first], [(f"{name}/{leaf}", (size,)) for leaf in second]


def test_layers_of_different_shapes_come_in_their_order_whatever_their_names() -> None:
    weights = (*dense("head", 8, 6), *dense("middle", 6, 4), *dense("tail", 4, 2))
    assert names_of(settled(*weights)) == ["head", "middle", "tail"]
    assert settled(*weights).doubt == ""


def test_moving_averages_hold_layers_of_equal_shapes_in_their_places() -> None:
    (a, a_rest), (b, b_rest) = norm("a_bn", 6), norm("b_bn", 6)
    weights = [*dense("a", 6, 6), *a, *dense("b", 6, 6), *b, *dense("c", 6, 6), *a_rest, *b_rest]
    assert names_of(settled(*weights)) == ["a", "a_bn", "b", "b_bn", "c"]


def test_layers_that_a_frozen_one_may_change_places_with_are_refused() -> None:
    """Layers of equal shapes behind each other: if all from the second on were frozen, either may be the first."""
    with pytest.raises(
        Undecided, match="Keras would not notice if layers were frozen and 'b' belonged"
    ) as caught:
        settled(*dense("a", 4, 4), *dense("b", 4, 4), *dense("c", 4, 2))
    assert caught.value.remedies == (GIVE_JSON, SAY_PLAIN)


def test_equal_shapes_that_no_other_order_has_are_no_doubt() -> None:
    weights = [*dense("a", 8, 4), ("b/kernel", (4, 8)), *dense("c", 8, 4)]
    assert names_of(settled(*weights)) == ["a", "b", "c"]


def test_automatic_numbers_of_a_chain_tell_the_order_of_equal_shapes() -> None:
    weights = [*dense("dense_1", 4, 4), *dense("dense_2", 4, 4), *dense("dense_3", 4, 4)]
    found = settled(*weights, outputs=("dense_3",))
    assert names_of(found) == ["dense_1", "dense_2", "dense_3"]
    assert "'dense_2' belonged before 'dense_1'" in found.doubt


@pytest.mark.parametrize(
    ("inputs", "outputs", "numbers"),
    [
        (("input_1",), ("add_1",), (1, 2, 3)),  # two branches may be added up, and the second one frozen
        (("input_1", "input_2"), ("dense_3",), (1, 2, 3)),
        (("input_1",), ("dense_3", "dense_2"), (1, 2, 3)),
        (("input_1",), ("dense_7",), (1, 2, 7)),  # of another session
    ],
)
def test_automatic_numbers_tell_nothing_where_there_may_be_branches_or_another_model(
    inputs: Sequence[str], outputs: Sequence[str], numbers: Sequence[int]
) -> None:
    weights = [weight for number in numbers for weight in dense(f"dense_{number}", 4, 4)]
    with pytest.raises(Undecided, match="Keras would not notice"):
        settled(*weights, inputs=inputs, outputs=outputs)


def test_numbers_that_people_gave_tell_the_order_of_equal_shapes_too() -> None:
    names = ("block1_conv1", "block1_conv2", "block2_conv1", "block2_conv2")
    weights = [weight for name in names for weight in dense(name, 4, 4)]
    with pytest.raises(Undecided, match="'block2_conv1' belonged before 'block1_conv2'"):
        settled(*weights, outputs=("block2_conv2",))  # of two branches, block2 may be the longer one
    chain = [*dense("fc1", 4, 4), *dense("fc2", 4, 4), *dense("fc10", 4, 4)]
    assert names_of(settled(*chain, outputs=("fc10",))) == ["fc1", "fc2", "fc10"]
    with pytest.raises(Undecided, match="Keras would not notice"):
        settled(*chain, outputs=("softmax",))


def test_numbers_that_fall_do_not_count_layers() -> None:
    for names in (("up3", "up2"), ("conv2d_a", "conv3d_a")):
        weights = [weight for name in names for weight in dense(name, 4, 4)] + dense("out", 4, 2)
        with pytest.raises(Undecided, match="Keras would not notice"):
            settled(*weights, outputs=("out",))


def test_the_layers_of_a_sequential_are_a_chain_whatever_gives_the_output() -> None:
    weights = [*dense("dense_1", 4, 4), *dense("dense_2", 4, 4), *dense("dense_3", 4, 4)]
    assert settled(*weights, model="sequential_1", inputs=("dense_1_input",), outputs=("activation_1",)).doubt
    with pytest.raises(Undecided, match="Keras would not notice"):
        settled(*weights, outputs=("activation_1",))


def test_the_input_of_a_sequential_tells_which_of_two_equal_layers_is_the_first() -> None:
    weights = [*dense("a", 4, 4), *dense("b", 4, 4), *dense("c", 8, 2)]
    assert settled(*weights, model="sequential_1", inputs=("a_input",), outputs=("c",)).doubt
    with pytest.raises(Undecided, match="Keras would not notice"):
        settled(*weights, model="sequential_1", inputs=("facts",), outputs=("c",))


def test_numbers_tell_which_layers_of_a_sequential_were_frozen() -> None:
    def found(*numbers: int, first: str = "dense_1_input") -> list[str]:
        weights = [weight for number in numbers for weight in dense(f"dense_{number}", 4, 4)]
        return names_of(settled(*weights, model="sequential_1", inputs=(first,), outputs=("dense_4",)))

    assert found(1, 3, 4, 2) == ["dense_1", "dense_2", "dense_3", "dense_4"]
    assert found(4, 1, 2, 3) == ["dense_1", "dense_2", "dense_3", "dense_4"]
    for numbers, given in (
        ((1, 4, 3, 2), {}),  # no two parts in order
        ((1, 3, 4, 2), {"first": "dense_2_input"}),
        ((1, 3, 4, 2), {"first": "facts"}),  # the first number may be that of a nested model
        ((1, 4, 2), {}),  # a number is missing
    ):
        with pytest.raises(Undecided, match="'dense_4' gives an output"):
            found(*numbers, **given)


def test_outputs_with_the_highest_numbers_stay_behind_layers_of_equal_shapes() -> None:
    def found(*sides: tuple[str, int, int], outputs: Sequence[str]) -> list[str]:
        weights = [weight for side in sides for weight in dense(*side)]
        return names_of(settled(*weights, inputs=("input_1", "input_2"), outputs=outputs))

    a, b, c = ("dense_1", 6, 4), ("dense_2", 4, 5), ("dense_3", 4, 5)
    for outputs in (("dense_3",), ("dense_2", "dense_3")):
        assert found(a, b, c, outputs=outputs) == ["dense_1", "dense_2", "dense_3"]
    # What bears the name of an output may have been renamed.
    for layers, given in (((a, b, ("out", 4, 5)), ("out",)), ((a, c, b), ("dense_2",)), ((a, b, c), ("x",))):
        with pytest.raises(Undecided):
            found(*layers, outputs=given)


def test_outputs_with_lower_numbers_than_other_layers_may_stand_before_them() -> None:
    bn, bn_rest = norm("batch_normalization_1_1", 6)
    a, b, c = (dense(f"dense_{number}_1", 6, 6) for number in (1, 2, 3))
    given = {"inputs": ("input_1", "input_2"), "outputs": ("dense_2",)}
    with pytest.raises(Undecided, match="'dense_2_1' belonged before 'dense_3_1'"):
        settled(*a, *bn, *c, *bn_rest, *b, **given)  # type: ignore[arg-type]


def test_nothing_is_trained_behind_moving_averages() -> None:
    """Of a model that was frozen as a whole, tf.keras lists one layer after the other."""
    (a, a_rest), (b, b_rest) = norm("a_bn", 6), norm("b_bn", 6)
    weights = [*dense("a", 6, 6), *a, *a_rest, *dense("b", 6, 6), *b, *b_rest]
    assert names_of(settled(*weights)) == ["a", "a_bn", "b", "b_bn"]


def test_a_normalization_without_trainable_weights_is_put_where_one_normalizes() -> None:
    """Between two layers that do not, and only if Keras would refuse it anywhere else."""
    bare, after = norm("bare", 6)[1], norm("after", 6)
    weights = [*dense("a", 6, 6), *dense("b", 6, 6), *after[0], *dense("c", 6, 3), *bare, *after[1]]
    assert names_of(settled(*weights)) == ["a", "bare", "b", "after", "c"]
    with pytest.raises(Undecided, match="'bare' has no trainable weights"):
        settled(*dense("first", 6, 6), *weights)  # it may be behind the first one, too
    silent = [
        *dense("a", 6, 6), ("b/scale", (6,)), ("b/shift", (6,)), *after[0], *dense("c", 6, 3), *bare, *after[1]
    ]  # fmt: skip
    with pytest.raises(Undecided, match="Keras would not notice") as caught:
        settled(*silent, plain=True)
    assert caught.value.remedies == (GIVE_JSON,)


def test_a_frozen_embedding_is_put_first() -> None:
    weights = [
        ("lstm_1/kernel", (8, 16)), ("lstm_1/recurrent_kernel", (4, 16)), ("lstm_1/bias", (16,)),
        *dense("dense_1", 4, 1), ("embedding_1/embeddings", (100, 8)),
    ]  # fmt: skip
    for plain in (False, True):
        found = settled(*weights, plain=plain)
        assert names_of(found) == ["embedding_1", "lstm_1", "dense_1"]
        assert found.frozen == ("embedding_1",)


def test_a_frozen_base_is_put_before_the_layers_that_were_trained() -> None:
    a, a_rest = norm("bn1", 8)
    base = [*conv("conv1", 3, 8), *a, *a_rest, *conv("conv2", 8, 16)]
    head = [*dense("fc", 16, 6), *dense("predictions", 6, 2)]
    for outputs in (("predictions",), ("softmax",)):
        found = settled(*head, *base, outputs=outputs)
        assert names_of(found) == ["conv1", "bn1", "conv2", "fc", "predictions"]
        assert found.frozen == ("conv1", "bn1", "conv2")


def test_the_layer_that_gives_the_output_is_the_last() -> None:
    weights = [*dense("b", 5, 4), *dense("out", 4, 2), *dense("a", 3, 5)]
    with pytest.raises(Undecided, match="'out' gives an output, and 'a' stands behind it"):
        settled(*dense("b", 4, 4), *dense("out", 4, 4), *dense("a", 4, 4), plain=True)
    assert names_of(settled(*weights)) == ["a", "b", "out"]


def test_the_input_of_a_sequential_shows_its_first_layer() -> None:
    weights = [*dense("dense_2", 4, 4), *dense("dense_3", 4, 4)]
    given = {"model": "sequential_1", "outputs": ("dense_3",)}
    assert names_of(settled(*weights, inputs=("dense_2_input",), **given)) == ["dense_2", "dense_3"]  # type: ignore[arg-type]
    for model in ("sequential_1", "net"):  # only the input of a Sequential has such a name
        given["model"] = model
        with pytest.raises(Undecided, match="the input feeds 'dense_3', and 'dense_2' stands before it"):
            settled(*weights, inputs=("dense_3_input",), **given)  # type: ignore[arg-type]


def test_frozen_layers_between_trained_ones_are_refused() -> None:
    """They may be anywhere, and are most often a nested model."""
    a, a_rest = norm("b1", 6)
    with pytest.raises(Undecided, match="'fc' gives an output, and 'b1' stands behind it") as caught:
        settled(*conv("stem", 3, 3), *dense("fc", 6, 2), *conv("c1", 3, 6), *a, *a_rest, outputs=("fc",))
    assert caught.value.remedies == (GIVE_JSON,)


@pytest.mark.parametrize(
    ("names", "reason"),
    [
        (("dense_1/kernel", "dense_3/kernel", "dense_2/kernel"), "'dense_2' stands behind 'dense_3'"),
        (("w", "dense_1/kernel"), "does not say which layer"),
        (("dense_1/kernel", "dense_2/kernel", "dense_1/bias", "dense_2/bias", "dense_1/x"), "more places"),
        (
            ("batch_normalization_1/gamma", "batch_normalization_2/gamma", "dense_1/kernel",
             "batch_normalization_2/moving_mean", "batch_normalization_1/moving_mean"),
            "different orders",
        ),
        (
            ("dense_1/kernel", "dense_2/kernel", "dense_3/kernel", "batch_normalization_1/moving_mean"),
            "may stand anywhere",
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
    ("names", "options", "reason"),
    [
        (("enc/a", "enc/b", "out"), {}, "may be layers of a nested model 'enc'"),
        (("fc", "bn", "fc_1"), {}, "'fc' and 'fc_1' may be layers of one name in two models"),
        (
            ("fc", "out"),
            {"outputs": ("sequential_1",)},
            "the output is that of a nested model 'sequential_1'",
        ),
        (("dense_1", "out"), {"model": "model_2"}, "a model was built before 'model_2'"),
        (("dense", "out"), {"model": "model_1"}, "a model was built before"),
        (("fc", "out"), {"inputs": ("input_2",)}, "a model was built before"),
    ],
)
def test_names_that_speak_for_a_nested_model_are_refused(
    names: tuple[str, ...], options: dict[str, Sequence[str]], reason: str
) -> None:
    weights = [weight for size, name in enumerate(names, 2) for weight in dense(name, size, size + 1)]
    with pytest.raises(Undecided, match=reason) as caught:
        settled(*weights, **options)  # type: ignore[arg-type]
    assert caught.value.remedies == (GIVE_JSON, SAY_PLAIN)
    assert names_of(settled(*weights, plain=True, **options)) == list(names)  # type: ignore[arg-type]


def test_a_model_that_was_built_twice_is_not_taken_for_a_nested_one() -> None:
    weights = [*dense("fc1_1", 4, 3), *dense("fc2_1", 3, 2)]
    found = settled(*weights, model="model_2", inputs=("input_2",), outputs=("fc2",))
    assert names_of(found) == ["fc1_1", "fc2_1"]


def test_inputs_of_a_model_that_was_built_twice_are_as_many_each_time() -> None:
    """Else a nested model has some of those between; a copy of a model (`cpu_relocation`) has the first inputs."""
    weights = [*dense("fc1_1", 4, 3), *dense("fc2_1", 3, 2)]
    assert settled(*weights, model="model_2", inputs=("input_3", "input_4"), outputs=("fc2",)).layers
    for inputs in (("input_4", "input_5"), ("input_2", "input_3")):
        with pytest.raises(Undecided, match="a model was built before"):
            settled(*weights, model="model_2", inputs=inputs, outputs=("fc2",))
    weights = [*dense("dense_1_1", 4, 3), *dense("fc2_1", 3, 2)]
    with pytest.raises(Undecided, match="a model was built before"):
        settled(*weights, model="model_2", inputs=("input_1",), outputs=("fc2",))


def test_numbers_may_fall_between_branches_but_not_in_a_sequential_or_among_frozen_layers() -> None:
    bn, bn_rest = norm("batch_normalization_1", 6)
    weights = [*dense("dense_1", 6, 6), *bn, *dense("dense_3", 6, 5), *dense("dense_2", 5, 4), *bn_rest]
    names = ["dense_1", "batch_normalization_1", "dense_3", "dense_2"]
    assert names_of(settled(*weights, outputs=("dense_2",))) == names
    with pytest.raises(Undecided, match="'dense_2' stands behind 'dense_3'"):
        settled(*weights, outputs=("dense_2",), inputs=("dense_1_input",))
    with pytest.raises(Undecided, match="'dense_2' stands behind 'dense_3'"):
        settled(*weights, *dense("base", 3, 6), outputs=("dense_2",))


def test_a_numbered_beginning_of_names_is_no_nested_model_where_others_have_the_next_number() -> None:
    weights = [*dense("conv1/a", 8, 6), *dense("conv1/b", 6, 4), *dense("conv2_block1", 4, 2)]
    assert names_of(settled(*weights)) == ["conv1/a", "conv1/b", "conv2_block1"]
    for head, other in (("conv1", "conv"), ("enc", "enc2")):
        inner = [*dense(f"{head}/a", 8, 6), *dense(f"{head}/b", 6, 4)]
        with pytest.raises(Undecided, match=f"may be layers of a nested model '{head}'"):
            settled(*inner, *dense(other, 4, 2))


def test_keras_own_networks_are_known_to_hold_no_model() -> None:
    weights = [*dense("enc/a", 8, 6), *dense("enc/b", 6, 4), *dense("out", 4, 2)]
    assert names_of(settled(*weights, model="resnet50")) == ["enc/a", "enc/b", "out"]


def test_a_later_session_numbers_everything_higher() -> None:
    weights = [*dense("dense_5", 4, 3), *dense("dense_6", 3, 2)]
    assert names_of(settled(*weights, model="model_3")) == ["dense_5", "dense_6"]


def test_what_is_assumed_is_said() -> None:
    def notes(*named: tuple[str, tuple[int, ...]], plain: bool = False) -> str:
        given = template(sized(*named), inputs=("input_1",), outputs=("out",))
        return "\n".join(assign(given, Request(plain=plain)).notes)

    unlike = [*dense("a", 2, 3), *dense("b", 3, 4)]
    assert "nothing was frozen and no model is nested; if not, Keras says so when it loads" in notes(*unlike)
    alike = [*dense("a", 4, 4), *dense("b", 4, 4)]
    said = notes(*alike, plain=True)
    assert "nothing was frozen and no model is nested (as you say)\n" in said
    assert "the order of layers of equal shapes (Keras would not notice" in said
    frozen = [*dense("b", 8, 4), ("a/embeddings", (9, 8))]
    assert "nothing was frozen but a; if not, Keras says so" in notes(*frozen)


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
