"""Nothing that differs from the plan or the input passes for written."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import TYPE_CHECKING

import h5py
import numpy as np
import pytest

from remap.errors import OutputRefused
from remap.hdf5.publish import publish
from remap.hdf5.reader import open_checkpoint
from remap.hdf5.verify import verify
from remap.hdf5.writer import write as real_write
from tests.handmade import identity, save_full, save_weights

if TYPE_CHECKING:
    import io
    from collections.abc import Callable
    from pathlib import Path

    from remap.hdf5.layout import Layout
    from remap.hdf5.reader import OpenedCheckpoint
    from remap.keras.plan import Plan


def _verify(source: Path, written: Path, change: Callable[[Plan], Plan] = lambda plan: plan) -> list[int]:
    reports: list[int] = []
    with open_checkpoint(source) as opened, open_checkpoint(written) as output:
        verify(change(identity(opened.checkpoint)), opened, output, reports.append)
    return reports


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Path, Path]:
    source, target = save_full(tmp_path / "in.h5"), tmp_path / "out.h5"
    with open_checkpoint(source) as opened:
        publish(identity(opened.checkpoint), opened, target, overwrite=False)
    return source, target


def test_accepts_what_is_right_and_reports_every_byte(pair: tuple[Path, Path]) -> None:
    assert sum(_verify(*pair)) == 48 + 16 + 8 + 8 + 28


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda plan: replace(plan, backend=None), "its backend"),
        (lambda plan: replace(plan, keras_version="2.2.5"), "its keras version"),
        (lambda plan: replace(plan, file_backend="theano"), "its file backend"),
        (lambda plan: replace(plan, file_keras_version=None), "its file keras version"),
        (lambda plan: replace(plan, model_config="{}"), "its model config"),
        (lambda plan: replace(plan, training_config=None), "its training config"),
        (lambda plan: replace(plan, optimizer=None), "its optimizer"),
        (lambda plan: replace(plan, layers=plan.layers[::-1]), "its layers"),
        (lambda plan: replace(plan, model_config=None, training_config=None, optimizer=None), "its root"),
    ],
)
def test_every_difference_from_the_plan_is_found(
    pair: tuple[Path, Path], change: Callable[[Plan], Plan], words: str
) -> None:
    with pytest.raises(OutputRefused, match=f"reads back differently: {words}"):
        _verify(*pair, change)


def test_every_single_bit_of_every_tensor_counts(pair: tuple[Path, Path]) -> None:
    source, target = pair
    with open_checkpoint(target) as written:
        extents = [extent for extent in written.extents.values() if extent.size]
    content = target.read_bytes()
    for extent in extents:
        for place in (extent.offset, extent.offset + extent.size - 1):
            for bit in (1, 128):
                damaged = bytearray(content)
                damaged[place] ^= bit
                target.write_bytes(damaged)
                with pytest.raises(OutputRefused, match="a tensor that was written reads back differently"):
                    _verify(source, target)


def test_two_tensors_of_equal_shape_that_changed_places_are_found(tmp_path: Path) -> None:
    layers = {"layer": {"a:0": np.full(4, 1.0), "b:0": np.full(4, 2.0)}}
    source, target = save_weights(tmp_path / "in.h5", layers), tmp_path / "out.h5"
    with open_checkpoint(source) as opened:
        publish(identity(opened.checkpoint), opened, target, overwrite=False)
    _verify(source, target)
    with h5py.File(target, "r+") as file:
        a, b = file["layer/a:0"], file["layer/b:0"]
        a[...], b[...] = b[...], a[...]
    with pytest.raises(OutputRefused, match="a tensor that was written reads back differently") as caught:
        _verify(source, target)
    assert caught.value.where.startswith("/layer/a:0, ")


def test_an_output_that_cannot_be_read_back_is_not_published(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def spoil(
        layout: Layout, opened: OpenedCheckpoint, output: io.FileIO, report: Callable[[int], None]
    ) -> None:
        real_write(layout, opened, output, report)
        os.pwrite(output.fileno(), b"XXXX", 8)

    monkeypatch.setattr("remap.hdf5.publish.write", spoil)
    with (
        open_checkpoint(save_full(tmp_path / "in.h5")) as opened,
        pytest.raises(OutputRefused, match="what was written cannot be read back"),
    ):
        publish(identity(opened.checkpoint), opened, tmp_path / "out.h5", overwrite=False)
    assert [path.name for path in tmp_path.iterdir()] == ["in.h5"]
