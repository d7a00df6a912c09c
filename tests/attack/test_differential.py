"""h5py reads from the output what it reads from the input, however unusual the input is built."""

from __future__ import annotations

import os
import random
import struct
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import h5py
import numpy as np
import pytest

from tests.attack import differential
from tests.attack.differential import differences, make, spoil
from tests.attack.metadata import lookup3, signed, structures
from tests.handmade import save_full, save_weights

if TYPE_CHECKING:
    from numpy.typing import NDArray

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.skipif(
    not hasattr(os, "fork"), reason="damaged files may crash libhdf5: needs children to sacrifice"
)
@pytest.mark.parametrize("seed", range(2))
def test_three_hundred_unusual_files(seed: int) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.attack.differential", "--files=150", f"--seed={seed}"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "0  ended as none may" in done.stdout
    assert "as made, converted" in done.stdout
    assert "edited, converted" in done.stdout


def test_a_file_can_be_made_again(tmp_path: Path) -> None:
    contents = []
    for _ in range(2):
        chance = random.Random("1:0")
        make(tmp_path / "in.h5", chance)
        spoil(tmp_path / "in.h5", chance)
        contents.append((tmp_path / "in.h5").read_bytes())
    assert contents[0] == contents[1]


@pytest.mark.parametrize("save", [save_weights, save_full])
def test_real_files_show_no_difference(tmp_path: Path, save: object) -> None:
    assert callable(save)
    assert differences(save(tmp_path / "in.h5"), tmp_path / "out.h5") == "converted"


def test_the_judge_sees_a_tensor_from_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def layers(*values: int) -> dict[str, dict[str, NDArray[np.generic]]]:
        return {"layer": {f"dense_{number}/bias:0": np.full(3, value) for number, value in enumerate(values)}}

    def publish(*given: object, overwrite: bool) -> None:
        assert not overwrite
        assert isinstance(given[2], Path)
        save_weights(given[2], layers(1, 1))

    monkeypatch.setattr(differential, "publish", publish)
    with pytest.raises(AssertionError, match=r"dense_1/bias:0: .* became "):
        differences(save_weights(tmp_path / "in.h5", layers(1, 2)), tmp_path / "out.h5")


def test_the_checksum_is_that_of_the_library(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "in.h5", "w", libver="latest") as file:
        for number in range(20):
            file.create_dataset(f"tensor {number}", data=np.arange(number))
    data = (tmp_path / "in.h5").read_bytes()
    assert lookup3(data[:44]) == struct.unpack_from("<I", data, 44)[0]
    ends = [signed(data, start) for start in structures(data)]
    assert sum(end is not None for end in ends) >= 20
