"""The output appears whole or not at all."""

from __future__ import annotations

from typing import TYPE_CHECKING

import h5py
import numpy as np
import pytest

from remap.errors import OutputRefused, UsageRefused
from remap.hdf5.publish import publish
from remap.hdf5.reader import open_checkpoint
from tests.handmade import identity, save_full, save_weights

if TYPE_CHECKING:
    from pathlib import Path

    from remap.keras.checkpoint import Checkpoint


def test_output_says_what_the_plan_says(tmp_path: Path) -> None:
    source, target = save_full(tmp_path / "in.h5"), tmp_path / "out.h5"
    with open_checkpoint(source) as opened:
        size = publish(identity(opened.checkpoint), opened, target, overwrite=False)
        assert target.stat().st_size == size
        with open_checkpoint(target) as written:
            assert written.checkpoint == opened.checkpoint
    with h5py.File(source) as before, h5py.File(target) as after:
        for path in ("model_weights/model_1/dense_1/kernel:0", "optimizer_weights/m:0"):
            assert np.array_equal(before[path][()], after[path][()])


def test_refuses_an_output_that_is_there(tmp_path: Path) -> None:
    target = tmp_path / "out.h5"
    target.write_bytes(b"precious")
    with open_checkpoint(save_weights(tmp_path / "in.h5")) as opened:
        with pytest.raises(OutputRefused, match="already"):
            publish(identity(opened.checkpoint), opened, target, overwrite=False)
        assert target.read_bytes() == b"precious"
        publish(identity(opened.checkpoint), opened, target, overwrite=True)
    assert target.read_bytes() != b"precious"
    assert _names(tmp_path) == ["in.h5", "out.h5"]


@pytest.mark.parametrize("overwrite", [False, True])
def test_refuses_the_input_as_output_by_whatever_name(tmp_path: Path, overwrite: bool) -> None:
    source = save_weights(tmp_path / "in.h5")
    before = source.read_bytes()
    (tmp_path / "hard.h5").hardlink_to(source)
    (tmp_path / "soft.h5").symlink_to(source)
    with open_checkpoint(source) as opened:
        for name in ("in.h5", "hard.h5", "soft.h5"):
            with pytest.raises(UsageRefused, match="the output is the input"):
                publish(identity(opened.checkpoint), opened, tmp_path / name, overwrite=overwrite)
    assert source.read_bytes() == before


def test_leaves_nothing_when_the_check_refuses(tmp_path: Path) -> None:
    def refuse(checkpoint: Checkpoint) -> None:
        raise OutputRefused(f"{len(checkpoint.layers)} layers are not to my taste")

    with (
        open_checkpoint(save_weights(tmp_path / "in.h5")) as opened,
        pytest.raises(OutputRefused, match="3 layers are not to my taste"),
    ):
        publish(identity(opened.checkpoint), opened, tmp_path / "out.h5", overwrite=False, check=refuse)
    assert _names(tmp_path) == ["in.h5"]


def _names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())
