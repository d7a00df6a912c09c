"""Every built-in layer of every era, in Keras 3: the predictions are those that were recorded."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.conftest import LAYER_ARCHIVES
from tests.keras3_convert import Job, convert, translate_flat
from tests.real_keras.conftest import Judge
from tests.test_keras3_layers import expected_refusal

# The second backend takes longer and sees the same files: two eras, which between them have every layer.
RUNS = [(era, "tensorflow") for era in LAYER_ARCHIVES]
RUNS += [(era, "jax") for era in ("keras-2.2.4", "tf.keras-2.3.4-eager") if era in LAYER_ARCHIVES]
# This release does not write down that it interpolates: the file tells of another model than was saved.
UNTRUE = {("tf.keras-1.13.2", "upsampling_bilinear")}
RECURRENT = ("lstm", "gru", "simplernn", "cells", "conv_lstm2d", "bidirectional", "cudnn", "mask", "float64")


@pytest.mark.parametrize(("era", "backend"), RUNS)
def test_predictions_are_those_of_old_keras(
    era: str, backend: str, unpacked: dict[str, Path], judged: Judge, tmp_path: Path
) -> None:
    jobs = []
    for source in sorted(unpacked[era].glob("*.h5")):
        if backend == "jax" and source.stem == "float64":
            continue  # JAX works in 32 bits unless told otherwise, and GRU without a bias fails when it is told
        if expected_refusal(era, source.stem) is None:
            translation = translate_flat(source)
            files = convert(translation, source, tmp_path / source.stem)
            samples = source.with_suffix(".npz")
            jobs.append(Job(source.stem, *files, samples, custom_objects=translation.custom_objects))
    assert len(jobs) > 100
    verdicts = judged(jobs, tmp_path, backend)
    wrong = {}
    for name, verdict in verdicts.items():
        limit = 1e-4 if name.startswith(RECURRENT) else 1e-5
        right = "error" not in verdict and max(verdict["model"], verdict["weights"]) <= limit
        if not right or verdict["layout"]:
            wrong[era, name] = verdict
    assert verdicts["byte_code"]["needs_objects"]
    assert wrong.keys() == UNTRUE & {(era, job.name) for job in jobs}, wrong
