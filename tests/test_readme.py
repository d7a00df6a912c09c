"""What the README promises: every message leads to the behaviour beside it, every line of code runs."""

from __future__ import annotations

import importlib.util
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from remap import check, extract
from tests.commandline import Run, runner
from tests.conftest import told
from tests.keras_verdicts import Said, Task, verdicts
from tests.truth import differences

Case = Callable[[str, str], Path]
Ask = Callable[..., Said]

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


@pytest.fixture(scope="module")
def ask(tmp_path_factory: pytest.TempPathFactory, case: Case) -> Ask:
    """Give a function that tells what a real Keras says of the files of the README and what was made of them.

    Each Keras is asked once: it takes seconds to start.
    """
    folder = tmp_path_factory.mktemp("readme")
    full, weights = DEMO / "multi_gpu.h5", DEMO / "multi_gpu_weights.h5"
    files = {name: folder / f"{name}.h5" for name in ("single", "single_weights", "nested")}
    extract(full, files["single"])
    extract(weights, files["single_weights"], like=DEMO / "model.json")
    extract(case("keras-2.2.4", "nested") / "multi.h5", files["nested"])
    files |= {"full": full, "weights": weights}
    tasks: dict[tuple[str, bool], Task] = {
        (name, compiled): (
            path,
            [weights, files["single_weights"]] if name == "single" and not compiled else [],
            compiled,
        )
        for name, path in files.items()
        for compiled in (False, True)
    }
    answers: dict[str, dict[tuple[str, bool], Said]] = {}

    def asked(keras: str, name: str, *, compiled: bool = False) -> Said:
        if importlib.util.find_spec(keras) is None:
            pytest.skip(f"{keras} is not installed")
        if keras not in answers:
            answers[keras] = dict(zip(tasks, verdicts(keras, list(tasks.values())), strict=True))
        return answers[keras][name, compiled]

    return asked


def matches(message: str, words: str) -> bool:
    """Compare with Keras's words; `...` stands for anything, and backticks do not count."""
    pattern = re.escape(message).replace(r"\.\.\.", ".*")
    return re.search(pattern, words.replace("`", "")) is not None


OLD_COUNT = "You are trying to load a weight file containing 1 layers into a model with 20 layers."
NEW_COUNT = (
    "Layer count mismatch when loading weights from file. Model expected 20 layers, found 1 saved layers."
)
OLD_NAMED = 'Layer #6 (named "predictions") expects 2 weight(s), but the saved weights have 0 element(s).'
NEW_NAMED = (
    "Weight count mismatch for layer #6 (named predictions). Layer expects 2 weight(s). "
    "Received 0 saved weight(s)"
)


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


@pytest.mark.parametrize("keras", ["keras", "tf_keras"])
def test_the_messages_of_loading_weights_today(ask: Ask, keras: str) -> None:
    for message in (NEW_COUNT, NEW_NAMED):
        assert promise(message).startswith(WEIGHTS)
    built, said = ask(keras, "single")
    assert built == ""
    (by_order, by_name), after = said
    assert matches(NEW_COUNT, by_order)
    assert matches(NEW_NAMED, by_name)
    assert after == ["", ""]


def test_axes_and_indices_inside_a_nested_model(case: Case, tmp_path: Path, ask: Ask) -> None:
    for message in ("axes don't match array", "list index out of range"):
        assert promise(message).startswith(FULL)
    folder = case("keras-2.2.4", "nested")
    extract(folder / "multi.h5", tmp_path / "single.h5")
    assert differences(tmp_path / "single.h5", folder / "single.h5") == []
    assert ask("tf_keras", "nested", compiled=True)[0] == ""


def test_python_code_in_the_wrapper(ask: Ask) -> None:
    lambdas = "Requested the deserialization of a Lambda layer"
    said = {promise(message) for message in (lambdas, "bad marshal data", "EOF read where object expected")}
    (words,) = said
    assert words.startswith(FULL)
    assert "compile=False" in words
    assert matches(lambdas, ask("keras", "full")[0])
    assert ask("keras", "single")[0] == ""
    assert re.search("bad marshal data|EOF read where object expected", ask("tf_keras", "full")[0])
    assert ask("tf_keras", "single", compiled=True)[0] == ""


def test_no_model_in_a_weights_file(ask: Ask) -> None:
    today, old = "No model config found in the file", "No model found in config file."
    assert promise(today) == promise(old)
    assert promise(today).startswith(WEIGHTS)
    for keras in ("keras", "tf_keras"):
        assert matches(today, ask(keras, "weights")[0])
        assert matches(today, ask(keras, "single_weights")[0])
        assert ask(keras, "single")[1][1] == ["", ""]


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


def test_an_optimizer_that_keras_3_does_not_know(ask: Ask) -> None:
    message = "Argument(s) not recognized: {'lr': ...}"
    assert promise(message) == "`load_model('single.h5', compile=False)`"
    assert matches(message, ask("keras", "single", compiled=True)[0])
    assert ask("keras", "single")[0] == ""


def test_every_message_has_a_test() -> None:
    tests = Path(__file__).read_text(encoding="utf-8").replace('"\n    "', "")
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
    assert capsys.readouterr().out == "multi-gpu\nlike () True\n"


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
