from __future__ import annotations

import pytest

from remap.assignment.loading import FileLayer, ModelLayer, load_by_name, load_by_order, narrowed


def saved(name: str, *shapes: tuple[int, ...]) -> FileLayer:
    return FileLayer(name=name, shapes=shapes)


def expected(name: str, *shapes: tuple[int | None, ...] | None) -> ModelLayer:
    return ModelLayer(name=name, shapes=shapes)


def test_by_order_looks_at_no_name_and_passes_over_layers_without_weights() -> None:
    loading = load_by_order([saved("x"), saved("y", (2, 3))], [expected("a", (None, 3)), expected("b")])
    assert loading.loads


def test_by_order_says_how_many_layers_keras_counts() -> None:
    loading = load_by_order([saved("model_1", (2, 2), (2,))], [expected("a", (2, 2)), expected("b", (2,))])
    assert not loading.loads
    assert loading.complaint.startswith(
        "You are trying to load a weight file containing 1 layers into a model"
    )
    assert loading.steps[-1].saved is None


def test_by_order_lists_layers_that_only_the_file_has() -> None:
    loading = load_by_order([saved("a", (2,)), saved("b", (2,))], [expected("a", (2,))])
    assert loading.steps[-1].expected is None
    assert not loading.loads


def test_by_order_says_how_many_weights_a_layer_expects() -> None:
    loading = load_by_order([saved("a", (2,))], [expected("a", (2,), (2,))])
    assert "expects 2 weights, but the saved weights have 1 elements" in loading.steps[0].complaint


def test_by_order_says_which_shapes_do_not_go_together() -> None:
    loading = load_by_order([saved("a", (2, 2))], [expected("a", (None, 3))])
    assert "Shapes (?, 3) and (2, 2) are incompatible" in loading.steps[0].complaint


def test_custom_layers_take_what_they_are_given() -> None:
    assert load_by_order([saved("a", (2, 2))], [ModelLayer(name="a", shapes=None)]).loads
    assert load_by_name([saved("a", (2, 2))], [ModelLayer(name="a", shapes=None)]).loads


def test_by_name_passes_over_strangers_without_a_word() -> None:
    loading = load_by_name([saved("x", (2,))], [expected("a", (2,))])
    assert loading.loads
    assert [(step.expected is None, step.saved is None) for step in loading.steps] == [
        (True, False),
        (False, True),
    ]


def test_by_name_counts_and_compares_where_names_meet() -> None:
    loading = load_by_name(
        [saved("in"), saved("a", (2,)), saved("b", (3,))],
        [expected("in"), expected("a", (2,), (2,)), expected("b", (2,))],
    )
    complaints = [step.complaint for step in loading.steps]
    assert (
        complaints[0] == 'Layer #1 (named "a") expects 2 weight(s), but the saved weights have 1 element(s).'
    )
    assert "Shapes (2) and (3,) are incompatible" in complaints[1]


def custom(name: str, *, optional: bool = True) -> ModelLayer:
    return ModelLayer(name=name, shapes=None, custom=("Odd",), optional=optional)


def test_a_custom_layer_with_an_empty_group_has_no_weights() -> None:
    files = [saved("odd"), saved("a", (2,))]
    loading = load_by_order(files, narrowed([custom("odd"), expected("a", (2,))], files))
    assert loading.loads
    assert loading.undecided == ()


def test_a_custom_layer_with_weights_in_its_group_has_weights() -> None:
    files = [saved("odd", (7,)), saved("a", (2,))]
    model = narrowed([custom("odd"), expected("a", (2,))], files)
    assert load_by_order(files, model).loads
    assert load_by_order(files, model).undecided == ()
    assert not load_by_order([saved("a", (2,))], model).loads


@pytest.mark.parametrize("files", [[saved("x", (2,))], [saved("y", (7,)), saved("x", (2,))]])
def test_a_custom_class_decides_where_no_group_tells_its_weights(files: list[FileLayer]) -> None:
    loading = load_by_order(files, narrowed([custom("odd"), expected("a", (2,))], files))
    assert loading.loads
    assert loading.undecided == ("Odd",)


@pytest.mark.parametrize(
    "files",
    [
        [saved("x", (3,))],
        [saved("x", (2,)), saved("y", (3,))],
        [saved("x", (2,)), saved("y", (2,)), saved("z", (2,))],
    ],
)
def test_a_file_that_does_not_fit_whatever_a_custom_class_owns_does_not_load(files: list[FileLayer]) -> None:
    loading = load_by_order(files, [custom("odd"), expected("a", (2,))])
    assert not loading.loads
    assert loading.undecided == ()


def test_of_several_custom_layers_those_are_left_out_with_which_the_rest_fits() -> None:
    model = [custom("one"), expected("a", (2,)), custom("two"), expected("b", (3,))]
    loading = load_by_order([saved("a", (2,)), saved("two", (9,)), saved("b", (3,))], model)
    assert [step.expected.name for step in loading.steps if step.expected] == ["a", "two", "b"]
    assert loading.loads
    assert load_by_order([saved("a", (2,))], model).complaint.endswith("1 layers into a model with 2 layers.")


def crossed(names: str, order: str) -> tuple[tuple[str, str], ...]:
    """Load layers in one order into a model with another order."""
    files = [saved(name, (2,)) for name in order.split()]
    return load_by_order(files, [expected(name, (2,)) for name in names.split()]).crossed


def test_weights_with_the_name_of_another_layer_of_the_model_are_crossed() -> None:
    assert crossed("a b c", "b a c") == (("a", "b"), ("b", "a"))
    assert crossed("dense_1 dense_2", "dense_2 dense_1") != ()
    assert crossed("a b", "x y") == ()


def test_numbers_of_another_session_are_not_crossed() -> None:
    assert crossed("dense_1 dense_2 dense_3", "dense_2 dense_3 dense_5") == ()
    assert crossed("dense_1 a dense_2", "dense_2 a dense_1") == (
        ("dense_1", "dense_2"),
        ("dense_2", "dense_1"),
    )


def nested(owners: str, scopes: str) -> tuple[tuple[str, str], ...]:
    """Load one nested model whose weights have other names in the file."""
    shapes = ((2,),) * len(owners.split())
    want = ModelLayer(name="enc", shapes=shapes, owners=tuple(owners.split()))
    have = FileLayer(name="enc", shapes=shapes, scopes=tuple(scopes.split()))
    return load_by_order([have], [want]).crossed


def test_weights_inside_a_nested_model_are_compared_by_name() -> None:
    assert nested("e0 e1 e2", "e0 e1 e2") == ()
    assert nested("e0 e1 e2", "e1 e0 e2") == (("e0", "e1"),)
    assert nested("p q", "scope/q scope/p") == (("p", "q"),)
    assert nested("dense dense_1", "dense_1 dense_1_1") == ()  # a second build in one session of TensorFlow 1
    assert nested("dense_1 dense_2", "dense_2 dense_3") == ()
    assert nested("e0 e1", "x y") == ()
