"""What is read from files of Keras 3 is what a real Keras 3 loads from them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from remap import RemapError, compare, extract
from tests.conftest import all_cases
from tests.real_keras.reading import weights_loaded, weights_read

Case = Callable[[str, str], Path]

ERAS = ("keras-2.2.4", "tf.keras-2.3.4")
SAVED = ("functional", "sequential", "nested", "recurrent", "steep", "own", "attention")
# The code of their own layers and functions is not in a file.
CUSTOM = {"custom_both", "custom_odd_name", "scalar_weight", "own_lambda"}


@pytest.fixture(scope="module")
def folder(case: Case, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a folder with models that Keras 3 saved and converted ones, and what Keras 3 loads from each."""
    folder = tmp_path_factory.mktemp("keras3")
    converted = []
    for era, name in all_cases():
        if era in ERAS and name not in CUSTOM:
            target = folder / f"{era}-{name}.keras"
            try:
                extract(case(era, name) / "multi.h5", target)
            except RemapError:
                continue
            converted.append(str(target))
    (folder / "converted.json").write_text(json.dumps(converted))
    script = Path(__file__).with_name("keras3_weights.py")
    subprocess.run(
        [sys.executable, str(script), str(folder)],
        env={**os.environ, "KERAS_BACKEND": "jax", "JAX_ENABLE_X64": "1", "CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        check=True,
    )
    return folder


def require_read_as_loaded(folder: Path, path: Path) -> int:
    """Assert that the weights of each layer are those that Keras loads; give their number."""
    loaded = weights_loaded(folder, path)
    assert weights_read(path, loaded) == loaded
    return sum(map(len, loaded.values()))


@pytest.mark.parametrize("name", SAVED)
@pytest.mark.parametrize("form", ["keras", "weights.h5"])
def test_layers_have_the_weights_that_keras_loads(folder: Path, name: str, form: str) -> None:
    assert require_read_as_loaded(folder, folder / f"{name}.{form}") >= 4


def test_converted_files_have_the_weights_that_keras_loads(folder: Path) -> None:
    converted = [Path(name) for name in json.loads((folder / "converted.json").read_text())]
    assert len(converted) > 60
    for path in converted:
        require_read_as_loaded(folder, path)


@pytest.mark.parametrize("name", SAVED)
def test_both_files_of_one_model_are_equal_with_the_optimizers_state(folder: Path, name: str) -> None:
    found = compare(folder / f"{name}.keras", folder / f"{name}.weights.h5")
    assert (found.verdict, found.optimizer, found.matched_by) == ("equal", "equal", "paths")


@pytest.mark.parametrize("name", SAVED)
def test_the_old_format_of_keras_3_is_compared_without_a_conversion(folder: Path, name: str) -> None:
    found = compare(folder / f"{name}.h5", folder / f"{name}.keras")
    # In which order a MultiHeadAttention lists its weights is told by neither file.
    assert found.verdict == ("undecided" if name == "attention" else "equal"), found.question


def test_different_models_are_different(folder: Path) -> None:
    assert compare(folder / "nested.keras", folder / "own.keras").verdict == "different"
