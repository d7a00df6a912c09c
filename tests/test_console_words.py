"""Numbers, types, lines and commands as people read them."""

from __future__ import annotations

import pytest

from remap.console.text import (
    Line,
    bytes_in_words,
    cell_width,
    count,
    dtype,
    elided,
    parameters,
    shape,
    wrapped,
)


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (0, "0"),
        (999_999, "999,999"),
        (1_000_000, "1.0 M"),
        (25_636_712, "25.6 M"),
        (999_900_000, "999.9 M"),
        (999_990_000, "1.00 G"),
        (1_540_000_000, "1.54 G"),
    ],
)
def test_parameters_are_exact_up_to_a_million(number: int, words: str) -> None:
    assert parameters(number) == words


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (0, "0 bytes"),
        (999, "999 bytes"),
        (1000, "1.0 kB"),
        (22_312, "22.3 kB"),
        (363_560, "364 kB"),
        (999_600, "1.0 MB"),
        (102_853_048, "103 MB"),
        (5_000_000_000, "5.0 GB"),
        (7_000_000_000_000, "7.0 TB"),
        (7_000_000_000_000_000, "7000 TB"),
    ],
)
def test_bytes_are_decimal_with_two_or_three_digits(number: int, words: str) -> None:
    assert bytes_in_words(number) == words


def test_counts_shapes_and_types() -> None:
    assert (count(1, "layer"), count(1200, "layer")) == ("1 layer", "1,200 layers")
    assert [shape(sides) for sides in ((), (3,), (3, None))] == ["()", "(3,)", "(3, ?)"]
    assert [dtype(short) for short in ("<f4", ">f8", "|b1", "|u1", "<i8")] == [
        "float32", "float64 big-endian", "bool", "uint8", "int64"
    ]  # fmt: skip


def test_a_line_counts_columns_not_characters() -> None:
    assert [cell_width(text) for text in ("abc", "層層", "e\u0301", "├── ")] == [3, 4, 1, 4]
    line = Line("ab", ("層", "bold"))
    line.pad(6)
    line.add("|")
    assert (line.plain, line.width) == ("ab層  |", 7)


@pytest.mark.parametrize("room", [5, 7, 10, 11])
@pytest.mark.parametrize("text", ["block1_conv", "層層層層層層", "ab"])
def test_an_elided_text_fits_and_keeps_its_ends(text: str, room: int) -> None:
    short = elided(text, room, "…")
    assert cell_width(short) <= room
    assert (short == text) == (cell_width(text) <= room)
    assert short[0] == text[0]
    assert elided(text, None, "…") == text


def test_a_sentence_breaks_between_words_only() -> None:
    text = "a sentence with anextraordinarilylongword in it"
    lines = [line.plain for line in wrapped(text, "", 12, first="> ", rest="  ")]
    assert lines == ["> a sentence", "  with", "  anextraordinarilylongword", "  in it"]
    assert [line.plain for line in wrapped(text, "", None)] == [text]
