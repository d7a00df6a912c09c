"""Load files in a real Keras of today and compare predictions; runs in a process of its own.

Called with the loader (`keras` or `tf_keras`) and a JSON file of jobs: for each case the truth file, the
recorded samples, and what to load. Writes one JSON object: for each case what became of each file, "ok" or
why not.
"""

from __future__ import annotations

import gc
import importlib
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np


def main(loader: str, jobs: Path) -> None:
    """Do all jobs and print what became of them."""
    keras = importlib.import_module(loader)
    gc.freeze()  # clear_session collects all garbage: without what was imported this takes half the time
    told = {name: _case(keras, job) for name, job in json.loads(jobs.read_text()).items()}
    sys.stdout.write("\n" + json.dumps(told) + "\n")


def _case(keras: Any, job: dict[str, str]) -> dict[str, str]:
    samples = np.load(job["samples"])
    told = {"truth": _tried(lambda: _model(keras, job["truth"]), samples)}
    if told["truth"] != "ok":
        return told
    if "full" in job:
        told["full"] = _tried(lambda: _model(keras, job["full"]), samples)

    def with_weights() -> Any:
        model = _model(keras, job["truth"])
        model.set_weights([np.zeros_like(weight) for weight in model.get_weights()])
        model.load_weights(job["weights"])
        return model

    told["weights"] = _tried(with_weights, samples)
    keras.backend.clear_session()
    return told


def _model(keras: Any, path: str) -> Any:
    return keras.models.load_model(path, compile=False)


def _tried(make: Any, samples: Any) -> str:
    inputs = [samples[name] for name in sorted(samples.files) if name.startswith("input_")]
    outputs = [samples[name] for name in sorted(samples.files) if name.startswith("output_")]
    try:
        # `predict` would first compile a function for each model.
        predicted = make()(inputs if len(inputs) > 1 else inputs[0], training=False)
    except Exception as error:
        return f"{type(error).__name__}: {error}"[:200]
    found = [np.asarray(one) for one in (predicted if isinstance(predicted, list) else [predicted])]
    close = len(found) == len(outputs) and all(map(_close, found, outputs))
    return "ok" if close else "other predictions"


def _close(ours: Any, theirs: Any) -> bool:
    error = 1e-2 if theirs.dtype == np.float16 else 1e-5
    return np.allclose(ours, theirs, rtol=error, atol=error * max(1.0, float(np.abs(theirs).max())))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
