"""What `check` says of each loader is what the real one does with the same file, in every format."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from remap import Check, RemapError, check, extract
from remap.loaders import Loader

Case = Callable[[str, str], Path]

LOADERS = Path(__file__).with_name("loaders.py")
ERAS = ("keras-2.2.4", "tf.keras-2.3.4")
MODELS = """
    bn_bare conv_bn dense_plain frozen_backbone lstm_plain nested nested_deep nested_frozen_layers nested_sequential
    recurrent renamed sequential shared_layer siamese time_distributed_model twin_nested two_branches two_io
""".split()


STRANGERS = [f"keras-2.2.4-{name}" for name in ("conv_bn", "dense_plain", "nested")]
MISNAMED = ["old.weights.h5", "new.h5", "zip.h5", "hdf.keras"]
FORMS = (".keras", ".weights.h5", ".h5", "-only.h5")
# What tf_keras cannot build from a file of Keras 2.2.4.
BEYOND = {"keras": set(), "tf_keras": {"keras-2.2.4-nested_deep"}}


@pytest.fixture(scope="module")
def folder(case: Case, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a folder with each model in every format."""
    folder = tmp_path_factory.mktemp("loaders")
    for era in ERAS:
        for name in MODELS:
            try:
                origin = case(era, name)
                extract(origin / "multi.h5", folder / f"{era}-{name}.keras")
                extract(origin / "multi.h5", folder / f"{era}-{name}.weights.h5")
            except (RemapError, OSError):
                continue
            shutil.copy(origin / "single.h5", folder / f"{era}-{name}.h5")
            shutil.copy(origin / "single.json", folder / f"{era}-{name}.json")
            shutil.copy(origin / "single_weights.h5", folder / f"{era}-{name}-only.h5")
    for right, wrong in (("-only.h5", "old.weights.h5"), (".weights.h5", "new.h5"), (".keras", "zip.h5")):
        shutil.copy(folder / f"{STRANGERS[0]}{right}", folder / wrong)
    shutil.copy(folder / f"{STRANGERS[0]}.h5", folder / "hdf.keras")
    return folder


def asked(module: str, jobs: list[tuple[str, list[str]]], working: Path) -> list[tuple[str, list[list[str]]]]:
    if importlib.util.find_spec(module) is None:
        pytest.skip(f"{module} is not there: TensorFlow has no wheel for this Python or system")
    backend = "tensorflow" if importlib.util.find_spec("tensorflow") else "jax"
    listed, answers = working / "jobs.json", working / "answers.json"
    listed.write_text(json.dumps(jobs))
    quiet = {"KERAS_BACKEND": backend, "TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": ""}
    command = [sys.executable, str(LOADERS), module, str(listed), str(answers)]
    subprocess.run(command, env=os.environ | quiet, check=True, capture_output=True)
    told: list[tuple[str, list[list[str]]]] = json.loads(answers.read_text())
    return told


@pytest.mark.parametrize("module", ["keras", "tf_keras"])
def test_the_answers_are_those_of_the_real_loaders(folder: Path, tmp_path: Path, module: str) -> None:
    """For every description of the model; where that leaves sizes open, a file may be refused for them."""
    names = sorted(path.name.removesuffix(".keras") for path in folder.glob("*-*.keras"))
    assert len(names) > 30
    built_from = ".keras" if module == "keras" else ".h5"
    files = {
        name: [*dict.fromkeys(f"{one}{form}" for one in (name, *STRANGERS) for form in FORMS), *MISNAMED]
        for name in names
    }
    jobs = [
        (str(folder / f"{name}{built_from}"), [str(folder / file) for file in files[name]]) for name in names
    ]
    told = asked(module, jobs, tmp_path)
    assert {name for name, (refused, _) in zip(names, told, strict=True) if refused} == BEYOND[module]
    loaders: tuple[Loader, ...] = ("load_weights of Keras 3", "load_model of Keras 3")
    if module == "tf_keras":
        loaders = ("load_weights of tf_keras",)
    counted: Counter[tuple[str, str]] = Counter()
    for name, (_, answers) in zip(names, told, strict=True):
        for file, words in zip(files[name], answers, strict=False):
            for form in (".h5", ".json", ".keras"):
                found = check(folder / file, folder / f"{name}{form}")
                for loader, said in zip(loaders, words, strict=False):
                    answer, real = answer_of(found, loader), "no" if said else "yes"
                    counted[answer, real] += 1
                    if answer == "yes" and not found.unknown:
                        assert not said, (name, form, file, loader, said)
                    if answer == "no" and loader != "load_model of Keras 3":
                        assert said, (name, form, file, loader)
    assert counted["yes", "yes"] > 300
    assert counted["no", "no"] > 300
    assert counted["yes", "no"] + counted["no", "yes"] + counted["cannot tell", "yes"] <= 20


def answer_of(found: Check, loader: Loader) -> str:
    """Give what is predicted; weights in a wrong place load, too."""
    (answer,) = [one.answer for one in found.loaders if one.loader == loader]
    return "yes" if answer == "crossed" else answer
