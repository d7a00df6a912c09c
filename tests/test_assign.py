from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from remap import Undecided, UsageRefused
from remap.architecture import parse_model
from remap.assignment.assign import Assignment, assign
from remap.assignment.expected import expected_from_groups
from remap.assignment.name_rules import by_scope_or_suffix
from remap.assignment.reading import Problem
from remap.assignment.reference import (
    Order,
    Reference,
    Request,
    named_by,
    reference_from_checkpoint,
    reference_from_json,
)
from remap.checkpoint import Checkpoint, LayerGroup
from remap.errors import GIVE_JSON, GIVE_WEIGHTS
from remap.recognize import Template
from tests.paper import dense, entry, group, listed, model, stack


def wrapper(*weights: str, architecture: Any = None) -> Template:
    return Template(
        group=LayerGroup(name="model_1", weights=listed(*weights)),
        architecture=architecture,
        replicas=2,
    )


def by_json(entries: dict[str, Any], *weights: str) -> Assignment:
    return assign(
        wrapper(*weights),
        Request(like=reference_from_json(json.dumps(entries), where="like.json")),
    )


def shown(assignment: Assignment) -> list[tuple[str, list[str]]]:
    return [(layer.name, [weight.name for weight in layer.weights]) for layer in assignment.layers]


@pytest.mark.parametrize(
    ("weights", "difference"),
    [
        (("a/kernel",), "the checkpoint has 1 weights, the architecture 2"),
        (("a/kernel", "a/gamma"), "1 weights named 'bias' .as in 'a'., the checkpoint 0"),
    ],
)
def test_a_reference_model_that_does_not_fit_is_told_where(weights: tuple[str, ...], difference: str) -> None:
    with pytest.raises(Undecided, match=difference):
        by_json(stack(dense("a")), *weights)


def test_other_shapes_are_put_side_by_side() -> None:
    with pytest.raises(
        Undecided, match=r"layer 'a' wants 'kernel' \(\?, 5\); the checkpoint has 'a/kernel:0' \(2, 2\)"
    ):
        by_json(stack(entry("a", "Dense", units=5)), "a/kernel", "a/bias")


def test_names_and_flags_that_contradict_each_other_settle_nothing() -> None:
    """Either `a` was frozen, or the two layers were given each other's names."""
    with pytest.raises(Undecided, match="in several ways"):
        by_json(stack(dense("a"), dense("b")), "b/kernel", "b/bias", "a/kernel", "a/bias")


def test_flags_settle_what_names_do_not_object_to() -> None:
    settled = by_json(stack(dense("p"), dense("q")), "x_1/kernel", "x_1/bias", "x_2/kernel", "x_2/bias")
    assert shown(settled)[0] == ("p", ["x_1/kernel:0", "x_1/bias:0"])
    assert any("trainable flags" in note for note in settled.notes)


def test_falling_numbers_object() -> None:
    with pytest.raises(Undecided, match="in several ways"):
        by_json(stack(dense("p"), dense("q")), "x_2/kernel", "x_2/bias", "x_1/kernel", "x_1/bias")


def twins(*, left: bool, right: bool) -> dict[str, Any]:
    """Describe two nested models of equal layers, of which one may be frozen layer by layer."""

    def inner(name: str, *, trainable: bool) -> dict[str, Any]:
        return stack(*(dense(layer, trainable=trainable) for layer in ("fc1", "fc2")), name=name)

    return stack(inner("left", trainable=left), inner("right", trainable=right), dense("out"))


def weights_of(*layers: str) -> list[str]:
    return [f"{layer}/{leaf}" for layer in layers for leaf in ("kernel", "bias")]


LEFT_FROZEN = weights_of("fc1_1", "fc2_1", "out", "fc1", "fc2")
RIGHT_FROZEN = weights_of("fc1", "fc2", "out", "fc1_1", "fc2_1")
RELOCATED = weights_of("fc1_3", "fc2_3", "out_1", "fc1_2", "fc2_2")  # and the left one frozen


@pytest.mark.parametrize(
    ("left", "weights", "first"),
    [(False, LEFT_FROZEN, "fc1"), (True, RIGHT_FROZEN, "fc1"), (False, RELOCATED, "fc1_2")],
)
def test_flags_and_counters_together_tell_twins_of_which_one_was_frozen(
    left: bool, weights: list[str], first: str
) -> None:
    settled = by_json(twins(left=left, right=not left), *weights)
    assert shown(settled)[0][1][0] == f"{first}/kernel:0"


@pytest.mark.parametrize("weights", [LEFT_FROZEN, RIGHT_FROZEN, RELOCATED])
@pytest.mark.parametrize(("left", "right"), [(True, True), (True, False), (False, True)])
def test_twins_stay_undecided_with_the_flags_of_another_model(
    weights: list[str], left: bool, right: bool
) -> None:
    if (left, right) == ((True, False) if weights is RIGHT_FROZEN else (False, True)):
        return  # the flags of the very model
    with pytest.raises(Undecided, match="in several ways") as caught:
        by_json(twins(left=left, right=right), *weights)
    assert caught.value.remedies == (GIVE_WEIGHTS,)
    groups = (
        group("left", *weights_of("fc1", "fc2")),
        group("right", *weights_of("fc1_1", "fc2_1")),
        group("out", *weights_of("out")),
    )
    settled = assign(wrapper(*weights), Request(like=Reference(where="like.h5", groups=groups)))
    assert [name for name, _ in shown(settled)] == ["left", "right", "out"]
    assert shown(settled)[0][1][0] == ("fc1_2" if weights is RELOCATED else "fc1") + "/kernel:0"


def test_a_layer_in_two_places_that_was_stored_once_is_written_twice() -> None:
    shared = dense("d")
    inner = stack(dense("e"), shared, name="inner")
    settled = by_json(stack(shared, inner), "d/kernel", "d/bias", "e/kernel", "e/bias")
    assert shown(settled) == [
        ("d", ["d/kernel:0", "d/bias:0"]),
        ("inner", ["e/kernel:0", "e/bias:0", "d/kernel:0", "d/bias:0"]),
    ] or shown(settled)[1][1] == ["d/kernel:0", "d/bias:0", "e/kernel:0", "e/bias:0"]


def test_a_model_in_two_places_of_one_nested_model_is_listed_there_once() -> None:
    deep = stack(dense("d"), name="deep")
    left, right = stack(deep, dense("e"), name="left"), stack(dense("f"), deep, name="right")
    weights = [f"{layer}/{leaf}" for layer in "deg" for leaf in ("kernel", "bias")]
    weights[4:4] = ["f/kernel", "f/bias"]
    settled = by_json(stack(stack(left, right, name="whole"), dense("g")), *weights)
    assert shown(settled) == [
        ("whole", [f"{name}:0" for name in weights[:6]]),
        ("g", ["g/kernel:0", "g/bias:0"]),
    ]


def test_a_model_in_two_places_is_frozen_in_both() -> None:
    deep = stack(dense("d"), name="deep")
    first, second = stack(dense("e"), deep, name="first"), stack(deep, dense("f"), name="second")
    weights = [f"{layer}/{leaf}" for layer in "efd" for leaf in ("kernel", "bias")]
    like = reference_from_json(json.dumps(stack(first, second)), where="like.json")
    settled = assign(wrapper(*weights), Request(like=like, order="saved"))
    assert shown(settled) == [
        ("first", ["e/kernel:0", "e/bias:0", "d/kernel:0", "d/bias:0"]),
        ("second", ["f/kernel:0", "f/bias:0", "d/kernel:0", "d/bias:0"]),
    ]


def test_a_flat_file_that_lists_a_layer_twice_is_followed_by_its_names() -> None:
    groups = (group("d", "d/kernel", "d/bias"), group("inner", "e/kernel", "e/bias", "d/kernel", "d/bias"))
    like = Reference(where="like.h5", groups=groups)
    settled = assign(wrapper("d/kernel", "d/bias", "e/kernel", "e/bias"), Request(like=like))
    assert shown(settled)[1] == ("inner", ["e/kernel:0", "e/bias:0", "d/kernel:0", "d/bias:0"])
    with pytest.raises(Undecided, match="does not fit"):
        assign(wrapper("d/kernel", "d/bias", "e/bias", "e/kernel"), Request(like=like))


def test_a_frozen_layer_that_a_later_group_has_too_is_put_where_the_flags_ask_for_it() -> None:
    saved = ["a/kernel", "a/bias", "b/kernel", "b/bias", "s/kernel", "s/bias"]
    groups = (group("first", *saved[:2], *saved[4:], *saved[2:4]), group("second", *saved[4:]))
    like = Reference(where="like.h5", groups=groups)
    kept = assign(wrapper(*saved), Request(like=like, order="saved"))
    assert shown(kept)[0] == ("first", [f"{name}:0" for name in saved])
    assert kept.frozen == ("s",)
    loaded = assign(wrapper(*saved), Request(like=like))
    assert shown(loaded)[0] == ("first", [weight.name for weight in groups[0].weights])
    assert loaded.reordered


def test_the_saved_order_of_a_group_whose_layer_an_earlier_one_has_too_is_not_made_up() -> None:
    shared, own, first = ([f"{layer}/{leaf}" for leaf in ("kernel", "bias")] for layer in "soa")
    like = Reference(
        where="like.h5", groups=(group("first", *first, *shared), group("second", *shared, *own))
    )
    flat = wrapper(
        *first, *shared, *own
    )  # also the list of a model that froze the shared layer in the second one
    assert shown(assign(flat, Request(like=like)))[1] == ("second", [f"{name}:0" for name in (*shared, *own)])
    with pytest.raises(Undecided, match="the order in which 'second' was saved is not known"):
        assign(flat, Request(like=like, order="saved"))


def test_a_stack_without_a_name_needs_a_file_that_has_it() -> None:
    nameless = {"class_name": "Sequential", "config": [dense("e")]}
    outer = model(entry("x", "InputLayer"), outputs=())
    assert named_by(outer, ("x",)) is outer
    architecture = reference_from_json(
        json.dumps({"class_name": "Sequential", "config": [dense("d"), nameless]}), where="x"
    ).architecture
    assert architecture is not None
    weights = ("d/kernel", "d/bias", "e/kernel", "e/bias")
    with pytest.raises(Undecided, match="does not tell the name of a nested model"):
        assign(wrapper(*weights, architecture=architecture), Request())
    groups = (group("d", *weights[:2]), group("sequential_1", *weights[2:]))
    settled = assign(
        wrapper(*weights, architecture=architecture),
        Request(like=Reference(where="l", groups=groups)),
    )
    assert [layer.name for layer in settled.layers] == ["d", "sequential_1"]
    assert named_by(architecture, ("other", "names")) is architecture


def test_the_files_own_architecture_must_fit() -> None:
    with pytest.raises(Undecided, match="does not fit its weights"):
        assign(wrapper("a/kernel", architecture=model(dense("a"))), Request())


def test_a_model_that_may_have_been_frozen_settles_nothing_where_names_do_not_tell() -> None:
    inner = stack(dense("a"), name="inner")
    with pytest.raises(Undecided, match="whether a nested model was frozen"):
        assign(
            wrapper("x/kernel", "x/bias", "y/kernel", "y/bias", architecture=model(inner, dense("b"))),
            Request(),
        )


def test_a_weights_file_settles_what_the_own_architecture_does_not() -> None:
    own = model(stack(dense("a"), name="inner"), dense("b"))
    weights = ("x/kernel", "x/bias", "y/kernel", "y/bias")
    for inner, outer in ((weights[:2], weights[2:]), (weights[2:], weights[:2])):
        like = Reference(where="like.h5", groups=(group("inner", *inner), group("b", *outer)))
        settled = assign(wrapper(*weights, architecture=own), Request(like=like))
        assert settled.settled_by == "reference"
        assert shown(settled) == [("inner", [f"{n}:0" for n in inner]), ("b", [f"{n}:0" for n in outer])]


def test_custom_layers_are_told_apart_by_common_scopes() -> None:
    layers = model(entry("one", "Odd"), entry("two", "Odd"), dense("d"))
    settled = assign(wrapper("w", "two/v", "d/kernel", "d/bias", architecture=layers), Request())
    assert shown(settled)[:2] == [("one", ["w:0"]), ("two", ["two/v:0"])]
    assert any("names of the weights settled it" in note for note in settled.notes)
    with pytest.raises(Undecided):
        assign(wrapper("w", "v", "d/kernel", "d/bias", architecture=layers), Request())


def test_flags_inside_a_model_are_noted() -> None:
    inner = stack(dense("a", trainable=False), dense("b"), name="inner")
    weights = ("b/kernel", "b/bias", "c/kernel", "c/bias", "a/kernel", "a/bias")
    settled = assign(wrapper(*weights, architecture=model(inner, dense("c"))), Request())
    assert any("nested model 'inner' had frozen layers" in note for note in settled.notes)


def test_names_that_say_another_layer_are_noted() -> None:
    settled = assign(
        wrapper("x/kernel", "x/bias", architecture=model(dense("a"))),
        Request(),
    )
    assert any("placed by their position" in note for note in settled.notes)


def test_numbers_of_another_session_tell_what_was_frozen_inside_a_nested_model() -> None:
    saved = ("dense_3/kernel", "dense_3/bias", "p_re_lu_2/alpha", "dense_4/kernel", "dense_4/bias")
    first = group("dense_1", "dense_1/kernel", "dense_1/bias")
    nested = group("sequential_1", "dense_2/kernel", "dense_2/bias", "p_re_lu_1/alpha")
    like = Reference(where="like.h5", groups=(first, nested))
    settled = assign(wrapper(*saved), Request(like=like))
    assert shown(settled)[1] == ("sequential_1", ["dense_4/kernel:0", "dense_4/bias:0", "p_re_lu_2/alpha:0"])
    assert settled.frozen == ("dense_4",)
    assert settled.reordered
    kept = assign(wrapper(*saved), Request(like=like, order="saved"))
    assert shown(kept)[1] == ("sequential_1", ["p_re_lu_2/alpha:0", "dense_4/kernel:0", "dense_4/bias:0"])


# An encoder with layers of equal shapes, e0 and e2 frozen when the checkpoint was saved.
EQUAL_SHAPES = tuple(
    f"{name}/{leaf}" for name in ("a", "e1", "e3", "z", "e0", "e2") for leaf in ("kernel", "bias")
)


def encoder(*frozen: str) -> dict[str, Any]:
    inner = stack(*(dense(f"e{n}", trainable=f"e{n}" not in frozen) for n in range(4)), name="enc")
    return stack(dense("a"), inner, dense("z"))


def inside(assignment: Assignment) -> list[str]:
    (weights,) = (names for name, names in shown(assignment) if name == "enc")
    return [name.split("/")[0] for name in weights[::2]]


@pytest.mark.parametrize("own", [False, True])
@pytest.mark.parametrize("form", ["file", "json"])
def test_a_nested_model_is_in_the_order_that_the_reference_model_loads(form: str, own: bool) -> None:
    architecture = parse_model(json.dumps(encoder("e0", "e2")), where="config") if own else None
    source = wrapper(*EQUAL_SHAPES, architecture=architecture)
    like = reference_from_json(json.dumps(encoder()), where="like.json")
    if form == "file":
        names = [f"{name}/{leaf}" for name in ("e0", "e1", "e2", "e3") for leaf in ("kernel", "bias")]
        ends = (group(name, f"{name}/kernel", f"{name}/bias") for name in ("a", "z"))
        like = Reference(where="like.h5", groups=(next(ends), group("enc", *names), next(ends)))
    settled = assign(source, Request(like=like))
    assert inside(settled) == ["e0", "e1", "e2", "e3"]
    assert settled.reordered
    assert {path.split("/")[-1] for path in settled.frozen} == {"e0", "e2"}
    assert any("order that the reference model loads" in note for note in settled.notes)
    kept = assign(source, Request(like=like, order="saved"))
    assert inside(kept) == ["e1", "e3", "e0", "e2"]
    assert not kept.reordered
    assert any("order: load it into a model with the same trainable flags" in note for note in kept.notes)
    notes = assign(source, Request(like=like, order="any")).notes
    assert not any("frozen" in note or "order that" in note for note in notes)


def test_a_reference_model_with_frozen_layers_is_followed_too() -> None:
    weights = tuple(
        f"{name}/{leaf}" for name in ("a", "e0", "e1", "e2", "e3", "z") for leaf in ("kernel", "bias")
    )
    like = reference_from_json(json.dumps(encoder("e1")), where="like.json")
    assert inside(assign(wrapper(*weights), Request(like=like))) == [
        "e0",
        "e2",
        "e3",
        "e1",
    ]


def test_names_that_pair_no_layers_do_not_settle_a_nested_model_of_equal_shapes() -> None:
    weights = [name.replace("e", "odd", 1) if name.startswith("e") else name for name in EQUAL_SHAPES]
    names = [f"{name}/{leaf}" for name in ("p", "q", "r", "s") for leaf in ("kernel", "bias")]
    ends = (group(name, f"{name}/kernel", f"{name}/bias") for name in ("a", "z"))
    like = Reference(where="like.h5", groups=(next(ends), group("enc", *names), next(ends)))
    with pytest.raises(Undecided):
        assign(wrapper(*weights), Request(like=like))


def test_another_model_is_no_reference() -> None:
    architecture = parse_model(json.dumps(encoder("e0", "e2")), where="config")
    like = reference_from_json(json.dumps(stack(dense("a"), dense("enc"), dense("z"))), where="like.json")
    with pytest.raises(Undecided, match="is another model"):
        assign(wrapper(*EQUAL_SHAPES, architecture=architecture), Request(like=like))


def by_full_file(
    trained: dict[str, Any], reference: dict[str, Any] | None, *groups: LayerGroup, keras: str = "2.2.4"
) -> Assignment:
    """Assign the weights of a file with an architecture for a reference file with or without one."""
    listed_weights = [weight.name.removesuffix(":0") for layer in groups for weight in layer.weights]
    config = None if reference is None else json.dumps(reference)
    like = Checkpoint(root="/", layers=groups, keras_version=keras, model_config=config)
    numbered = tuple(
        replace(weight, path=f"/{number}") for number, weight in enumerate(listed(*listed_weights))
    )
    return assign(
        Template(
            group=LayerGroup(name="model_1", weights=numbered),
            architecture=parse_model(json.dumps(trained), where="model_config"),
            replicas=2,
        ),
        Request(like=reference_from_checkpoint(like, where="like.h5")),
    )


def nested(*flags: bool, **config: Any) -> dict[str, Any]:
    """Make a stack of a stack of layers `a` and `b` without biases."""
    layers = [dense(name, trainable=flag, use_bias=False) for name, flag in zip("ab", flags, strict=True)]
    inner = stack(*layers, name="inner")
    inner["config"].update(config)
    return stack(inner)


def test_a_group_without_names_is_read_by_the_flags_of_its_own_model() -> None:
    """Of two kernels without scopes, the one that trains in the reference model is listed first."""
    kernels = group("inner", "kernel", "kernel")
    settled = by_full_file(nested(True, True), nested(False, True), kernels)
    assert [weight.source.path for weight in settled.layers[0].weights] == ["/1", "/0"]


def test_a_group_without_names_or_flags_is_refused() -> None:
    with pytest.raises(Undecided, match="does not tell in which order it loads the nested model 'inner'"):
        by_full_file(nested(True, True), None, group("inner", "kernel", "kernel"))


def test_keras_3_lists_a_frozen_model_layer_by_layer_whatever_trains_inside() -> None:
    kernels = group("inner", "kernel", "kernel")
    settled = by_full_file(nested(True, True), nested(False, True, trainable=False), kernels, keras="3.3.3")
    assert [weight.source.path for weight in settled.layers[0].weights] == ["/0", "/1"]


def test_the_end_of_a_custom_layer_that_trains_shows_only_before_another_that_does() -> None:
    """`w` trains and `s` does not, but where a frozen layer follows, both may train or neither."""
    names = ("odd/w", "odd/s", "d/kernel", "d/bias")
    trained, thawed = (
        stack(stack(entry("odd", "Odd"), dense("d", trainable=flag), name="inner")) for flag in (False, True)
    )
    own = parse_model(json.dumps(trained), where="model_config")
    with pytest.raises(
        Undecided, match="does not tell which weights of the nested model 'inner' are trainable"
    ):
        assign(
            wrapper(*names, architecture=own),
            Request(like=reference_from_json(json.dumps(thawed), where="like.json")),
        )


def test_a_custom_layer_that_is_frozen_in_the_reference_model_may_have_trained() -> None:
    inner = stack(entry("odd", "Odd", trainable=False), dense("d"), name="inner")
    settled = by_json(stack(inner), "odd/w", "d/kernel", "d/bias", "odd/s")
    assert shown(settled) == [("inner", ["d/kernel:0", "d/bias:0", "odd/w:0", "odd/s:0"])]


@pytest.mark.parametrize("form", ["json", "file"])
def test_a_reference_model_that_lists_the_same_layers_in_another_order_is_followed(form: str) -> None:
    """Keras 3 sorts the branches of a model by rules of its own."""
    trained, reference = (
        stack(stack(*(dense(name, use_bias=False) for name in order), name="inner")) for order in ("ab", "ba")
    )
    if form == "file":
        settled = by_full_file(trained, reference, group("inner", "kernel", "kernel"), keras="3.3.3")
        assert [weight.source.path for weight in settled.layers[0].weights] == ["/1", "/0"]
        return
    settled = assign(
        wrapper("a/kernel", "b/kernel", architecture=parse_model(json.dumps(trained), where="model_config")),
        Request(like=reference_from_json(json.dumps(reference), where="like.json")),
    )
    assert shown(settled) == [("inner", ["b/kernel:0", "a/kernel:0"])]


def test_numbers_of_another_session_are_told_behind_a_common_scope_too() -> None:
    """`dense` and `dense_1` of the reference model are `dense_1` and `dense_2` here; the last of them was frozen."""
    groups = (group("dense_1", "tower/dense_1/kernel"), group("model", "tower/dense/kernel"))
    settled = assign(
        wrapper("tower/dense_2/kernel", "tower/dense_1/kernel"),
        Request(like=Reference(where="like.h5", groups=groups)),
    )
    assert shown(settled) == [("dense_1", ["tower/dense_2/kernel:0"]), ("model", ["tower/dense_1/kernel:0"])]


def test_an_automatic_name_is_no_second_build_where_others_of_its_class_are_named_as_they_are() -> None:
    """`dense_2` beside `dense_1` may be the `dense_1` of another session, and not the second `dense`."""
    units = expected_from_groups((group("dense", "dense/kernel"), group("dense_1", "dense_1/kernel")))
    for names, heard in {
        ("dense_1/kernel", "dense_2/kernel"): [{1}, set()],
        ("dense/kernel", "dense_1_1/kernel"): [{0}, {1}],
        ("dense_2/kernel", "dense_1_1/kernel"): [{0}, {1}],
    }.items():
        assert list(map(set, by_scope_or_suffix(Problem(listed(*names), units)))) == heard


def test_a_custom_layer_does_not_own_the_weights_of_several() -> None:
    """`odd` and `odd_1` of the reference model are `odd_1` and `odd_2` here, and no second builds of `odd`."""
    first, second = (entry(name, "Odd", trainable=False) for name in ("odd", "odd_1"))
    layers = [stack(first, name="inner"), second, dense("dense", use_bias=False)]
    with pytest.raises(Undecided):
        by_json(stack(*layers), "dense_1/kernel", "odd_1/s", "odd_2/s")


def test_weights_without_scopes_of_one_name_may_be_those_of_several_layers() -> None:
    d, e = ("d/kernel", "d/bias"), ("e/kernel", "e/bias")
    groups = (group("first", "w", "w"), group("d", *d), group("second", "w", "w"), group("e", *e))
    with pytest.raises(Undecided, match="in several ways"):
        assign(
            wrapper("w", *e, "w", "w", *d, "w"),
            Request(like=Reference(where="like.h5", groups=groups)),
        )


@pytest.mark.parametrize("order", ["reference", "saved", "any"])
def test_a_reference_model_that_a_full_model_does_not_need_is_noted(order: Order) -> None:
    template = wrapper("a/kernel", "a/bias", architecture=model(dense("a")))
    like = reference_from_json(json.dumps(stack(dense("a"))), where="like.json")
    settled = assign(template, Request(like=like, order=order))
    assert settled.settled_by == "architecture"
    assert any(note.startswith("the reference model was not needed") for note in settled.notes)


@pytest.mark.parametrize("order", ["reference", "saved", "any"])
@pytest.mark.parametrize("form", ["json", "file"])
def test_a_reference_model_that_contradicts_a_full_model_is_refused(order: Order, form: str) -> None:
    template = wrapper("a/kernel", "a/bias", architecture=model(dense("a")))
    other = stack(entry("a", "Dense", units=5))
    like = reference_from_json(json.dumps(other), where="like.json")
    if form == "file":
        like = Reference(where="like.h5", groups=(group("a", "a/kernel"),))
    with pytest.raises(Undecided, match=r"another model|would not load"):
        assign(template, Request(like=like, order=order))


def test_the_assumption_of_a_plain_model_is_noted_or_refused_with_a_full_model() -> None:
    plain = wrapper("a/kernel", "a/bias", architecture=model(dense("a")))
    notes = assign(plain, Request(plain=True)).notes
    assert any("plain model was not needed" in note for note in notes)
    nested = model(stack(dense("a"), name="inner"))
    with pytest.raises(UsageRefused, match="'inner' is a nested model"):
        assign(wrapper("a/kernel", "a/bias", architecture=nested), Request(plain=True))
    frozen = model(dense("a", trainable=False), entry("b", "BatchNormalization"))
    weights = ("b/gamma", "b/beta", "a/kernel", "a/bias", "b/moving_mean", "b/moving_variance")
    with pytest.raises(UsageRefused, match="'a' was frozen"):
        assign(wrapper(*weights, architecture=frozen), Request(plain=True))


def test_remedies_never_contradict_what_was_given() -> None:
    ends = (group(name, f"{name}/kernel", f"{name}/bias") for name in ("a", "z"))
    names = [f"{name}/{leaf}" for name in ("p", "q", "r", "s") for leaf in ("kernel", "bias")]
    weights = [name.replace("e", "odd", 1) if name.startswith("e") else name for name in EQUAL_SHAPES]
    fresh = Reference(where="like.h5", groups=(next(ends), group("enc", *names), next(ends)))
    with pytest.raises(Undecided) as by_weights:
        assign(wrapper(*weights), Request(like=fresh))
    assert by_weights.value.remedies == (GIVE_JSON,)
    described = reference_from_json(json.dumps(stack(dense("p"), dense("q"))), where="like.json")
    falling = wrapper("x_2/kernel", "x_2/bias", "x_1/kernel", "x_1/bias")
    orders: tuple[Order, ...] = ("saved", "any")
    for order in orders:
        with pytest.raises(Undecided, match="in several ways") as by_description:
            assign(falling, Request(like=described, order=order))
        assert by_description.value.remedies == (GIVE_WEIGHTS,)
        assert ("trainable flags" in by_description.value.hint) == (order == "saved")


def test_many_nested_models_are_settled_by_the_names_of_their_layers() -> None:
    """Any of the nested models may have been frozen as a whole: such readings must not use up the limit of steps."""
    names = [[f"dense_{50 * part + number}" for number in range(50)] for part in range(40)]
    parts = (stack(*map(dense, inside), name=f"model_{part}") for part, inside in enumerate(names))
    weights = [f"{name}/{leaf}" for inside in names for name in inside for leaf in ("kernel", "bias")]
    settled = assign(wrapper(*weights, architecture=model(*parts)), Request())
    assert [len(layer.weights) for layer in settled.layers] == [100] * 40
