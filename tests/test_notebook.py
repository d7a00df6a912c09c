"""Results in a notebook and at a Python prompt."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from html import unescape
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import remap
from remap import Check, Comparison, Inspection, Plan, Report

Case = Callable[[str, str], Path]
Result = Inspection | Report | Check | Comparison | Plan


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
        "comparison": remap.compare("<b>&.h5", "<i>.h5", stats=True),
        "plan": remap.plan("<b>&.h5"),
    }


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("inspection", ("<b>&.h5", "◀ the real model", "backbone_image")),
        ("report", ("<i>.h5", "settled by", "h5remap extract '<b>&.h5' -o '<i>.keras'")),
        ("check", ("Loads:", "load_model of Keras 3", "predictions")),
        ("comparison", ("Equal:", "<i>.h5", "did not move")),
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


@pytest.mark.parametrize("name", ["inspection", "report", "check", "comparison", "plan"])
def test_a_prompt_shows_a_result_in_a_few_lines(results: dict[str, Result], name: str) -> None:
    shown = repr(results[name])
    assert shown.startswith(type(results[name]).__name__)
    assert len(shown) < 400


def test_rich_shows_nothing_itself_in_a_notebook(
    results: dict[str, Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    shown: list[object] = []
    display = SimpleNamespace(display=shown.append)
    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(display=display))
    monkeypatch.setitem(sys.modules, "IPython.display", display)
    monkeypatch.setattr("rich.console._is_jupyter", lambda: True)
    results["inspection"]._repr_html_()  # type: ignore[union-attr]
    assert shown == []


def test_dir_lists_the_functions_and_values() -> None:
    assert dir(remap) == sorted(remap.__all__)
    assert {"Inspection", "Remedy", "check", "extract", "inspect", "plan"} <= set(dir(remap))


CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
# What the browser shows of the result, and whether its columns can be aligned: letters of one width, no broken line.
LOOK = """
<script>
addEventListener("load", () => {
    const found = [...document.querySelectorAll("pre")].find((one) => one.innerText.includes("the real model"));
    const width = (text) => {
        const span = document.createElement("span");
        span.textContent = text;
        found.append(span);
        const measured = span.getBoundingClientRect().width;
        span.remove();
        return measured;
    };
    const seen = {
        text: found.innerText,
        widths: [width("iiiiiiii"), width("WWWWWWWW")],
        whiteSpace: getComputedStyle(found).whiteSpace,
        images: document.images.length,
        title: document.title,
        times: document.body.innerText.split("the real model").length - 1,
    };
    const report = document.createElement("textarea");
    report.id = "seen";
    report.textContent = JSON.stringify(seen);
    document.body.append(report);
});
</script>
"""


@pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed")
@pytest.mark.skipif(not importlib.util.find_spec("ipykernel"), reason="ipykernel is not installed")
@pytest.mark.skipif(not importlib.util.find_spec("nbconvert"), reason="nbconvert is not installed")
def test_a_browser_shows_the_result_in_an_executed_notebook(
    case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No markup in a file's name reaches the page, and lines are as they are in a terminal."""
    name = "<img src=x onerror='document.title=1'>.h5"
    monkeypatch.chdir(tmp_path)
    Path(name).symlink_to(case("keras-2.2.4", "nested") / "multi.h5")
    page = executed(tmp_path, f"import remap\nremap.inspect({name!r})")
    (tmp_path / "page.html").write_text(page.replace("</body>", f"{LOOK}</body>"))
    seen = in_browser(tmp_path / "page.html", tmp_path)
    result = Tags()
    result.feed(remap.inspect(name)._repr_html_())
    assert seen["text"].rstrip() == result.text.rstrip()
    assert name in seen["text"]
    assert seen["widths"][0] == seen["widths"][1]
    assert seen["whiteSpace"] == "pre"
    assert seen["images"] == 0
    assert seen["times"] == 1
    assert seen["title"] == "notebook"


def executed(folder: Path, source: str) -> str:
    """Run a notebook of one cell in a kernel of its own, and give the page that nbconvert makes of it."""
    kernel = {"display_name": "Python", "language": "python", "name": "python3"}
    cell: dict[str, Any] = {
        "cell_type": "code",
        "metadata": {},
        "source": source,
        "outputs": [],
        "execution_count": None,
    }
    notebook = {"cells": [cell], "metadata": {"kernelspec": kernel}, "nbformat": 4, "nbformat_minor": 4}
    (folder / "notebook.ipynb").write_text(json.dumps(notebook))
    command = ["-m", "nbconvert", "--execute", "--to", "html", "notebook.ipynb"]
    places = {
        name: str(folder / name) for name in ("IPYTHONDIR", "JUPYTER_CONFIG_DIR", "JUPYTER_RUNTIME_DIR")
    }
    paths = os.pathsep.join(sys.path)
    done = subprocess.run(
        [sys.executable, *command],
        cwd=folder, env={**os.environ, **places, "PYTHONPATH": paths}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return (folder / "notebook.html").read_text()


def in_browser(page: Path, folder: Path) -> dict[str, Any]:
    """Give what the script in a page found when a browser without a network had loaded it."""
    options = [
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--no-first-run",
        "--disable-background-networking",
    ]
    offline = ["--host-resolver-rules=MAP * ~NOTFOUND", "--disable-component-update", "--disable-sync"]
    profile = f"--user-data-dir={folder / 'profile'}"
    assert CHROMIUM is not None
    done = subprocess.run(
        [CHROMIUM, *options, *offline, profile, "--dump-dom", page.as_uri()],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    found = re.search(r'<textarea id="seen">(.*?)</textarea>', done.stdout, re.DOTALL)
    assert found is not None, done.stderr
    seen: dict[str, Any] = json.loads(unescape(found[1]))
    return seen
