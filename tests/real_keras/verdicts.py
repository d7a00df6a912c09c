"""Ask a real Keras what it says of files: run as a program, so that each Keras has a process of its own.

Reads from stdin a list of [model file, [weights file, ...], compile or not]; writes for each what Keras says
when it loads the model, and for each weights file what it says by order and by name: "" or its words.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import os
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

__all__ = ["Said", "Task", "verdicts"]

Task = tuple[Path, list[Path], bool]
Said = tuple[str, list[list[str]]]


def verdicts(keras: str, tasks: list[Task]) -> list[Said]:
    """Ask the Keras of a name: `keras` is Keras 3, `tf_keras` the last Keras 2."""
    # On TensorFlow Keras 3 builds a model in a tenth of the time; JAX is there where TensorFlow has no wheel.
    backend = "tensorflow" if importlib.util.find_spec("tensorflow") else "jax"
    done = subprocess.run(
        [sys.executable, __file__, keras],
        input=json.dumps(tasks, default=str),
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | {"KERAS_BACKEND": backend, "TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": ""},
    )
    answer: list[Said] = json.loads(done.stdout.splitlines()[-1])
    return answer


def _answer(keras: Any, model_file: str, files: list[str], compiled: bool) -> Said:
    try:
        model = keras.models.load_model(model_file, compile=compiled)
    except Exception as error:
        return f"{type(error).__name__}: {error}", []
    return "", [[_said(model, file, by_name=named) for named in (False, True)] for file in files]


def _said(model: Any, file: str, *, by_name: bool) -> str:
    try:
        model.load_weights(file, by_name=by_name)
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return ""


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    chosen = importlib.import_module(sys.argv[1])
    print(json.dumps([_answer(chosen, *task) for task in json.load(sys.stdin)]))  # noqa: T201
