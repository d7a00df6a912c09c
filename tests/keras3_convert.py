"""Convert recorded files for the tests, and have real Keras 3 judge them."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from remap.hdf5.reader import open_checkpoint
from remap.hdf5.store import write_keras, write_weights
from remap.keras.config import parse_model
from remap.keras3.flat import named, tell_apart
from remap.keras3.translation import Translation, translate

__all__ = ["Job", "convert", "judged", "translate_flat"]

JUDGE = Path(__file__).with_name("keras3_judge.py")


@dataclass(frozen=True, slots=True)
class Job:
    """Two converted files and what old Keras predicted."""

    name: str
    keras: Path
    weights: Path
    samples: Path


def translate_flat(path: Path) -> Translation:
    """Translate a single model's own full file."""
    with open_checkpoint(path) as opened:
        checkpoint = opened.checkpoint
        assert checkpoint.model_config is not None
        model = named(parse_model(checkpoint.model_config, where=str(path)), checkpoint)
        return translate(model, tell_apart(checkpoint, model), keras_version=checkpoint.keras_version)


def convert(translation: Translation, source: Path, stem: Path) -> tuple[Path, Path]:
    """Write both files of Keras 3."""
    stem.parent.mkdir(parents=True, exist_ok=True)
    keras, weights = stem.with_name(f"{stem.name}.keras"), stem.with_name(f"{stem.name}.weights.h5")
    with open_checkpoint(source) as opened:
        write_keras(translation, opened, keras, overwrite=True)
        write_weights(translation, opened, weights, overwrite=True)
    return keras, weights


def judged(jobs: Iterable[Job], folder: Path, backend: str) -> dict[str, dict[str, Any]]:
    """Load every job's files in real Keras 3 on a backend; skips the test where that has no wheel."""
    if importlib.util.find_spec(backend) is None:
        pytest.skip(f"{backend} is not there: it has no wheel for this Python or system")
    listed = [
        {"name": job.name, "keras": str(job.keras), "weights": str(job.weights), "samples": str(job.samples)}
        for job in jobs
    ]
    asked, told = folder / f"{backend}.json", folder / f"{backend}-told.json"
    asked.write_text(json.dumps(listed))
    environment = {**os.environ, "KERAS_BACKEND": backend, "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(
        [sys.executable, str(JUDGE), str(asked), str(told)],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    verdicts: dict[str, dict[str, Any]] = json.loads(told.read_text())
    return verdicts
