"""Damaged files are refused in our words or convert to exactly what they hold."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest

from remap.formats.keras2 import describe
from remap.hdf5.output import publish
from remap.hdf5.reader import open_checkpoint
from tests.attack.fuzz import damage, judge, subjects
from tests.handmade import identity, save_full

ROOT = Path(__file__).resolve().parents[2]
# The cases with the longest lists are left to campaigns.
PARTS = ("keras-2.2.4/[a-k]*", "keras-2.3.1/[n-z]*", "tf.keras-2.*/[a-k]*", "keras-2.[01]*/[n-z]*")


@pytest.mark.skipif(
    not hasattr(os, "fork"), reason="damaged files may hang libhdf5: needs children to sacrifice"
)
@pytest.mark.parametrize("part", range(len(PARTS)))
def test_two_thousand_damaged_files(part: int) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.attack.fuzz", "--runs=500", f"--seed={part}", f"--cases={PARTS[part]}"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "0  ended as none may" in done.stdout


def test_damage_can_be_repeated() -> None:
    content = bytes(range(256)) * 64
    given, again = ([damage(content, random.Random(number)) for number in range(200)] for _ in range(2))
    assert given == again
    assert sum(one != content for one in given) > 180


def test_every_role_is_damaged_somewhere() -> None:
    assert {subject.member for subject in subjects("keras-2.2.4/conv_bn")} == {
        "multi.h5",
        "multi_weights.h5",
        "fresh_weights.h5",
        "single.json",
        "single.keras",
    }


def test_the_judge_sees_one_wrong_bit(tmp_path: Path) -> None:
    source, target = save_full(tmp_path / "in.h5"), tmp_path / "out.h5"
    with open_checkpoint(source) as opened:
        planned = identity(opened.checkpoint)
        publish(describe(planned), opened, target, overwrite=False)
    judge(planned, source, target)
    with h5py.File(target, "r+") as file:
        file["model_weights/model_1/dense_1/bias:0"][2] = np.nextafter(np.float32(102), np.float32(103))
    with pytest.raises(AssertionError, match="has other bytes than"):
        judge(planned, source, target)
