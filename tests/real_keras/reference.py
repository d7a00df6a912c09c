"""Give a model of a real Keras other trainable flags, convert for it, load it; runs in a process of its own.

Called with the loader (`keras` or `tf_keras`) and a JSON file of jobs: for each case a file that this Keras loads as the
model, the multi-GPU weights file, and the recorded samples. Writes one JSON object: for each case, setting of flags and
kind of reference model what became of `load_weights` of the
converted file: "ok", "refused", "beyond" what this Keras can load, or why not.
"""

from __future__ import annotations

import importlib
import json
import random
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from remap import RemapError, extract

SETTINGS = ("unfrozen", "random 1", "models 1", "models 2")


def main(loader: str, jobs: Path) -> None:
    """Do all jobs and print what became of them."""
    keras = importlib.import_module(loader)
    told = {}
    for name, job in json.loads(jobs.read_text()).items():
        for setting in SETTINGS:
            with tempfile.TemporaryDirectory() as folder:
                for kind, outcome in _outcomes(keras, job, setting, Path(folder)):
                    told[f"{name}, {setting}, {kind}"] = outcome
            keras.backend.clear_session()
    sys.stdout.write("\n" + json.dumps(told) + "\n")


def _outcomes(keras: Any, job: dict[str, str], setting: str, folder: Path) -> Iterator[tuple[str, str]]:
    samples = np.load(job["samples"])
    model = keras.models.load_model(job["model"], compile=False)
    _set_flags(model, setting)
    text = model.to_json()
    (folder / "like.json").write_text(text)
    model.save(folder / "like.h5")
    likes: dict[str, Any] = {
        "like.json": lambda: keras.models.model_from_json(text),
        "like.h5": lambda: model,
    }
    if keras.__name__ == "keras":
        model.save(folder / "like.keras")
        likes["like.keras"] = likes["like.json"]
    else:
        model.save_weights(folder / "like_weights.h5")
        likes["like_weights.h5"] = likes["like.h5"]
    for like, build in likes.items():
        for source in ("weights", "full") if like == "like.json" else ("weights",):
            yield (
                f"{source} for {like}",
                _loaded(job[source], folder / like, build(), samples, folder / "out.h5"),
            )


def _set_flags(model: Any, setting: str) -> None:
    layers = list(_below(model))
    chance = random.Random(f"{model.name} {setting}")
    for layer in (model, *layers):
        layer.trainable = True
    for layer in layers:
        nested = hasattr(layer, "layers")
        if setting.startswith("random") and not nested:
            layer.trainable = chance.random() < 0.5
        elif setting.startswith("models") and chance.random() < (0.6 if nested else 0.2):
            # Of a frozen model a layer may be set free again, and the other way round.
            layer.trainable = not layer.trainable


def _below(model: Any) -> Iterator[Any]:
    for layer in model.layers:
        yield layer
        yield from _below(layer) if hasattr(layer, "layers") else ()


def _loads_its_own(model: Any, file: Path) -> bool:
    """Tell whether Keras loads what it saved for this model; tf_keras gets lost in nested models of mixed flags.

    Its `convert_nested_model` in saving/legacy/hdf5_format.py divides a nested list by flags a second time. Ends with all
    weights set to zero.
    """
    numbered = [np.full_like(weight, number) for number, weight in enumerate(model.get_weights(), 1)]
    model.set_weights(numbered)
    model.save(file, overwrite=True)
    zeros = [np.zeros_like(weight) for weight in numbered]
    model.set_weights(zeros)
    try:
        model.load_weights(file)
    except (ValueError, IndexError):
        return False
    own = all(map(np.array_equal, model.get_weights(), numbered))
    model.set_weights(zeros)
    return own


def _loaded(source: str, like: Path, model: Any, samples: Any, out: Path) -> str:
    try:
        extract(source, out, like=like, overwrite=True)
    except RemapError as error:
        return f"refused: {error}"
    inputs = [samples[name] for name in sorted(samples.files) if name.startswith("input_")]
    outputs = [samples[name] for name in sorted(samples.files) if name.startswith("output_")]
    if not _loads_its_own(model, out.with_name("own.h5")):
        return "beyond"
    try:
        model.load_weights(out)
        # Called, not `predict`: that would compile a graph for each of hundreds of models.
        predicted = model(inputs if len(inputs) > 1 else inputs[0], training=False)
    except Exception as error:
        return f"{type(error).__name__}: {error}"[:200]
    found = [np.asarray(one) for one in (predicted if isinstance(predicted, list) else [predicted])]
    same = all(np.allclose(a, b, rtol=1e-3, atol=1e-4) for a, b in zip(found, outputs, strict=True))
    return "ok" if same else "other predictions"


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
