"""The training state that comes over: real Keras 3 loads it, each sum beside the weight it belongs to."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from remap import extract

Case = Callable[[str, str], Path]

# Loads a model, compiled as the file says, and writes its trainable weights and all that its optimizer keeps.
SCRIPT = """
import json, sys, keras, numpy
model = keras.models.load_model(sys.argv[1])
kept = {f"weight_{i:03}": keras.ops.convert_to_numpy(v.value) for i, v in enumerate(model.trainable_variables)}
kept |= {f"state_{i:03}": keras.ops.convert_to_numpy(v.value) for i, v in enumerate(model.optimizer.variables)}
numpy.savez(sys.argv[2], **kept)
print(json.dumps([type(model.optimizer).__name__, [v.name for v in model.optimizer.variables]]))
"""
# What Keras 3 calls the slot variables of an optimizer, in the order in which old Keras lists them.
SLOTS = {"Adam": ("momentum", "velocity"), "SGD": ("momentum",), "RMSprop": ("velocity",)}
CASES = [("conv_bn", "Adam"), ("dense_plain", "Adam"), ("bn_bare", "SGD"), ("sequential", "RMSprop")]


def old_order(single: Path) -> Iterator[np.ndarray[Any, Any]]:
    """Yield the weights of a flat model in the order of slot variables; frozen ones have none."""
    with h5py.File(single) as file:
        root = file["model_weights"]
        for layer in root.attrs["layer_names"]:
            for name in root[layer].attrs["weight_names"]:
                yield root[layer][name][()]


@pytest.mark.parametrize("era", ["keras-2.2.4", "tf.keras-2.3.4-eager"])
@pytest.mark.parametrize(("name", "optimizer"), CASES)
def test_every_sum_stands_beside_its_weight(
    case: Case, tmp_path: Path, era: str, name: str, optimizer: str
) -> None:
    folder = case(era, name)
    extract(folder / "multi.h5", tmp_path / "single.keras")
    backend = "tensorflow" if importlib.util.find_spec("tensorflow") else "jax"
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, tmp_path / "single.keras", tmp_path / "kept.npz"],
        env={**os.environ, "KERAS_BACKEND": backend, "CUDA_VISIBLE_DEVICES": ""},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    kind, names = json.loads(done.stdout.strip().splitlines()[-1])
    assert kind == optimizer
    kept, samples = np.load(tmp_path / "kept.npz"), np.load(folder / "samples.npz")
    weights, state = (
        [kept[key] for key in sorted(kept.files) if key.startswith(what)] for what in ("weight", "state")
    )
    old = [samples[key] for key in sorted(samples.files) if key.startswith("optimizer")]
    stored, slots = old_order(folder / "single.h5"), SLOTS[optimizer]
    trained = [one for one in stored if any(np.array_equal(one, weight) for weight in weights)]
    first = 1 if old[0].shape == () else 0  # the counter of steps
    found = list(zip(names, state, strict=True))[-len(slots) * len(weights) :]
    for place, weight in enumerate(weights):
        (owner,) = (index for index, other in enumerate(trained) if np.array_equal(other, weight))
        for part, called in enumerate(slots):
            name, values = found[place * len(slots) + part]
            assert name.endswith(called)
            assert np.array_equal(values, old[first + part * len(trained) + owner])
    assert len(weights) == len(trained) > 2
    assert any(values.any() for _, values in found)
