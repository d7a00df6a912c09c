"""What the README says: each message is one that Keras gives, each advice helps, each block of code runs."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import remap
from remap import check, extract
from tests.commandline import Run, runner
from tests.conftest import FIXTURES, told
from tests.truth import differences

Case = Callable[[str, str], Path]
ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
DEMO = FIXTURES / "demo"
DEMO_CASE = "keras-2.2.4", "residual"
"""The recorded case that `fixtures/demo` is: it has the files that Keras saved for the single model."""

TABLE = README.split("## Is this your error?")[1].split("\n## ")[0]
ROWS = re.findall(r"^\| (`.*?) \| .*? \| (.*?) \|$", TABLE, re.MULTILINE)
MESSAGES = {message: advice for cell, advice in ROWS for message in re.findall(r"`(.*?)`", cell)}
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
RECORDED: list[dict[str, str]] = json.loads((FIXTURES / "messages.json").read_text(encoding="utf-8"))

WEIGHTS = "`h5remap extract weights.h5 -o single.h5 --like model.json`"
FULL = "`h5remap extract full.h5 -o single.h5`"
KERAS_3 = "`h5remap extract full.h5 -o single.keras`"


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    return runner(monkeypatch, capsys)


@pytest.fixture
def here(tmp_path: Path, case: Case, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give a folder with the files that the README starts from, and nothing else."""
    for source, target in (
        (DEMO / "multi_gpu.h5", "multi_gpu.h5"),
        (DEMO / "multi_gpu_weights.h5", "multi_gpu_weights.h5"),
        (DEMO / "model.json", "model.json"),
        (case("keras-2.2.4", "gan") / "multi.h5", "gan.h5"),
        *((case(*DEMO_CASE) / "single.h5", name) for name in ("old.h5", "epoch1.h5", "epoch2.h5")),
    ):
        shutil.copy(source, tmp_path / target)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def place(tmp_path: Path, case: Case, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], Path]:
    """Give a function that puts a case's multi-GPU files where the table's commands expect them."""

    def placed(era: str, name: str) -> Path:
        folder = case(era, name)
        for source, target in (
            ("multi.h5", "full.h5"),
            ("multi_weights.h5", "weights.h5"),
            ("single.json", "model.json"),
        ):
            shutil.copy(folder / source, tmp_path / target)
        monkeypatch.chdir(tmp_path)
        return folder

    return placed


def promise(message: str) -> str:
    """Give what the README says to do about a message."""
    words: str = MESSAGES[message]
    return words


def follow(run: Run, advice: str) -> None:
    """Run the commands of an advice, in order."""
    commands = re.findall(r"`h5remap (.*?)`", advice)
    assert commands
    for command in commands:
        assert run(*shlex.split(command)).code == 0, command


def recorded(message: str) -> dict[str, str]:
    """Give the recorded call that a message came from; backticks do not count."""
    for entry in RECORDED:
        if message in entry["said"].replace("`", ""):
            return entry
    pytest.fail(f"no release was recorded to say: {message}")


def same_release(entry: dict[str, str], **wanted: str) -> dict[str, str]:
    """Give the recorded call of the release of another one that has some other values."""
    keys = ("api", "keras", "tensorflow")
    (found,) = (
        other
        for other in RECORDED
        if all(other.get(key) == entry.get(key) for key in keys)
        and all(other[key] == value for key, value in wanted.items())
    )
    return found


OLD_COUNT = "You are trying to load a weight file containing 1 layers into a model with 20 layers."
OLD_NAMED = 'Layer #6 (named "predictions") expects 2 weight(s), but the saved weights have 0 element(s).'


def test_the_old_messages_of_loading_weights(case: Case, place: Case, run: Run) -> None:
    place(*DEMO_CASE)
    before = check("weights.h5", "model.json")
    assert before.words[0] == OLD_COUNT
    assert before.by_name_words[0] == OLD_NAMED
    for message in (OLD_COUNT, OLD_NAMED):
        assert promise(message).startswith(WEIGHTS)
        follow(run, promise(message))
        Path("single.h5").rename("followed.h5")
    after = check("followed.h5", "model.json")
    assert after.loads
    assert after.by_name is not None
    assert after.by_name.loads
    assert differences(Path("followed.h5"), case(*DEMO_CASE) / "single_weights.h5") == []


@pytest.mark.parametrize(
    "message",
    [
        "name 'K' is not defined",
        "module 'tensorflow.python.keras.backend' has no attribute 'slice'",
        "Unknown layer: Lambda",
        "Keras layer '<class 'keras.layers.core.Lambda'>' not supported.",
    ],
)
def test_a_release_that_stops_at_lambda_layers_takes_the_single_model(
    message: str, place: Case, run: Run
) -> None:
    failed = recorded(message)
    assert failed["file"] == "keras-2.2.4/conv_bn/multi.h5"
    truth = place("keras-2.2.4", "conv_bn")
    follow(run, promise(message))
    assert differences(Path("single.h5"), truth / "single.h5") == []
    call = {} if "call" not in failed else {"call": failed["call"]}
    assert same_release(failed, file="keras-2.2.4/conv_bn/single.h5", **call)["said"] == ""


@pytest.mark.parametrize(
    "message",
    [
        "Cannot create group in read only mode.",
        "No model found in config file.",
        "To call multi_gpu_model with gpus=4, we expect the following devices",
    ],
)
def test_a_weights_file_gives_the_weights_of_the_single_model(message: str, place: Case, run: Run) -> None:
    assert recorded(message)["file"] in ("keras-2.2.4/conv_bn/multi_weights.h5", "")
    truth = place("keras-2.2.4", "conv_bn")
    assert promise(message).startswith(WEIGHTS)
    follow(run, promise(message))
    assert differences(Path("single.h5"), truth / "single_weights.h5") == []


def test_weights_of_the_single_model_are_loaded_before_wrapping(here: Path, case: Case, run: Run) -> None:
    message = "You are trying to load a weight file containing 3 layers into a model with 1 layers."
    failed = recorded(message)
    call = "model.load_weights(file); multi_gpu_model(model)"
    assert same_release(failed, file=failed["file"], call=call)["said"] == ""
    assert promise(message).startswith("`model.load_weights('single.h5')` before `multi_gpu_model(")
    shutil.copy(case(*DEMO_CASE) / "single_weights.h5", here / "single.h5")
    follow(run, promise(message))


def test_an_older_keras_takes_the_weights_of_a_functional_model(place: Case, run: Run) -> None:
    message = "Unknown layer: Functional"
    failed = recorded(message)
    assert failed["file"] == "tf.keras-2.3.4-eager/conv_bn/single.h5"
    truth = place("tf.keras-2.3.4-eager", "conv_bn")
    follow(run, promise(message))
    assert remap.inspect("single.h5").content == "weights"
    assert differences(Path("single.h5"), truth / "single_weights.h5") == []
    weights = "tf.keras-2.3.4-eager/conv_bn/single_weights.h5"
    assert same_release(failed, file=weights, call="model.load_weights(file)")["said"] == ""


def test_modules_that_cannot_be_pickled(case: Case, tmp_path: Path) -> None:
    message = "can't pickle module objects"
    assert promise(message).startswith(f"`save_weights`, then {WEIGHTS}")
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
    assert len(ROWS) == len(re.findall(r"^\| `", TABLE, re.MULTILINE))
    assert len(MESSAGES) == 25
    for message in MESSAGES:
        assert message in tests, message


@pytest.mark.parametrize(("cell", "advice"), ROWS, ids=[cell for cell, _ in ROWS])
def test_the_commands_of_every_row_run(cell: str, advice: str, case: Case, place: Case, run: Run) -> None:
    place(*DEMO_CASE)
    if "check single.h5" in advice:
        shutil.copy(case(*DEMO_CASE) / "single_weights.h5", "single.h5")
    if "h5remap" in advice:
        follow(run, advice)
    else:
        assert "single.h5" in advice, cell


def test_every_block_runs_in_order(
    here: Path, case: Case, run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    started = {path.name for path in here.iterdir()}
    for language, text in BLOCKS:
        if language == "sh":
            for line in text.splitlines():
                run_shell_line(run, line)
        else:
            assert language == "python"
            if "import keras" not in text:  # those run with the tests that need a real Keras
                exec(compile(text, "README.md", "exec"), {})  # noqa: S102
    assert capsys.readouterr().out == "multi-gpu\nreference () True\n"
    made = {path.name for path in here.iterdir()} - started
    models = {"single.h5", "single.keras", "single_weights.h5", "generator.h5", "new.keras", "again.h5"}
    assert made == {*models, "moved.svg"}
    truth = case(*DEMO_CASE)
    assert differences(here / "single.h5", truth / "single.h5") == []
    assert differences(here / "single_weights.h5", truth / "single_weights.h5") == []
    assert differences(here / "again.h5", truth / "single_weights.h5") == []
    assert differences(here / "generator.h5", case("keras-2.2.4", "gan") / "generator" / "single.h5") == []
    assert (here / "new.keras").read_bytes() == (here / "single.keras").read_bytes()


def run_shell_line(run: Run, line: str) -> None:
    """Run a command of h5remap; what installs or sets up has tests of its own."""
    words = shlex.split(line, comments=True)
    if words[0] == "h5remap":
        assert run(*words[1:]).code == 0, line
    else:
        assert words in (["pip", "install", "."], ["make", "demo"], ["make", "test"]), line


def test_the_package_installs_from_a_checkout(tmp_path: Path) -> None:
    pytest.importorskip("hatchling", reason="hatchling, which builds the package, is not installed")
    # Build and dependencies come from the environment of the tests, so that nothing is downloaded.
    options = ["--no-index", "--no-build-isolation", "--no-deps", "--no-cache-dir", "--quiet"]
    subprocess.run(
        [sys.executable, "-m", "pip", "install", *options, "--target", tmp_path, ROOT],
        check=True,
        timeout=120,
    )
    told_version = subprocess.run(
        [sys.executable, tmp_path / "bin" / "h5remap", "--version"],
        env=os.environ | {"PYTHONPATH": str(tmp_path)},
        cwd=tmp_path,
        check=True,
        capture_output=True,
        text=True,
    )
    assert told_version.stdout == f"h5remap {remap.__version__}\n"


@pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")
def test_make_demo_converts_both_checkpoints(case: Case, tmp_path: Path) -> None:
    for name in ("Makefile", "pyproject.toml"):
        shutil.copy(ROOT / name, tmp_path)
    shutil.copytree(DEMO, tmp_path / "fixtures" / "demo")
    programs = tmp_path / ".venv" / "bin"
    programs.mkdir(parents=True)
    (programs / "python").symlink_to(sys.executable)
    (programs / "h5remap").write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m remap "$@"\n')
    (programs / "h5remap").chmod(0o755)
    (tmp_path / ".venv" / ".runtime").touch()  # says that the environment is set up
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    done = subprocess.run(
        ["make", "demo"],
        cwd=tmp_path,
        env=environment | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    truth = case(*DEMO_CASE)
    assert differences(tmp_path / "demo" / "single.h5", truth / "single.h5") == []
    assert differences(tmp_path / "demo" / "single_weights.h5", truth / "single_weights.h5") == []


@pytest.mark.usefixtures("here")
def test_the_picture_shows_what_is_seen_today(case: Case, run: Run) -> None:
    shutil.copy(case("keras-2.2.4", "conv_bn") / "multi.h5", "multi_gpu.h5")
    assert run("inspect", "multi_gpu.h5", "--svg", "now.svg").code == 0
    (picture,) = re.findall(r"!\[[^]]*\]\((.*?)\)", README)
    assert seen(Path("now.svg")) == seen(ROOT / picture)


def seen(picture: Path) -> list[str]:
    return re.findall(r"<text[^>]*>([^<]*)</text>", picture.read_text(encoding="utf-8"))


def test_the_readme_is_short() -> None:
    assert len(README.splitlines()) <= 200


def test_links_lead_somewhere() -> None:
    for target in re.findall(r"\]\(([^)#\s]+)", README.replace("\n", " ")):
        assert (ROOT / target).exists(), target


def test_exit_codes_are_those_of_the_errors() -> None:
    codes = dict(re.findall(r"^\| (\d+) \| (.*) \|$", README, re.MULTILINE))
    errors: dict[type[remap.RemapError], str] = {
        remap.RemapError: "a bug",
        remap.UsageRefused: "wrong usage",
        remap.InputRefused: "the input is refused",
        remap.Undecided: "undecided",
        remap.NothingToExtract: "already a single model",
        remap.OutputRefused: "the output cannot be written or exists already",
    }
    assert set(remap.RemapError.__subclasses__()) < set(errors)
    for error, words in errors.items():
        assert codes.pop(str(error.exit_code)).startswith(words)
    assert codes == {"0": "done", "130": "interrupted", "141": "the reader of the output ended"}


def test_the_help_has_an_example_of_every_command(run: Run) -> None:
    lines = run("--help").out.split("Examples:")[1].split("\n\n")[0].split("\n")
    examples: list[Any] = [shlex.split(line) for line in lines if line.strip()]
    assert {words[1] for words in examples} == {"inspect", "extract", "check", "compare"}
