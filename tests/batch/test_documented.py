"""What docstrings and docs/ say of batches."""

from __future__ import annotations

import doctest
import importlib
import shutil
from pathlib import Path

import pytest

import remap
from remap.batch.results import Result
from remap.errors import SAY_PLAIN, RemapError, Undecided
from tests.documented import require_documented

DOCS = Path(__file__).resolve().parents[2] / "docs"


@pytest.mark.parametrize(("module", "examples"), [("run", 3), ("warm", 3), ("files", 1)])
def test_examples_in_docstrings_run(runs: Path, module: str, examples: int) -> None:
    source = next(runs.iterdir())
    for name in ("epoch1.h5", "epoch2.h5"):
        shutil.copy(source, name)
    assert doctest.testmod(importlib.import_module(f"remap.batch.{module}")) == (0, examples)


def test_the_example_for_python_runs(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    example = (DOCS / "batch.md").read_text().split("```python\n")[1].split("```")[0]
    exec(example.replace(', like="model.json"', ""), {})  # noqa: S102 - our own page
    assert sorted(capsys.readouterr().out.splitlines())[0].startswith("written runs/weights.01")
    assert len(list(runs.iterdir())) == len(list(Path("single").glob("*.h5")))


def test_results_are_as_documented(runs: Path) -> None:
    (runs / "0.h5").write_text("text")
    for result in remap.extract_many([runs], "out", recursive=True):
        require_documented(result.to_json())
    errors = [Undecided("open", remedies=(SAY_PLAIN,)), RemapError("a bug"), None]
    for error in errors:
        result = Result(source="a.h5", target="b.h5", size=0, status="refused", error=error)
        require_documented(result.to_json())
