"""Count the single models of old Keras that Keras 3 opens: as old Keras saved them, and as `.keras` files.

A program of its own, `python -m tests.real_keras.old_models`. It loads every `single.h5` in `fixtures/`, the file
that an old release saved for one model without any wrapper, with `load_model(..., compile=False)`. Then it
converts the file with `extract` and loads the result. A model counts where it loads and predicts what the old
release predicted. Custom layers, and the functions of Lambda layers that the report asks for, are given as
`custom_objects`. `--list` names the files that differ.
"""

from __future__ import annotations

import collections
import gc
import os
import sys
import tarfile
import tempfile
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras

from remap import RemapError, extract
from tests.conftest import FIXTURES, all_cases
from tests.real_keras.judge import custom_layers, double

__all__ = ["Outcome", "outcomes"]

RECURRENT = 1e-4
"""Largest difference of predictions, relative to the largest prediction: recurrent layers add up rounding."""
HALF = 1e-2
"""The same for models in float16."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What became of one model: "" where it predicts what was recorded, else why it does not count."""

    era: str
    name: str
    as_saved: str
    converted: str


def outcomes(cases: list[tuple[str, str]]) -> Iterator[Outcome]:
    """Load every single model of some cases, given as eras and names, twice."""
    gc.freeze()  # clear_session collects all garbage: without what was imported this takes half the time
    for era, name in cases:
        with tempfile.TemporaryDirectory() as temporary:
            folder = Path(temporary)
            with tarfile.open(FIXTURES / era / f"{name}.tar.xz") as archive:
                archive.extractall(folder, filter="data")
            for saved in sorted(folder.rglob("single.h5")):
                samples = saved.with_name("samples.npz")
                part = saved.parent.relative_to(folder).as_posix().removeprefix(".")
                yield Outcome(
                    era=era,
                    name=f"{name}/{part}" if part else name,
                    as_saved=_loaded(saved, samples),
                    converted=_converted(saved, samples),
                )


def _converted(saved: Path, samples: Path) -> str:
    try:
        report = extract(saved, saved.with_suffix(".keras"))
    except RemapError as error:
        return f"refused: {error.what}"
    return _loaded(saved.with_suffix(".keras"), samples, functions=report.custom_objects)


def _loaded(path: Path, samples: Path, functions: tuple[str, ...] = ()) -> str:
    keras.backend.clear_session()
    objects = dict.fromkeys(functions, double) | custom_layers()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model = keras.models.load_model(path, compile=False, custom_objects=objects)
            return _compared(model, np.load(samples))
    except Exception as error:
        return f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error) else ''}"[:160]


def _compared(model: Any, samples: Any) -> str:
    inputs = [samples[name] for name in sorted(samples.files) if name.startswith("input_")]
    outputs = [samples[name] for name in sorted(samples.files) if name.startswith("output_")]
    for layer in model._flatten_layers():
        if getattr(layer, "stateful", False) and hasattr(layer, "reset_state"):
            layer.reset_state()
    predicted = model(inputs if len(inputs) > 1 else inputs[0], training=False)
    found = [np.asarray(one) for one in (predicted if isinstance(predicted, list | tuple) else [predicted])]
    same = len(found) == len(outputs) and all(map(_close, found, outputs))
    return "" if same else "other predictions"


def _close(found: Any, expected: Any) -> bool:
    if found.shape != expected.shape:
        return False
    limit = HALF if expected.dtype == np.float16 else RECURRENT
    largest = max(float(np.abs(expected).max()), 1e-3)
    return float(np.abs(found.astype("f8") - expected).max()) <= limit * largest


def main(*, listed: bool) -> None:
    """Print the counts, and what was said of the models that do not count."""
    found = list(outcomes(all_cases()))
    opened = sum(not one.as_saved for one in found)
    print(f"Keras {keras.__version__}: {opened} of {len(found)} models as old Keras saved them")  # noqa: T201
    print(f"after conversion to .keras: {sum(not one.converted for one in found)} of {len(found)}")  # noqa: T201
    for title, said in (("as saved", "as_saved"), ("converted", "converted")):
        reasons = collections.Counter(getattr(one, said) for one in found if getattr(one, said))
        for reason, count in reasons.most_common():
            print(f"{title}: {count} x {reason}")  # noqa: T201
    if listed:
        for one in found:
            if one.as_saved or one.converted:
                print(f"{one.era} {one.name}: {one.as_saved!r} {one.converted!r}")  # noqa: T201


if __name__ == "__main__":
    main(listed="--list" in sys.argv[1:])
