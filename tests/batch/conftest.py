"""Folders of checkpoints for the tests of batches."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from remap.batch.work import INTERPRETERS

Case = Callable[[str, str], Path]


@pytest.fixture(autouse=True)
def _no_interpreter_stays() -> Iterator[None]:
    """End what an executor of a test leaves waiting in this process."""
    yield
    INTERPRETERS.close()


@pytest.fixture
def multi(case: Case) -> Path:
    """Give a multi-GPU checkpoint that needs no reference model."""
    return case("keras-2.2.4", "conv_bn") / "multi.h5"


@pytest.fixture
def single(case: Case) -> Path:
    """Give a file from which nothing has to be extracted."""
    return case("keras-2.2.4", "conv_bn") / "single.h5"


@pytest.fixture
def runs(multi: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give a folder with three checkpoints of one run, in the working directory."""
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "runs"
    folder.mkdir()
    for name in ("weights.01-0.52.hdf5", "weights.02-0.48.hdf5", "weights.03-0.47.hdf5"):
        shutil.copy(multi, folder / name)
    return folder
