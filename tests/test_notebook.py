"""Results in a notebook and at a Python prompt."""

from __future__ import annotations

from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import pytest

import remap
from remap import Check, Inspection, Plan, Report

Case = Callable[[str, str], Path]
Result = Inspection | Report | Check | Plan


class Tags(HTMLParser):
    """Collect the tags of a document, and hold them to be closed in order."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: set[str] = set()
        self.open: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert {name for name, _ in attrs} <= {"style"}
        self.seen.add(tag)
        self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.fixture
def results(case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Result]:
    folder = case("keras-2.2.4", "nested")
    monkeypatch.chdir(tmp_path)
    Path("<b>&.h5").symlink_to(folder / "multi.h5")
    return {
        "inspection": remap.inspect("<b>&.h5"),
        "report": remap.extract("<b>&.h5", "<i>.h5"),
        "check": remap.check("<i>.h5", folder / "single.json"),
        "plan": remap.plan("<b>&.h5"),
    }


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("inspection", ("<b>&.h5", "◀ the real model", "backbone_image")),
        ("report", ("<i>.h5", "settled by", "h5remap extract '<b>&.h5' -o '<i>.keras'")),
        ("check", ("Loads:", "predictions")),
    ],
)
def test_a_notebook_shows_what_the_command_shows(
    results: dict[str, Result], name: str, words: tuple[str, ...]
) -> None:
    shown = results[name]._repr_html_()  # type: ignore[union-attr]
    tags = Tags()
    tags.feed(shown)
    assert tags.open == []
    assert tags.seen == {"pre", "span"}
    assert all(word in tags.text for word in words)


@pytest.mark.parametrize("name", ["inspection", "report", "check", "plan"])
def test_a_prompt_shows_a_result_in_a_few_lines(results: dict[str, Result], name: str) -> None:
    shown = repr(results[name])
    assert shown.startswith(type(results[name]).__name__)
    assert len(shown) < 400


def test_dir_lists_the_functions_and_values() -> None:
    assert dir(remap) == sorted(remap.__all__)
    assert {"Inspection", "Remedy", "check", "extract", "inspect", "plan"} <= set(dir(remap))
