"""The structure that libhdf5 builds in memory is what Keras would have written, and the same bytes every time."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest

from remap.conversion_plan import PlannedLayer, PlannedWeight
from remap.formats.keras2 import describe
from remap.hdf5.file_image import MemoryFile
from remap.hdf5.output import publish
from remap.hdf5.reader import open_checkpoint
from tests.handmade import identity, save_full, save_weights

ROOT = Path(__file__).resolve().parents[1]


def _written(source: Path, target: Path, **changes: object) -> Path:
    with open_checkpoint(source) as opened:
        plan = replace(identity(opened.checkpoint), **changes)  # type: ignore[arg-type]
        publish(describe(plan), opened, target, overwrite=True)
    return target


def _layers(count: int, source: PlannedWeight, width: int) -> tuple[PlannedLayer, ...]:
    return tuple(
        PlannedLayer(name=f"l{number:0{width}}", weights=(PlannedWeight(name="w:0", source=source.source),))
        for number in range(count)
    )


def test_names_are_fixed_length_bytes_and_texts_are_too(tmp_path: Path) -> None:
    target = _written(save_full(tmp_path / "in.h5"), tmp_path / "out.h5")
    with h5py.File(target) as file:
        weights = file["model_weights"]
        assert weights.attrs["layer_names"].dtype == "S11"
        assert weights["model_1"].attrs["weight_names"].dtype == "S16"
        for holder, name in [(weights, "backend"), (weights, "keras_version"), (file, "model_config")]:
            kind = holder.attrs.get_id(name).get_type()
            assert (kind.get_class(), kind.is_variable_str()) == (h5py.h5t.STRING, False)


def test_a_layer_without_weights_has_an_empty_group_and_a_list_of_no_floats(tmp_path: Path) -> None:
    target = _written(save_weights(tmp_path / "in.h5"), tmp_path / "out.h5")
    with h5py.File(target) as file:
        assert len(file["input_1"]) == 0
        found = file["input_1"].attrs["weight_names"]
        assert (found.dtype, found.shape) == ("<f8", (0,))


def test_attributes_that_were_absent_stay_absent(tmp_path: Path) -> None:
    target = _written(
        save_full(tmp_path / "in.h5"), tmp_path / "out.h5", backend=None, file_keras_version=None
    )
    with h5py.File(target) as file:
        assert set(file.attrs) == {"backend", "model_config", "training_config"}
        assert set(file["model_weights"].attrs) == {"keras_version", "layer_names"}


def test_a_weights_file_has_its_layers_at_the_root(tmp_path: Path) -> None:
    target = _written(
        save_full(tmp_path / "in.h5"),
        tmp_path / "out.h5",
        model_config=None,
        training_config=None,
        optimizer=None,
    )
    with h5py.File(target) as file:
        assert set(file) == {"input_1", "model_1", "predictions"}
        assert set(file.attrs) == {"backend", "keras_version", "layer_names"}


@pytest.mark.parametrize(("width", "pieces"), [(30, 0), (40, 2), (90, 3)])
def test_long_lists_are_split_as_keras_splits_them(tmp_path: Path, width: int, pieces: int) -> None:
    with open_checkpoint(save_weights(tmp_path / "in.h5")) as opened:
        plan = identity(opened.checkpoint)
        plan = replace(plan, layers=_layers(2000, plan.layers[1].weights[0], width))
        publish(describe(plan), opened, tmp_path / "out.h5", overwrite=False)
    with h5py.File(tmp_path / "out.h5") as file:
        found = sorted(name for name in file.attrs if name.startswith("layer_names"))
        assert found == ([f"layer_names{number}" for number in range(pieces)] or ["layer_names"])
        assert all(file.attrs[name].nbytes <= 64512 for name in found)
        joined = np.concatenate([file.attrs[name] for name in found])
        assert [name.decode() for name in joined] == [layer.name for layer in plan.layers]


def test_one_tensor_in_two_layers_is_two_copies(tmp_path: Path) -> None:
    with open_checkpoint(save_weights(tmp_path / "in.h5")) as opened:
        plan = identity(opened.checkpoint)
        shared = plan.layers[1].weights[:1]
        layers = (PlannedLayer(name="a", weights=shared), PlannedLayer(name="b", weights=shared))
        publish(describe(replace(plan, layers=layers)), opened, tmp_path / "out.h5", overwrite=False)
    with open_checkpoint(tmp_path / "out.h5") as written, h5py.File(tmp_path / "out.h5") as file:
        offsets = {written.extent(layer.weights[0]).offset for layer in written.checkpoint.layers}
        assert len(offsets) == 2
        assert np.array_equal(file["a/dense_1/kernel:0"][()], file["b/dense_1/kernel:0"][()])


def test_layers_inside_each_others_paths_are_written(tmp_path: Path) -> None:
    layers = {"block1/conv": {"block1/conv/k:0": np.ones(3)}, "block1": {"k:0": np.zeros(2)}}
    target = _written(save_weights(tmp_path / "in.h5", layers), tmp_path / "out.h5")
    with h5py.File(target) as file:
        assert [name.decode() for name in file.attrs["layer_names"]] == list(layers)
        assert np.array_equal(file["block1/conv/block1/conv/k:0"], np.ones(3))


def test_every_byte_is_the_same_in_every_run(tmp_path: Path) -> None:
    """Across hash seeds, time zones, masks, directories and names."""
    source = save_full(tmp_path / "in.h5")
    script = (
        "import os, sys; os.umask(int(sys.argv[3], 8)); sys.path[:0] = sys.argv[4:]\n"
        "from tests.handmade import unchanged\n"
        "from remap.hdf5.reader import open_checkpoint\n"
        "from remap.hdf5.output import publish\n"
        "with open_checkpoint(sys.argv[1]) as opened:\n"
        "    publish(unchanged(opened.checkpoint), opened, sys.argv[2], overwrite=False)\n"
    )
    digests = set()
    for number, (zone, mask) in enumerate([("UTC", "022"), ("Asia/Tokyo", "077"), ("America/Lima", "000")]):
        directory = tmp_path / f"directory {number}"
        directory.mkdir()
        target = directory / f"out{number}.h5"
        subprocess.run(
            [sys.executable, "-c", script, source, target, mask, ROOT],
            env={**os.environ, "PYTHONHASHSEED": str(number + 1), "TZ": zone},
            cwd=directory,
            check=True,
        )
        digests.add(hashlib.sha256(target.read_bytes()).hexdigest())
        if os.name == "posix":
            assert target.stat().st_mode & 0o777 == 0o666 & ~int(mask, 8)
    assert len(digests) == 1


ERAS = sorted((ROOT / ".eras").glob("*/bin/python"))


@pytest.mark.skipif(
    not ERAS, reason="the old Pythons are not here: `python fixtures/make/eras.py` makes them"
)
@pytest.mark.parametrize("python", ERAS, ids=lambda path: path.parents[1].name)
def test_the_h5py_of_the_time_reads_it(tmp_path: Path, python: Path) -> None:
    """Also a `model_config` that is larger than any object header of its days could hold."""
    config = "x" * 300_000
    source = save_full(tmp_path / "in.h5", config=config)
    with open_checkpoint(source) as opened:
        plan = identity(opened.checkpoint)
        many = _layers(2000, plan.layers[1].weights[0], 60)
        publish(
            describe(replace(plan, layers=(*plan.layers, *many))),
            opened,
            tmp_path / "out.h5",
            overwrite=False,
        )
    script = (
        "import h5py, sys\n"
        "with h5py.File(sys.argv[1], 'r') as f:\n"
        "    assert f.attrs['model_config'].decode() == 'x' * 300000\n"
        "    w = f['model_weights']\n"
        "    names = [n.decode() for k in ('layer_names0', 'layer_names1') for n in w.attrs[k]]\n"
        "    assert len(names) == 2003\n"
        "    for n in names:\n"
        "        for m in w[n].attrs['weight_names']: w[n][m.decode()][()]\n"
        "    assert w['model_1/dense_1/kernel:0'][()].sum() == 66\n"
        "    assert f['optimizer_weights/Adam/iterations:0'][()] == 7\n"
    )
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    subprocess.run([python, "-c", script, tmp_path / "out.h5"], check=True, env=environment)


def test_a_memory_file_gives_back_what_was_written_and_zeros_elsewhere() -> None:
    memory = MemoryFile()
    memory.seek(5000)
    memory.write(bytearray(b"x" * 9000))
    memory.seek(4999)
    assert memory.read(9002) == b"\0" + b"x" * 9000 + b"\0"
    assert memory.seek(0, os.SEEK_END) == memory.tell() == memory.size == 14_000


def test_a_memory_file_keeps_only_the_pages_that_were_written() -> None:
    memory = MemoryFile()
    for place in (0, 1 << 40):
        memory.seek(place)
        memory.write(bytearray(b"x" * 5000))
    memory.seek(1 << 20)
    memory.write(bytearray(b"y" * (3 << 20)))
    pieces = list(memory.pieces())
    assert sum(len(piece) for _, piece in pieces) < 4 << 20
    assert max(len(piece) for _, piece in pieces) == 1 << 20
    written = dict(pieces)
    assert written[0].rstrip(b"\0") == written[1 << 40].rstrip(b"\0") == b"x" * 5000
    assert list(written) == sorted(written)


def test_an_empty_memory_file_has_no_pieces() -> None:
    assert list(MemoryFile().pieces()) == []


def test_copies_itself_what_the_kernel_leaves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "copy_file_range", lambda *_: 0, raising=False)
    source = save_full(tmp_path / "in.h5")
    target = _written(source, tmp_path / "out.h5")
    with open_checkpoint(source) as opened, open_checkpoint(target) as written:
        assert written.checkpoint == opened.checkpoint


def test_layers_may_lie_in_the_groups_of_other_layers_tensors(tmp_path: Path) -> None:
    layers = {"a": {"b/k:0": np.ones(2)}, "a/b": {"k:1": np.zeros(3)}}
    target = _written(save_weights(tmp_path / "in.h5", layers), tmp_path / "out.h5")
    with h5py.File(target) as file:
        assert set(file["a/b"]) == {"k:0", "k:1"}
