"""Models of third-party packages and of Keras's examples, in Keras 3: what they predict is what old Keras predicted."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from remap import RemapError, extract
from tests.conftest import field_cases
from tests.keras3_convert import Job
from tests.real_keras.conftest import Judge
from tests.test_field import refused

# What is not written for Keras 3 here: the conversion is done, and its predictions are not compared.
NOT_WRITTEN = {"TCN"}
NOT_COMPARED = {
    "bert", "bert_classifier", "image_ocr", "kapre", "mrcnn_fpn", "multi_head", "retinanet_bbox", "spektral",
}  # fmt: skip


@pytest.mark.parametrize("era", sorted({era for era, _ in field_cases()}))
def test_predictions_are_those_of_old_keras(
    era: str, field: Callable[[str, str], Path], judged: Judge, tmp_path: Path
) -> None:
    jobs = []
    for name in [name for other, name in field_cases() if other == era and name not in NOT_COMPARED]:
        folder = field(era, name)
        source, like = folder / "multi.h5", None
        if not source.exists():
            source, like = folder / "multi_weights.h5", folder / "single.json"
            if not like.exists():
                continue
        weights, archive = (tmp_path / f"{name}{ending}" for ending in (".weights.h5", ".keras"))
        try:
            report = extract(source, archive, like=like)
        except RemapError:
            assert refused(era, name) is not None
            continue
        extract(source, weights, like=like)
        if NOT_WRITTEN & set(report.custom_objects):
            continue
        jobs.append(Job(name, archive, weights, folder / "samples.npz", report.custom_objects, case=name))
    assert len(jobs) > 20
    verdicts = judged(jobs, tmp_path, "tensorflow")
    wrong = {
        name: verdict
        for name, verdict in verdicts.items()
        if "error" in verdict or max(verdict["model"], verdict["weights"]) > 1e-4 or verdict["layout"]
    }
    assert wrong == {}
