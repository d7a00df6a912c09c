"""Nothing that differs from the plan or the input passes for written."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from remap.errors import OutputRefused
from remap.hdf5.copying import verify
from remap.hdf5.file_image import Layout, Place, lay_out
from remap.hdf5.output import publish
from remap.hdf5.reader import open_checkpoint
from tests.handmade import identity, save_full

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from remap.checkpoint import Checkpoint, Weight
    from remap.conversion_plan import Plan


def _verify(
    source: Path,
    written: Path,
    change: Callable[[Plan], Plan] = lambda plan: plan,
    move: Callable[[list[Place]], list[Place]] = lambda places: places,
) -> None:
    with open_checkpoint(source) as opened, open_checkpoint(written) as output:
        weights = {weight.path: weight for weight in _weights(opened.checkpoint)}
        places = [
            Place(weights[path], path, extent.offset)
            for path, extent in output.extents.items()
            if extent.size
        ]
        verify(change(identity(opened.checkpoint)), output, move(places))


def _weights(checkpoint: Checkpoint) -> list[Weight]:
    inside = [weight for layer in checkpoint.layers for weight in layer.weights]
    return inside + list(checkpoint.optimizer or ())


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Path, Path]:
    source, target = save_full(tmp_path / "in.h5"), tmp_path / "out.h5"
    with open_checkpoint(source) as opened:
        publish(identity(opened.checkpoint), opened, target, overwrite=False)
    return source, target


def test_accepts_what_is_right(pair: tuple[Path, Path]) -> None:
    _verify(*pair)


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


@pytest.mark.parametrize(
    "move",
    [
        lambda places: [replace(places[0], offset=places[0].offset + 4), *places[1:]],
        lambda places: places[1:],
        lambda places: [
            replace(places[0], offset=places[1].offset),
            replace(places[1], offset=places[0].offset),
            *places[2:],
        ],
    ],
)
def test_every_tensor_is_where_it_was_compared(
    pair: tuple[Path, Path], move: Callable[[list[Place]], list[Place]]
) -> None:
    with pytest.raises(OutputRefused, match="a tensor that was written reads back from elsewhere") as caught:
        _verify(*pair, move=move)
    assert caught.value.where == "/model_weights/model_1/dense_1/kernel:0"


def test_an_output_that_cannot_be_read_back_is_not_published(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def spoilt(plan: Plan) -> Layout:
        layout = lay_out(plan)
        (_, piece), *rest = layout.pieces
        return replace(layout, pieces=((0, piece[:8] + b"XXXX" + piece[12:]), *rest))

    monkeypatch.setattr("remap.hdf5.output.lay_out", spoilt)
    with (
        open_checkpoint(save_full(tmp_path / "in.h5")) as opened,
        pytest.raises(OutputRefused, match="what was written cannot be read back"),
    ):
        publish(identity(opened.checkpoint), opened, tmp_path / "out.h5", overwrite=False)
    assert [path.name for path in tmp_path.iterdir()] == ["in.h5"]
