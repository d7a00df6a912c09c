"""Numbers, types, lines and commands as people read them."""

from __future__ import annotations

import os
import shutil
import subprocess

import pytest

from remap.console.invocation import Invocation, command_line
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


@pytest.mark.skipif(shutil.which("bash") is None, reason="bash is not installed")
@pytest.mark.parametrize(
    "name", [b"a\nb", b"\x1b[31m'\\0", b"\xff7", b"\xc3\xa9\t\xe2\x80\xae", b"new'\n$(touch pwned)`x`"]
)
def test_a_command_with_what_no_terminal_shows_means_its_words_too(name: bytes) -> None:
    line = command_line("inspect", os.fsdecode(name), "--layer", os.fsdecode(name))
    assert line.isprintable()
    done = subprocess.run(
        ["bash", "-c", f"h5remap() {{ printf '%s\\0' \"$@\"; }}; {line}"], capture_output=True, check=True
    )
    assert done.stdout.split(b"\0") == [b"inspect", name, b"--layer", name, b""]


def test_a_lone_surrogate_in_a_command_is_shown_as_bytes() -> None:
    assert (
        command_line("extract", "a.h5", "--submodel", "m\ud800")
        == r"h5remap extract a.h5 --submodel $'m\355\240\200'"
    )


def test_a_file_whose_name_begins_with_a_dash_is_no_option_in_a_command() -> None:
    assert Invocation(command="inspect", source="-a.h5").line == "h5remap inspect ./-a.h5"
