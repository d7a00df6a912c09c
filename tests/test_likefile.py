from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest

from remap import InputRefused, Undecided, extract
from remap.likefile import read_like
from tests.truth import differences, names_of

Case = Callable[[str, str], Path]

BUILDER = Path(__file__).parent / "keras_loads" / "like.py"
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
    """Give a folder with models of today's Keras, described in every way it can."""
    folder = tmp_path_factory.mktemp("described")
    run_keras(folder)
    return folder


@pytest.mark.parametrize("suffix", ["json", "h5", "keras"])
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("era", ["keras-2.0.9", "keras-2.2.4", "tf.keras-2.3.4-eager"])
def test_like_file_from_todays_keras_gives_its_names_and_order(
    case: Case, described: Path, tmp_path: Path, era: str, name: str, suffix: str
) -> None:
    folder = case(era, name)
    extract(folder / "multi_weights.h5", tmp_path / "out.h5", like=described / f"{name}.{suffix}")
    assert differences(tmp_path / "out.h5", folder / "single_weights.h5", names=False, weightless=False) == []
    with h5py.File(described / f"{name}.h5") as theirs, h5py.File(tmp_path / "out.h5") as ours:
        assert names_of(ours, "layer_names") == names_of(theirs["model_weights"], "layer_names")


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


def test_json_of_the_wrapper_counts_for_the_model_in_it(case: Case, tmp_path: Path) -> None:
    folder = case("keras-2.2.4", "conv_bn")
    with h5py.File(folder / "multi.h5") as file:
        (tmp_path / "multi.json").write_text(str(file.attrs["model_config"]))
    extract(folder / "multi_weights.h5", tmp_path / "out.h5", like=tmp_path / "multi.json")
    assert differences(tmp_path / "out.h5", folder / "single_weights.h5") == []


def test_a_whole_multi_gpu_file_counts_for_the_model_in_it(case: Case, tmp_path: Path) -> None:
    folder = case("keras-2.2.4", "conv_bn")
    extract(folder / "multi_weights.h5", tmp_path / "out.h5", like=folder / "multi.h5")
    assert differences(tmp_path / "out.h5", folder / "single_weights.h5") == []


def test_refuses_an_archive_that_is_no_keras_file(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("data.pkl", "")
    with pytest.raises(InputRefused, match=r"no \.keras file"):
        read_like(tmp_path / "a.zip")


def test_refuses_a_broken_archive(tmp_path: Path) -> None:
    (tmp_path / "a.keras").write_bytes(b"PK\x03\x04" + bytes(100))
    with pytest.raises(InputRefused, match=r"no \.keras file"):
        read_like(tmp_path / "a.keras")


def test_refuses_json_that_is_not_text(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_bytes(b'{"a": "\xff"}')
    with pytest.raises(InputRefused, match="not UTF-8"):
        read_like(tmp_path / "a.json")


def test_refuses_json_larger_than_any_models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("remap.likefile._LARGEST_JSON", 10)
    with zipfile.ZipFile(tmp_path / "a.keras", "w") as archive:
        archive.writestr("config.json", "[" * 100)
    with pytest.raises(InputRefused, match="larger than any"):
        read_like(tmp_path / "a.keras")


def test_says_that_a_like_file_is_missing(tmp_path: Path) -> None:
    with pytest.raises(InputRefused, match="cannot read the like-file"):
        read_like(tmp_path / "none.json")


def test_refuses_a_like_file_without_weights(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "like.h5", "w") as file:
        file.attrs["layer_names"] = np.array([b"input_1"])
        file.create_group("input_1").attrs["weight_names"] = np.array([])
    with pytest.raises(Undecided, match="holds no weights"):
        read_like(tmp_path / "like.h5")
