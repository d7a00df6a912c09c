"""Files of Keras 3 as reference models, and Keras 3 loads what is extracted by them."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest

from remap import extract
from tests.truth import differences, names_of

Case = Callable[[str, str], Path]

BUILDER = Path(__file__).with_name("describe.py")
NAMES = ("dense_plain", "dense_bn_plain", "alternating_frozen")


def run_keras(folder: Path, *arguments: str) -> dict[str, list[list[float]]]:
    backend = "tensorflow" if importlib.util.find_spec("tensorflow") else "jax"
    environment = {
        **os.environ,
        "KERAS_BACKEND": backend,
        "CUDA_VISIBLE_DEVICES": "",
        "TF_CPP_MIN_LOG_LEVEL": "3",
    }
    command = [sys.executable, str(BUILDER), str(folder), *arguments]
    result = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    told: dict[str, list[list[float]]] = json.loads(result.stdout.strip().splitlines()[-1])
    return told


@pytest.fixture(scope="module")
def described(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a folder with models of Keras 3, described in every way it can."""
    folder = tmp_path_factory.mktemp("described")
    run_keras(folder)
    return folder


@pytest.mark.parametrize("suffix", ["json", "h5", "keras", "weights.h5"])
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("era", ["keras-2.0.9", "keras-2.2.4", "tf.keras-2.3.4-eager"])
def test_like_file_from_todays_keras_gives_its_names_and_order(
    case: Case, described: Path, tmp_path: Path, era: str, name: str, suffix: str
) -> None:
    folder = case(era, name)
    extract(folder / "multi_weights.h5", tmp_path / "out.h5", like=described / f"{name}.{suffix}")
    assert differences(tmp_path / "out.h5", folder / "single_weights.h5", names=False, weightless=False) == []
    with h5py.File(described / f"{name}.h5") as theirs, h5py.File(tmp_path / "out.h5") as ours:
        told = theirs["model_weights"]
        names = names_of(told, "layer_names")
        if suffix == "weights.h5":  # it does not tell which layers without weights stand where
            names = [name for name in names if names_of(told[name], "weight_names")]
        assert names_of(ours, "layer_names") == names


@pytest.mark.parametrize("era", ["keras-2.2.4", "tf.keras-2.3.4"])
def test_todays_keras_loads_it_by_order_and_by_name_and_predicts_the_same(
    case: Case, described: Path, tmp_path: Path, era: str
) -> None:
    for name in NAMES:
        folder = case(era, name)
        extract(folder / "multi_weights.h5", tmp_path / f"{name}-out.h5", like=described / f"{name}.keras")
        shutil.copy(folder / "samples.npz", tmp_path / f"{name}.npz")
    for name, predicted in run_keras(tmp_path, "load").items():
        recorded = np.load(tmp_path / f"{name}.npz")["output_0"]
        np.testing.assert_allclose(predicted, recorded, rtol=1e-5, atol=1e-5)
