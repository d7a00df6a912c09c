"""Real Keras of today loads what comes out, and predicts what the old Keras predicted."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from remap import extract
from tests.conftest import all_cases

Case = Callable[[str, str], Path]

ERAS = ("keras-2.2.4", "tf.keras-2.3.4")
LOADER = Path(__file__).with_name("load.py")

CUSTOM = {
    "custom_both",
    "custom_odd_name",
    "scalar_weight",
    "own_lambda",
}  # the code of these is not in a file
NESTED = {
    "custom_both", "nested", "nested_deep", "nested_frozen_flag", "nested_frozen_layers", "nested_partly_frozen",
    "only_model", "relocation_nested", "siamese", "time_distributed_model", "twin_nested", "two_branches",
}  # fmt: skip
RECURRENT = {"lstm_plain", "many_layers", "recurrent", "scope_prefix"}
# Models built on the templates of wrappers inside are nested models.
INSIDE = {name for era, name in all_cases() if era == "keras-2.2.4" and name.startswith("inside_")}
SLASHES = {"slash_names", "slash_names_plain"}
SEQUENTIAL = {"deferred", "nested_sequential", "relocation_sequential", "sequential", "sequential_input"}

# Cases whose truth file, saved by old Keras itself, the loader cannot load. Nothing is asked of ours there;
# the list is held to be exactly this.
CANNOT = {
    ("keras", "keras-2.2.4"): CUSTOM | NESTED | INSIDE | RECURRENT | SLASHES | SEQUENTIAL,
    ("keras", "tf.keras-2.3.4"): CUSTOM | NESTED | RECURRENT | SLASHES | {"conv_bn", "shared_across"},
    ("tf_keras", "keras-2.2.4"): CUSTOM | {"nested_deep", "inside_template", "sequential_input"},
    ("tf_keras", "tf.keras-2.3.4"): CUSTOM,
}
# tf_keras never comes back from loading the truth file.
HANGS = {("tf_keras", "tf.keras-2.3.4"): {"deferred"}}


def jobs_for(case: Case, era: str, folder: Path, hangs: set[str]) -> dict[str, dict[str, str]]:
    """Convert every case of an era that has one model, and that the loader comes back from."""
    jobs = {}
    names = {name for found, name in all_cases() if found == era and not name.startswith("gan")}
    for name in sorted(names - hangs):
        origin = case(era, name)
        full, weights = folder / f"{name}-full.h5", folder / f"{name}-weights.h5"
        extract(origin / "multi.h5", full)
        extract(origin / "multi_weights.h5", weights, like=origin / "single_weights.h5")
        jobs[name] = {
            "truth": str(origin / "single.h5"),
            "samples": str(origin / "samples.npz"),
            "full": str(full),
            "weights": str(weights),
        }
    return jobs


@pytest.mark.parametrize("era", ERAS)
@pytest.mark.parametrize("loader", ["keras", "tf_keras"])
def test_predictions_are_those_of_the_old_keras(case: Case, tmp_path: Path, loader: str, era: str) -> None:
    if loader == "tf_keras" and importlib.util.find_spec("tf_keras") is None:
        pytest.skip("tf_keras is not there: TensorFlow has no wheel for this Python or system")
    backend = "tensorflow" if importlib.util.find_spec("tensorflow") else "jax"
    jobs = tmp_path / "jobs.json"
    jobs.write_text(json.dumps(jobs_for(case, era, tmp_path, HANGS.get((loader, era), set()))))
    quiet = {"CUDA_VISIBLE_DEVICES": "", "TF_CPP_MIN_LOG_LEVEL": "3"}
    environment = {**os.environ, "KERAS_BACKEND": backend, **quiet}
    result = subprocess.run(
        [sys.executable, str(LOADER), loader, str(jobs)],
        env=environment, capture_output=True, text=True, check=True,
    )  # fmt: skip
    told = json.loads(result.stdout.strip().splitlines()[-1])
    assert {name for name, outcome in told.items() if outcome["truth"] != "ok"} == CANNOT[loader, era]
    loaded = {name: outcome for name, outcome in told.items() if outcome["truth"] == "ok"}
    assert {name: outcome for name, outcome in loaded.items() if set(outcome.values()) != {"ok"}} == {}
    assert len(loaded) >= 15
