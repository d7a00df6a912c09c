"""Every recorded checkpoint, in Keras 3: what it predicts is what old Keras predicted."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from remap.assignment.reference import Reference, Request, reference_from_json
from remap.errors import RemapError, Undecided
from remap.hdf5.reader import open_checkpoint
from remap.keras3.conversion import translate
from remap.keras3.tensors import Translation
from remap.planning import compose_for_keras3
from tests.conftest import FIXTURES, all_cases, told
from tests.keras3_convert import Job, convert
from tests.real_keras.conftest import Judge

ERAS = sorted({era for era, _ in all_cases()})
# The second backend takes longer and sees the same files: two eras.
RUNS = [(era, "tensorflow") for era in ERAS]
RUNS += [(era, "jax") for era in ("keras-2.2.4", "tf.keras-2.3.4-eager") if era in ERAS]

# Cases that Keras 3 cannot open or that are refused, with what is said of each.
REFUSED = {
    "many_layers": "Keras 3 has no such layer",  # LocallyConnected2D
    # The first releases save no architecture of a wrapper, so that only the file's groups tell the models.
    "gan_multi-generator": "no model with weights is called",
}
# What no way settles, whatever is to be written.
UNDECIDED = {
    ("keras-2.0.9", "nested_sequential"),
    ("keras-2.1.6", "nested_sequential"),
    ("tf.keras-1.12.3", "custom_odd_name"),
    *(("keras-2.1.6", f"inside_sequential{part}") for part in ("", "-backbone", "-core", "-stack")),
}
RECURRENT = frozenset({"lstm_plain", "recurrent", "scope_prefix", "time_distributed_model", "many_layers"})


def sources(folder: Path) -> Iterator[tuple[str, Path, Path, Reference | None]]:
    """Give for each model in a case: its name, the multi-GPU file, the folder of its truth, a reference model."""
    whole = [""] if (folder / "single_weights.h5").exists() else []
    for name in [*whole, *told(folder)["submodels"]]:  # type: ignore[misc]
        truth = folder / str(name)
        full = folder / "multi.h5"
        if full.exists():
            yield str(name), full, truth, None
        elif (folder / "multi_weights.h5").exists() and (truth / "single.json").exists():
            around = (
                folder if whole else truth
            )  # of a nested model at any depth the reference model is the whole
            like = reference_from_json((around / "single.json").read_text(), where="single.json")
            yield str(name), folder / "multi_weights.h5", truth, like


def translated(source: Path, submodel: str, like: Reference | None) -> Translation:
    with open_checkpoint(source) as opened:
        plan = compose_for_keras3(opened.checkpoint, Request(like=like, submodel=submodel or None))
    assert plan.architecture is not None
    return translate(plan.architecture, plan.layers, keras_version=plan.keras_version)


@pytest.mark.parametrize(("era", "backend"), RUNS)
def test_predictions_are_those_of_old_keras(
    era: str, backend: str, case: Callable[[str, str], Path], judged: Judge, tmp_path: Path
) -> None:
    jobs, odd, limits = [], {}, {}
    for name in [name for other, name in all_cases() if other == era]:
        if backend == "jax" and name == "float64":
            continue  # JAX works in 32 bits unless told otherwise
        for submodel, source, truth, like in sources(case(era, name)):
            called = f"{name}-{submodel}" if submodel else name
            try:
                translation = translated(source, submodel, like)
                files = convert(translation, source, tmp_path / called)
            except RemapError as error:
                expected = isinstance(error, Undecided) and (era, called) in UNDECIDED
                if not expected and re.search(REFUSED.get(called, "nothing of the kind"), str(error)) is None:
                    odd[called] = str(error)
                continue
            jobs.append(Job(called, *files, truth / "samples.npz", custom_objects=translation.custom_objects))
            exact = np.load(truth / "samples.npz")["output_0"].dtype != np.float16
            limits[called] = (1e-4 if name in RECURRENT else 1e-5) if exact else 1e-2
    assert odd == {}
    assert len(jobs) > 20
    verdicts = judged(jobs, tmp_path, backend)
    wrong = {
        name: verdict
        for name, verdict in verdicts.items()
        if "error" in verdict or max(verdict["model"], verdict["weights"]) > limits[name] or verdict["layout"]
    }
    assert wrong == {}
    needing = {job.name for job in jobs if job.custom_objects}
    assert "own_lambda" in needing
    assert {name for name, verdict in verdicts.items() if verdict["needs_objects"]} == needing


def test_the_eras_are_there() -> None:
    assert len(ERAS) >= 6, FIXTURES
