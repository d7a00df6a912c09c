"""A command that is printed means to a shell and to the command line what it says."""

from __future__ import annotations

import shlex

import pytest

from remap.console.invocation import Invocation, command_line
from remap.errors import Option, Remedy


@pytest.mark.parametrize("name", ["a.h5", "with space.h5", "it's.h5", "$HOME;rm.h5"])
def test_a_command_means_its_words_to_a_shell(name: str) -> None:
    assert shlex.split(command_line("inspect", name)) == ["h5remap", "inspect", name]


def extraction(target: str = "out.h5", **options: str | bool) -> Invocation:
    given: tuple[tuple[Option, str], ...] = (("target", target), *options.items())  # type: ignore[arg-type]
    return Invocation(command="extract", source="in.h5", options=given)


def test_a_name_that_begins_with_a_dash_is_no_option() -> None:
    invocation = Invocation(
        command="extract",
        source="-in.h5",
        options=(("target", "-o.h5"), ("like", "-l.h5"), ("submodel", "-m")),
    )
    assert invocation.line == "h5remap extract ./-in.h5 -o ./-o.h5 --like ./-l.h5 --submodel=-m"


def test_a_remedy_keeps_the_options_that_were_given() -> None:
    given = extraction(submodel="a b", keep_flags=True, overwrite=True)
    assert given.with_remedy(Remedy(option="like", value="model.json")).line == (
        "h5remap extract in.h5 -o out.h5 --submodel 'a b' --keep-flags --overwrite --like model.json"
    )


def test_a_remedy_takes_the_place_of_an_option_that_excludes_it() -> None:
    like = Remedy(option="like", value="model.json")
    assert (
        extraction(plain=True).with_remedy(like).line == "h5remap extract in.h5 -o out.h5 --like model.json"
    )
    plain = Remedy(option="plain")
    assert extraction(like="x.json").with_remedy(plain).line == "h5remap extract in.h5 -o out.h5 --plain"


def test_a_remedy_replaces_the_value_of_its_own_option() -> None:
    given = extraction(like="x.json")
    assert given.with_remedy(Remedy(option="like", value="y.json")).line == (
        "h5remap extract in.h5 -o out.h5 --like y.json"
    )


@pytest.mark.parametrize(
    ("target", "extension", "replaced"),
    [
        ("out.h5", ".keras", "out.keras"),
        ("a/out.HDF5", ".keras", "a/out.keras"),
        ("out.weights.h5", ".keras", "out.keras"),
        ("out.keras", ".weights.h5", "out.weights.h5"),
        ("out.ckpt", ".h5", "out.h5"),
        ("out", ".h5", "out.h5"),
        ("v1.2.h5", ".keras", "v1.2.keras"),
        ("..", ".h5", "...h5"),
    ],
)
def test_another_format_is_another_extension(target: str, extension: str, replaced: str) -> None:
    remedy = Remedy(option="target", value=extension)
    assert extraction(target).with_remedy(remedy).files == ("in.h5", replaced)


def test_a_dry_run_stays_a_dry_run() -> None:
    dry = Invocation(command="extract", source="in.h5", options=(("target", "o.h5"),), dry_run=True)
    assert dry.with_remedy(Remedy(option="plain")).line == "h5remap extract in.h5 -o o.h5 --plain --dry-run"


@pytest.mark.parametrize(
    ("command", "option", "accepted"),
    [
        ("extract", "plain", True),
        ("extract", "by_order", False),
        ("check", "by_order", True),
        ("inspect", "like", False),
    ],
)
def test_a_command_accepts_its_own_options_only(command: str, option: str, accepted: bool) -> None:
    invocation = Invocation(command=command, source="in.h5")  # type: ignore[arg-type]
    assert invocation.accepts(Remedy(option=option)) == accepted  # type: ignore[arg-type]
