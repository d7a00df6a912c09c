"""What passes the gate, beyond the attacks that must not."""

from __future__ import annotations

from typing import TYPE_CHECKING

import h5py
import numpy as np
import pytest

from remap.errors import InputRefused
from remap.hdf5.gate import Gate
from remap.hdf5.source import Source
from remap.hdf5.tensors import Tensor
from tests.handmade import save_full, save_weights

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


def _one(gate: Gate, group: tuple[str, ...], name: str) -> Tensor:
    (tensor,) = gate.tensors(group, [name])
    return tensor


@pytest.fixture
def gate(tmp_path: Path) -> Iterator[Gate]:
    source = Source.open(save_full(tmp_path / "in.h5"))
    with Gate(source) as gate:
        yield gate
    source.close()


def test_libhdf5_holds_nothing_after_the_gate(tmp_path: Path) -> None:
    source = Source.open(save_full(tmp_path / "in.h5"))
    before = len(h5py.h5f.get_obj_ids(h5py.h5f.OBJ_ALL, h5py.h5f.OBJ_ALL))
    with Gate(source) as gate:
        _one(gate, ("model_weights", "model_1"), "dense_1/kernel:0")
        gate.names(("model_weights",), "layer_names")
    assert len(h5py.h5f.get_obj_ids(h5py.h5f.OBJ_ALL, h5py.h5f.OBJ_ALL)) == before
    source.close()


def test_says_what_a_tensor_is_and_where_its_bytes_are(gate: Gate, tmp_path: Path) -> None:
    tensor = _one(gate, ("model_weights", "model_1"), "dense_1/kernel:0")
    assert (tensor.shape, tensor.dtype, tensor.extent.size) == ((3, 4), "<f4", 48)
    content = (tmp_path / "in.h5").read_bytes()
    found = content[tensor.extent.offset : tensor.extent.offset + tensor.extent.size]
    assert found == np.arange(12, dtype="<f4").tobytes()


def test_says_what_is_there(gate: Gate) -> None:
    assert gate.has("model_weights")
    assert gate.has("model_weights", "model_1", "dense_1/kernel:0")
    assert not gate.has("model_weights", "model_2")


def test_attributes_that_are_not_there_are_none(gate: Gate) -> None:
    assert gate.text(("model_weights",), "nothing") is None
    assert gate.names(("model_weights",), "nothing") is None


def test_refuses_to_ask_below_what_is_not_there(gate: Gate) -> None:
    with pytest.raises(InputRefused, match="does not hold 'nothing'"):
        gate.has("model_weights", "nothing", "inside")


def test_tensors_of_no_bytes_share_nothing(tmp_path: Path) -> None:
    layers = {"layer": {"a": np.empty((0, 3)), "b": np.empty((0, 3)), "c": np.ones(2)}}
    source = Source.open(save_weights(tmp_path / "in.h5", layers))
    with Gate(source) as gate:
        assert [tensor.shape for tensor in gate.tensors(("layer",), list(layers["layer"]))] == [
            (0, 3),
            (0, 3),
            (2,),
        ]
        gate.require_disjoint()
    source.close()


def test_the_first_fault_of_the_disk_is_what_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = Source.open(save_full(tmp_path / "in.h5"))
    real = source.read_into
    reads = 0

    def fail(view: memoryview, offset: int) -> None:
        nonlocal reads
        reads += 1
        if reads > 5:
            raise InputRefused(f"the disk failed at read {reads}")
        real(view, offset)

    monkeypatch.setattr(source, "read_into", fail)
    with pytest.raises(InputRefused, match="the disk failed at read 6"), Gate(source) as gate:
        gate.names(("model_weights", "model_1"), "weight_names")
    source.close()


def test_libhdf5_holds_nothing_after_any_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What it still held at the end of the process it would give back to a dead interpreter, and crash."""
    path = save_full(tmp_path / "in.h5")
    errors = []
    for last in range(1000):
        source = Source.open(path)
        real = source.read_into
        reads = iter(range(1000))

        def fail(view: memoryview, offset: int) -> None:
            if next(reads) == last:  # noqa: B023 - called before the next round
                raise InputRefused("the disk failed")
            real(view, offset)  # noqa: B023

        monkeypatch.setattr(source, "read_into", fail)
        try:
            with Gate(source) as gate:
                gate.names(("model_weights", "model_1"), "weight_names")
                gate.text((), "model_config")
        except InputRefused as error:
            errors.append(error)  # with all that its traceback holds
        else:
            source.close()
            break
        source.close()
        assert not h5py.h5f.get_obj_ids(h5py.h5f.OBJ_ALL, h5py.h5f.OBJ_FILE)
    assert 10 < len(errors) < 100


def test_a_fault_that_libhdf5_did_not_mind_is_told_at_the_end(tmp_path: Path) -> None:
    source = Source.open(save_full(tmp_path / "in.h5"))
    with pytest.raises(InputRefused, match="too late"), Gate(source):
        source.fault = InputRefused("too late")
    source.close()


@pytest.mark.parametrize("padding", [h5py.h5t.STR_NULLTERM, h5py.h5t.STR_SPACEPAD])
def test_text_padded_with_spaces_is_refused_for_it_could_end_in_one(tmp_path: Path, padding: int) -> None:
    path = save_weights(tmp_path / "in.h5")
    with h5py.File(path, "r+") as file:
        del file.attrs["backend"]
        kind = h5py.h5t.C_S1.copy()
        kind.set_size(12)
        kind.set_strpad(padding)
        attribute = h5py.h5a.create(file.id, b"backend", kind, h5py.h5s.create(h5py.h5s.SCALAR))
        attribute.write(np.array(b"tensorflow  "), mtype=kind)
    source = Source.open(path)
    with Gate(source) as gate:
        if padding == h5py.h5t.STR_NULLTERM:
            assert gate.text((), "backend") == "tensorflow  "
        else:
            with pytest.raises(InputRefused, match="padded"):
                gate.text((), "backend")
    source.close()


def test_an_attribute_larger_than_any_of_keras_is_refused_unread(tmp_path: Path) -> None:
    path = tmp_path / "in.h5"
    with h5py.File(path, "w", libver="latest") as file:
        file.attrs["model_config"] = np.bytes_(b"x" * ((8 << 20) + 1))
    source = Source.open(path)
    with pytest.raises(InputRefused, match="claims 1 entries in 8,388,609 bytes"), Gate(source) as gate:
        gate.text((), "model_config")
    source.close()


def test_a_list_of_more_names_than_any_model_has_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "in.h5"
    with h5py.File(path, "w", libver="latest") as file:
        for piece in range(3):
            file.attrs[f"layer_names{piece}"] = np.full(60_000, b"a")
    source = Source.open(path)
    with pytest.raises(InputRefused, match="piece 3 of this list has 60,000 names"), Gate(source) as gate:
        gate.names((), "layer_names")
    source.close()
