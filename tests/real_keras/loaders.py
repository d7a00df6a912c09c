"""Ask a real Keras which files its loaders take: run as a program, so that each Keras has a process of its own.

Called with a module (`keras` or `tf_keras`), a JSON file of jobs, [model file, [file, ...]], and a file to write: for each
job what it says when it loads the model, and for each file what `load_weights` and `load_model` say: "" or the words.
"""

from __future__ import annotations

import gc
import importlib
import json
import sys
import warnings
from pathlib import Path
from typing import Any


def main(module: str, jobs: Path, answers: Path) -> None:
    """Do all jobs."""
    keras = importlib.import_module(module)
    gc.freeze()  # clear_session collects all garbage: without what was imported this takes half the time
    warnings.simplefilter("ignore")
    answers.write_text(json.dumps([_answer(keras, *job) for job in json.loads(jobs.read_text())]))


def _answer(keras: Any, model_file: str, files: list[str]) -> list[Any]:
    keras.backend.clear_session()
    try:
        model = keras.models.load_model(model_file, compile=False)
    except Exception as error:
        return [_words(error), []]
    return ["", [[_said(model.load_weights, file), _said(keras.models.load_model, file)] for file in files]]


def _said(load: Any, file: str) -> str:
    try:
        load(file, **({"compile": False} if load.__name__ == "load_model" else {}))
    except Exception as error:
        return _words(error)
    return ""


def _words(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"[:500]


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]))
