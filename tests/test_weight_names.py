from __future__ import annotations

import pytest

from remap.weight_names import clean, family, layer_scope, leaf, numbered, runs, scope, uniquify


@pytest.mark.parametrize(
    ("name", "cleaned"),
    [("b'd/kernel:0'_2", "d/kernel:0"), ('b"d/kernel:0"', "d/kernel:0"), ("bias:0", "bias:0")],
)
def test_undoes_the_bytes_that_keras_2_3_wrote_as_text(name: str, cleaned: str) -> None:
    assert clean(name) == cleaned


@pytest.mark.parametrize(
    ("name", "expected"),
    [("a/b/kernel_1:0", "kernel"), ("initw:0", "initw"), ("a/moving_mean:0", "moving_mean"), ("d/W:0", "W")],
)
def test_leaf_is_the_last_part_without_counter_and_slot(name: str, expected: str) -> None:
    assert leaf(name) == expected


def test_scope_is_all_before_the_leaf() -> None:
    assert scope("a/b/kernel:0") == "a/b"
    assert scope("kernel:0") == ""


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("bi/forward_lstm_1/kernel:0", "bi"),
        ("bi/backward_lstm/lstm_cell_2/kernel:0", "bi"),
        ("rnn/stacked_rnn_cells/lstm_cell/kernel:0", "rnn"),
        ("lstm_cell/kernel:0", "lstm_cell"),
        ("conv1/bn/gamma:0", "conv1/bn"),
    ],
)
def test_layer_scope_has_no_part_that_keras_puts_inside_a_layer(name: str, expected: str) -> None:
    assert layer_scope(name) == expected


def test_automatic_numbers_are_split_off() -> None:
    assert family("dense_12") == ("dense", 12)
    assert family("dense") == ("dense", 0)
    assert numbered("dense_3_1") == ("dense", (3, 1))


def test_parts_of_a_scope_are_listed_likeliest_first() -> None:
    assert runs("a/b/c") == ["a/b/c", "b/c", "c", "a/b", "a", "b"]


def test_repeated_names_are_counted_as_keras_counts_them() -> None:
    assert uniquify(["a", "b", "a", "a"]) == ["a", "b", "a_2", "a_3"]


def test_a_number_too_long_for_python_is_no_number() -> None:
    long = "dense_" + "9" * 5000
    assert family(long) == (long, 0)
    assert numbered(f"{long}_1") == (long, (1,))
