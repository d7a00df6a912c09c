"""What the README promises of Keras 3: every message comes where it says, and what it advises helps."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from remap import extract
from tests.real_keras.verdicts import Said, Task, verdicts
from tests.test_readme import BLOCKS, DEMO, DEMO_CASE, FULL, KERAS_3, ROOT, WEIGHTS, promise
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
    nested = case("keras-2.2.4", "nested") / "multi.h5"
    names = ("single.h5", "single.keras", "single_weights.h5", "nested.h5", "nested.keras", "described.keras")
    files = {name: folder / name for name in names}
    extract(full, files["single.h5"])
    extract(full, files["single.keras"])
    extract(weights, files["single_weights.h5"], like=DEMO / "model.json")
    extract(weights, files["described.keras"], like=DEMO / "model.json")
    extract(nested, files["nested.h5"])
    extract(nested, files["nested.keras"])
    files |= {"full.h5": full, "weights.h5": weights}
    tasks: dict[tuple[str, bool], Task] = {
        (name, compiled): (
            path,
            [weights, files["single_weights.h5"]] if name == "single.h5" and not compiled else [],
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
    built, said = ask(keras, "single.h5")
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
    assert ask("tf_keras", "nested.h5", compiled=True)[0] == ""


def test_python_code_in_the_wrapper(ask: Ask) -> None:
    lambdas = "Requested the deserialization of a Lambda layer"
    said = {promise(message) for message in (lambdas, "bad marshal data", "EOF read where object expected")}
    (words,) = said
    assert words.startswith(f"{KERAS_3}, then `load_model('single.keras')` in Keras 3;")
    assert words.endswith(FULL)
    assert matches(lambdas, ask("keras", "full.h5")[0])
    assert ask("keras", "single.keras", compiled=True)[0] == ""
    assert re.search("bad marshal data|EOF read where object expected", ask("tf_keras", "full.h5")[0])
    assert ask("tf_keras", "single.h5", compiled=True)[0] == ""


def test_no_model_in_a_weights_file(ask: Ask) -> None:
    today, old = "No model config found in the file", "No model found in config file."
    assert promise(today) == promise(old)
    assert promise(today).startswith(WEIGHTS)
    for keras in ("keras", "tf_keras"):
        assert matches(today, ask(keras, "weights.h5")[0])
        assert matches(today, ask(keras, "single_weights.h5")[0])
        assert ask(keras, "single.h5")[1][1] == ["", ""]
    assert ask("keras", "described.keras", compiled=True)[0] == ""


def test_a_nested_model_of_keras_2(ask: Ask) -> None:
    message = "Invalid Functional model configuration"
    assert promise(message) == f"{KERAS_3}, then `load_model('single.keras')`"
    assert matches(message, ask("keras", "nested.h5")[0])
    assert ask("keras", "nested.keras", compiled=True)[0] == ""


def test_an_optimizer_that_keras_3_does_not_know(ask: Ask) -> None:
    message = "Argument(s) not recognized: {'lr': ...}"
    assert promise(message).startswith("`load_model('single.h5', compile=False)`; ")
    assert matches(message, ask("keras", "single.h5", compiled=True)[0])
    assert ask("keras", "single.h5")[0] == ""
    assert ask("keras", "single.keras", compiled=True)[0] == ""


@pytest.mark.parametrize("keras", ["keras", "tf_keras"])
def test_the_wrapper_is_gone(ask: Ask, keras: str, tmp_path: Path) -> None:
    message = "cannot import name 'multi_gpu_model'"
    assert promise(message) == f"{KERAS_3}, then `load_model('single.keras')`"
    assert ask("keras", "single.keras", compiled=True)[0] == ""
    said = run_python(f"from {keras}.utils import multi_gpu_model", tmp_path)
    assert matches(f"ImportError: {message} from '{keras}.utils'", said)


@pytest.mark.parametrize(
    ("message", "era"),
    [
        ("Could not locate class 'Model'", "keras-2.2.4"),
        ("Could not locate class 'Functional'", "tf.keras-2.3.4"),
    ],
)
def test_json_of_keras_2(ask: Ask, case: Case, tmp_path: Path, message: str, era: str) -> None:
    assert promise(message).endswith(" --like model.json`, then `load_model('single.keras')`")
    architecture = case(era, "conv_bn") / "single.json"
    code = f"import keras; keras.models.model_from_json(open({str(architecture)!r}).read())"
    assert matches(message, run_python(code, tmp_path))
    assert ask("keras", "described.keras", compiled=True)[0] == ""


def test_single_models_of_keras_2_are_counted_by_what_they_predict(tmp_path: Path) -> None:
    if importlib.util.find_spec("keras") is None:
        pytest.skip("keras is not installed")
    names = {"conv_bn": ("opens", "opens"), "lstm_plain": ("other predictions", "opens")}
    names |= {"nested": ("error", "opens"), "many_layers": ("error", "refused")}
    cases = [("keras-2.2.4", name) for name in names]
    said = run_python(COUNTED.format(cases=cases), tmp_path).splitlines()[-1]
    assert {name: tuple(found) for name, *found in json.loads(said)} == names


COUNTED = """
import json
from tests.real_keras.old_models import outcomes

def kind(said):
    known = {{"": "opens", "other predictions": "other predictions"}}
    return known.get(said) or ("refused" if said.startswith("refused: ") else "error")

print(json.dumps([[one.name, kind(one.as_saved), kind(one.converted)] for one in outcomes({cases})]))
"""


def test_other_formats_predict_the_same(case: Case, tmp_path: Path) -> None:
    if importlib.util.find_spec("tensorflow") is None:
        pytest.skip("tensorflow is not installed")
    (block,) = (text for language, text in BLOCKS if language == "python" and "import keras" in text)
    extract(DEMO / "multi_gpu.h5", tmp_path / "single.keras")
    shutil.copy(case(*DEMO_CASE) / "samples.npz", tmp_path)
    said = run_python(block + COMPARED, tmp_path)
    found = json.loads(said.splitlines()[-1])
    assert set(found) == {"SavedModel", "TensorFlow Lite"}
    assert max(found.values()) < 1e-5, found


COMPARED = """
import json
import numpy as np

samples = np.load("samples.npz")
inputs, recorded = samples["input_0"], samples["output_0"]
artifact = tf.saved_model.load("saved_model")  # owns the variables
served = artifact.serve(inputs).numpy()
lite = tf.lite.Interpreter("model.tflite")
place = lite.get_input_details()[0]["index"]
lite.resize_tensor_input(place, inputs.shape)
lite.allocate_tensors()
lite.set_tensor(place, inputs)
lite.invoke()
predicted = {"SavedModel": served, "TensorFlow Lite": lite.get_tensor(lite.get_output_details()[0]["index"])}
print(json.dumps({name: float(abs(found - recorded).max()) for name, found in predicted.items()}))
"""
"""Compares what the README's lines wrote with the predictions that old Keras recorded."""


def run_python(code: str, folder: Path) -> str:
    """Run code in a new process, since each Keras has to be imported alone; give all that it writes."""
    settings = {"KERAS_BACKEND": BACKEND, "TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": ""}
    return subprocess.run(
        [sys.executable, "-c", code],
        cwd=folder,
        env=os.environ | settings | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ).stdout.strip()


BACKEND = "tensorflow" if importlib.util.find_spec("tensorflow") else "jax"
