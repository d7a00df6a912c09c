"""What the README promises of today's Keras: every message comes where it says, and what it advises helps."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from remap import extract
from tests.real_keras.verdicts import Said, Task, verdicts
from tests.test_readme import DEMO, FULL, FULL_FOR_KERAS_3, WEIGHTS, promise
from tests.truth import differences

Case = Callable[[str, str], Path]
Ask = Callable[..., Said]


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
    for name, source in (("single", full), ("nested", case("keras-2.2.4", "nested") / "multi.h5")):
        files[f"{name}_keras"] = folder / f"{name}.keras"
        extract(source, files[f"{name}_keras"])
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


NEW_COUNT = (
    "Layer count mismatch when loading weights from file. Model expected 20 layers, found 1 saved layers."
)
NEW_NAMED = (
    "Weight count mismatch for layer #6 (named predictions). Layer expects 2 weight(s). "
    "Received 0 saved weight(s)"
)


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
    assert words.startswith(FULL_FOR_KERAS_3)
    assert "tf_keras: `-o single.h5`" in words
    assert matches(lambdas, ask("keras", "full")[0])
    for name in ("single_keras", "nested_keras"):
        assert ask("keras", name, compiled=True)[0] == ""
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


def test_an_optimizer_that_keras_3_does_not_know(ask: Ask) -> None:
    message = "Argument(s) not recognized: {'lr': ...}"
    assert promise(message) == "`load_model('single.h5', compile=False)`"
    assert matches(message, ask("keras", "single", compiled=True)[0])
    assert ask("keras", "single")[0] == ""
