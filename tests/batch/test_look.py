"""Many files are inspected and checked: a row each, and how they differ."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

import remap
from remap.console.looks import Differences
from remap.errors import InputRefused, UsageRefused
from tests.commandline import Run, runner


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    return runner(monkeypatch, capsys)


@pytest.fixture
def mixed(runs: Path, single: Path) -> Path:
    """Give a folder with three multi-GPU checkpoints, a single model and a text."""
    shutil.copy(single, runs / "single.h5")
    (runs / "text.h5").write_text("text")
    return runs


def test_many_files_are_inspected_in_order_and_one_bad_file_does_not_stop_the_others(mixed: Path) -> None:
    looks = list(remap.inspect_many([mixed], recursive=True, jobs=2))
    assert [look.source for look in looks] == [str(path) for path in sorted(mixed.iterdir())]
    for look in looks:
        if look.value is None:
            assert look.source.endswith("text.h5")
            with pytest.raises(InputRefused) as alone:
                remap.inspect(look.source)
            assert str(look.error) == str(alone.value)
        else:
            assert look.value == remap.inspect(look.source)
            assert look.size == look.value.size


def test_many_files_are_checked(mixed: Path, single: Path) -> None:
    looks = list(remap.check_many(sorted(mixed.glob("*.h*")), single))
    verdicts = sorted(look.value.verdict for look in looks if look.value is not None)
    assert verdicts == ["does not load"] * 3 + ["loads"]
    assert [look.source for look in looks if look.error is not None] == [str(mixed / "text.h5")]
    for look in looks:
        if look.value is not None:
            assert look.value == remap.check(look.source, single)


def test_the_model_may_be_a_network_by_its_name(single: Path) -> None:
    (look,) = remap.check_many([single], "resnet50")
    assert look.value == remap.check(single, "resnet50")


def test_files_are_chosen_as_in_a_conversion(mixed: Path) -> None:
    def names(**options: object) -> list[str]:
        looks = remap.inspect_many([mixed], recursive=True, **options)  # type: ignore[arg-type]
        return [Path(look.source).name for look in looks]

    assert names(include=["*.h5"], exclude=["text*"]) == ["single.h5"]
    remap.extract(mixed / "weights.01-0.52.hdf5", mixed / "new.keras")
    assert "new.keras" in names()
    with pytest.raises(UsageRefused, match="an input is a directory"):
        remap.inspect_many([mixed])
    with pytest.raises(UsageRefused, match="0 files at a time"):
        remap.inspect_many([mixed], recursive=True, jobs=0)
    with pytest.raises(InputRefused, match="no file was found"):
        remap.inspect_many([mixed], recursive=True, include=["none"])


def test_inspect_shows_a_row_for_each_file_and_how_they_differ(mixed: Path, run: Run) -> None:
    ended = run("inspect", "-r", mixed)
    assert ended.code == 3
    head, *rows = ended.out.splitlines()
    assert head.split() == ["kind", "layers", "parameters", "settled", "by", "template", "file"]
    shown = {row.split()[-1]: row.split()[:-1] for row in rows[:5]}
    assert shown[str(mixed / "weights.01-0.52.hdf5")] == [
        "multi-gpu",
        "10",
        "1,098",
        "architecture",
        "model_1",
    ]
    assert shown[str(mixed / "text.h5")] == ["refused"]
    assert len({row.index(str(mixed)) for row in rows[:5]}) == 1
    assert ended.err == f"Error: this is not an HDF5 file: it is a text file; in {mixed / 'text.h5'}\n"
    text = "\n".join(rows)
    assert f"{mixed / 'single.h5'}:" in text or "differ from" in text
    assert "kind: " in text


def test_files_that_are_alike_are_said_to_be(runs: Path, run: Run) -> None:
    ended = run("inspect", *sorted(runs.iterdir()))
    assert (ended.code, ended.err) == (0, "")
    assert ended.out.splitlines()[-1] == "All 3 files are alike: the same layers, shapes and types."


def test_json_is_a_line_for_each_file(mixed: Path, run: Run) -> None:
    ended = run("inspect", "-r", mixed, "--json")
    lines = [json.loads(line) for line in ended.out.splitlines()]
    assert [line["format"] for line in lines] == [
        "h5remap-inspection" if Path(line["source"]).name != "text.h5" else "h5remap-error" for line in lines
    ]
    assert len(lines) == 5


def test_check_shows_verdicts_and_ends_with_the_worst(mixed: Path, single: Path, run: Run) -> None:
    ended = run("check", "-r", mixed, "--like", single, "--exclude", "text*")
    assert ended.code == 3
    verdicts = sorted(row[:14].strip() for row in ended.out.splitlines()[1:5])
    assert verdicts == ["does not load"] * 3 + ["loads"]
    assert "verdict: " in ended.out
    ended = run("check", mixed / "single.h5", mixed / "single.h5", "--like", single, "--json")
    assert ended.code == 0
    assert [json.loads(line)["verdict"] for line in ended.out.splitlines()] == ["loads"] * 2


def test_options_for_one_file_are_refused_for_many(runs: Path, run: Run) -> None:
    ended = run("inspect", "-r", runs, "--depth", "1")
    assert ended.code == 2
    assert "the layers of one file are shown" in ended.err


def test_differences_take_the_same_memory_for_any_number_of_files(
    multi: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("remap.console.looks._MOST_GROUPS", 3)
    found = remap.inspect(multi)
    differences = Differences()
    for number in range(30):
        differences.add(
            replace(found, source=f"{number}.h5", replicas=max(number, 12), layers=found.layers[number % 2 :])
        )
    lines = [line.plain for line in differences.lines(None)]
    assert lines[-1].endswith("more files differ in other ways: --json tells all of them")
    assert any("replicas" in line or "missing" in line for line in lines)
    assert any(line.endswith("more differences") for line in lines) or len(lines) < 40
