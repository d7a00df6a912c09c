from __future__ import annotations

from remap.assignment.loading import FileLayer, ModelLayer, load_by_name, load_by_order


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
