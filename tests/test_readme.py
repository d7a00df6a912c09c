"""What the README promises: every message leads to the behaviour beside it, every line of code runs."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from remap import check, extract
from tests.commandline import Run, runner
from tests.conftest import told
from tests.truth import differences

Case = Callable[[str, str], Path]
ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
DEMO = ROOT / "fixtures" / "demo"
ROWS = re.findall(r"^\| (`.*?) \| .*? \| (.*?) \|$", README, re.MULTILINE)
MESSAGES = {message: promise for cell, promise in ROWS for message in re.findall(r"`(.*?)`", cell)}

WEIGHTS = "`h5remap extract weights.h5 -o single.h5 --like model.json`"
FULL = "`h5remap extract full.h5 -o single.h5`"


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    return runner(monkeypatch, capsys)


@pytest.fixture
def here(tmp_path: Path, case: Case, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give a folder with the files that the README speaks of."""
    for source, target in (
        (DEMO / "multi_gpu.h5", "multi_gpu.h5"),
        (DEMO / "multi_gpu.h5", "full.h5"),
        (DEMO / "multi_gpu_weights.h5", "multi_gpu_weights.h5"),
        (DEMO / "multi_gpu_weights.h5", "weights.h5"),
        (DEMO / "model.json", "model.json"),
        (case("keras-2.2.4", "gan") / "multi.h5", "gan.h5"),
    ):
        shutil.copy(source, tmp_path / target)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def promise(message: str) -> str:
    """Give what the README says to do about a message."""
    words: str = MESSAGES[message]
    return words


def follow(run: Run, words: str) -> None:
    """Run the command of a promise."""
    found = re.search(r"`h5remap (.*?)`", words)
    assert found is not None
    assert run(*found[1].split()).code == 0


OLD_COUNT = "You are trying to load a weight file containing 1 layers into a model with 20 layers."
OLD_NAMED = 'Layer #6 (named "predictions") expects 2 weight(s), but the saved weights have 0 element(s).'


def test_the_old_messages_of_loading_weights(here: Path, run: Run) -> None:
    before = check("weights.h5", "model.json")
    assert before.by_order_words[0] == OLD_COUNT
    assert before.by_name_words[0] == OLD_NAMED
    for message in (OLD_COUNT, OLD_NAMED):
        assert promise(message).startswith(WEIGHTS)
        follow(run, promise(message))
        (here / "single.h5").rename("followed.h5")
    after = check("followed.h5", "model.json")
    assert after.loads
    assert after.by_name.loads


def test_modules_that_cannot_be_pickled(case: Case, tmp_path: Path) -> None:
    message = "can't pickle module objects"
    assert "save_weights" in promise(message)
    for era in ("keras-2.0.9", "keras-2.1.6"):
        folder = case(era, "conv_bn")
        failed = told(folder)["failed"]
        assert isinstance(failed, dict)
        assert message in failed["multi.h5"]
        out = tmp_path / f"{era}.h5"
        extract(folder / "multi_weights.h5", out, like=folder / "single.json")
        assert differences(out, folder / "single_weights.h5") == []


def test_every_message_has_a_test() -> None:
    files = Path(__file__), Path(__file__).parent / "real_keras" / "test_readme.py"
    tests = "".join(file.read_text(encoding="utf-8") for file in files).replace('"\n    "', "")
    assert len(ROWS) == 9
    for cell, _ in ROWS:
        for message in re.findall(r"`(.*?)`", cell):
            assert message in tests, message


@pytest.mark.usefixtures("here")
def test_the_commands_run(run: Run) -> None:
    section = README.split("## On the command line")[1].split("\n\n")[1]
    lines = [line.split() for line in section.splitlines()]
    assert [line[0] for line in lines] == ["h5remap"] * 6
    for line in lines:
        assert run(*line[1:]).code == 0, line


@pytest.mark.usefixtures("here")
def test_the_library_lines_run(capsys: pytest.CaptureFixture[str]) -> None:
    code = README.split("```python\n")[1].split("```")[0]
    assert len(code.strip().splitlines()) <= 6
    exec(compile(code, "README.md", "exec"), {})  # noqa: S102
    assert capsys.readouterr().out == "multi-gpu\nreference () True\n"


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize("name", ["multi_gpu", "single"])
def test_the_pictures_show_what_is_seen_today(case: Case, run: Run, name: str) -> None:
    shutil.copy(case("keras-2.2.4", "conv_bn") / "multi.h5", "multi_gpu.h5")
    extract("multi_gpu.h5", "single.h5")
    assert run("inspect", f"{name}.h5", "--svg", "now.svg").code == 0
    picture = ROOT / "docs" / "images" / f"{name}.svg"
    assert f"({picture.relative_to(ROOT).as_posix()})" in README
    assert seen(Path("now.svg")) == seen(picture)


def seen(picture: Path) -> list[str]:
    return re.findall(r"<text[^>]*>([^<]*)</text>", picture.read_text(encoding="utf-8"))


def test_links_lead_somewhere() -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", README):
        assert (ROOT / target).exists(), target


def test_exit_codes_are_those_of_the_errors() -> None:
    import remap

    for kind, words in (
        (remap.UsageRefused, "wrong usage"),
        (remap.InputRefused, "the input is refused"),
        (remap.Undecided, "undecided"),
        (remap.NothingToExtract, "already a single model"),
        (remap.OutputRefused, "the output cannot be written"),
    ):
        assert f"{kind.exit_code} {words}" in README.replace("\n", " ")
