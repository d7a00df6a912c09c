"""What the pages name exists: files, folders, modules that are run, make targets, links and headings."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGES = sorted(
    path
    for pattern in ("*.md", "docs/*.md", "fixtures/**/*.md", "benchmarks/RESULTS.md", ".github/**/*.*")
    for path in ROOT.glob(pattern)
)
_FOLDERS = r"remap|tests|fixtures|docs|benchmarks|\.ci|\.github"


def missing(text: str, folder: Path) -> list[str]:
    """List what a page names and what is not there; links are relative to the page's folder."""
    return [
        *(path for path in _paths(text) if not any(ROOT.glob(path))),
        *(f"python -m {name}" for name in _modules(text) if importlib.util.find_spec(name) is None),
        *(f"make {target}" for target in _targets(text) if target not in _known_targets()),
        *(link for link in _links(text) if not _leads_somewhere(link, text, folder)),
    ]


def _paths(text: str) -> list[str]:
    """Find paths below the project's folders; of a path with a placeholder, what stands before it."""
    return re.findall(rf"(?<![\w/.>-])((?:{_FOLDERS})/[\w.*/-]*[\w*])(?![\w/]*<)", text)


def _modules(text: str) -> list[str]:
    return re.findall(rf"-m ((?:{_FOLDERS})(?:\.\w+)+)", text)


def _targets(text: str) -> list[str]:
    return re.findall(r"(?:`|^ {4}|run: )make ([a-z][a-z-]*)", text, re.MULTILINE)


def _known_targets() -> set[str]:
    return set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))


def _links(text: str) -> list[str]:
    return re.findall(r"\]\((?![a-z]+:)([^)\s]+)\)", text)


def _leads_somewhere(link: str, text: str, folder: Path) -> bool:
    path, _, heading = link.partition("#")
    target = folder / path
    if not target.exists():
        return False
    if heading:
        return heading in _anchors(target.read_text(encoding="utf-8") if path else text)
    return True


def _anchors(text: str) -> Iterator[str]:
    """Give the anchors of a page's headings as code hosts make them."""
    for title in re.findall(r"^#+ (.*)$", text, re.MULTILINE):
        yield re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_what_a_page_names_exists(page: Path) -> None:
    assert missing(page.read_text(encoding="utf-8"), page.parent) == []


@pytest.mark.parametrize(
    "stale",
    [
        "remap/nothing.py",
        "tests/test_nothing_*.py",
        "python -m tests.nothing",
        "make nothing",
        "nothing.md",
        "json.md#nothing",
    ],
)
def test_what_does_not_exist_is_found(stale: str) -> None:
    text = f"[here]({stale})" if ".md" in stale else f"see `{stale}`"
    assert missing(text, ROOT / "docs") == [stale]


def test_a_package_index_can_show_the_description() -> None:
    pytest.importorskip("hatchling", reason="hatchling, which builds the package, is not installed")
    spec = importlib.util.spec_from_file_location("hatch_build", ROOT / "hatch_build.py")
    assert spec is not None
    assert spec.loader is not None
    hook = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(hook)
    text = hook.description(ROOT)
    assert _links(text) == []
    assert "![" not in text
    line = "├── lambda_1 … lambda_4  × 4  Lambda                         cut the batch into slices"
    assert line in hook.picture_text(ROOT / "docs" / "images" / "multi_gpu.svg").splitlines()
    assert line in text
