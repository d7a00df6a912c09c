"""What checked access to a file accepts, beyond the attacks that it must refuse."""

from __future__ import annotations

import struct
from contextlib import closing
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np
import pytest

from remap.errors import InputRefused
from remap.hdf5 import checked_file as module
from remap.hdf5.checked_file import CheckedFile
from remap.hdf5.object_headers import ATTRIBUTE_INFO
from remap.hdf5.source import Source
from remap.hdf5.tensors import Tensor
from tests.attack.metadata import edit, headers
from tests.handmade import save_full, save_weights

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


def _one(checked: CheckedFile, group: tuple[str, ...], name: str) -> Tensor:
    (tensor,) = checked.tensors(group, [name])
    return tensor


@pytest.fixture
def checked(tmp_path: Path) -> Iterator[CheckedFile]:
    source = Source.open(save_full(tmp_path / "in.h5"))
    with CheckedFile(source) as checked:
        yield checked
    source.close()


def test_libhdf5_holds_nothing_after_the_file_is_closed(tmp_path: Path) -> None:
    source = Source.open(save_full(tmp_path / "in.h5"))
    types = h5py.h5f.OBJ_ALL & ~h5py.h5f.OBJ_DATATYPE  # types in memory are cached, and belong to no file
    before = len(h5py.h5f.get_obj_ids(h5py.h5f.OBJ_ALL, types))
    with CheckedFile(source) as checked:
        _one(checked, ("model_weights", "model_1"), "dense_1/kernel:0")
        checked.names(("model_weights",), "layer_names")
    assert len(h5py.h5f.get_obj_ids(h5py.h5f.OBJ_ALL, types)) == before
    source.close()


def test_says_what_a_tensor_is_and_where_its_bytes_are(checked: CheckedFile, tmp_path: Path) -> None:
    tensor = _one(checked, ("model_weights", "model_1"), "dense_1/kernel:0")
    assert (tensor.shape, tensor.dtype, tensor.extent.size) == ((3, 4), "<f4", 48)
    content = (tmp_path / "in.h5").read_bytes()
    found = content[tensor.extent.offset : tensor.extent.offset + tensor.extent.size]
    assert found == np.arange(12, dtype="<f4").tobytes()


def test_says_what_is_there(checked: CheckedFile) -> None:
    assert checked.has("model_weights")
    assert checked.has("model_weights", "model_1", "dense_1/kernel:0")
    assert not checked.has("model_weights", "model_2")


def test_attributes_that_are_not_there_are_none(checked: CheckedFile) -> None:
    assert checked.text(("model_weights",), "nothing") is None
    assert checked.names(("model_weights",), "nothing") is None


def test_refuses_to_ask_below_what_is_not_there(checked: CheckedFile) -> None:
    with pytest.raises(InputRefused, match="does not hold 'nothing'"):
        checked.has("model_weights", "nothing", "inside")


def test_tensors_of_no_bytes_share_nothing(tmp_path: Path) -> None:
    layers = {"layer": {"a": np.empty((0, 3)), "b": np.empty((0, 3)), "c": np.ones(2)}}
    source = Source.open(save_weights(tmp_path / "in.h5", layers))
    with CheckedFile(source) as checked:
        assert [tensor.shape for tensor in checked.tensors(("layer",), list(layers["layer"]))] == [
            (0, 3),
            (0, 3),
            (2,),
        ]
        checked.require_disjoint()
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
    with pytest.raises(InputRefused, match="the disk failed at read 6"), CheckedFile(source) as checked:
        checked.names(("model_weights", "model_1"), "weight_names")
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
            with CheckedFile(source) as checked:
                checked.names(("model_weights", "model_1"), "weight_names")
                checked.text((), "model_config")
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
    with pytest.raises(InputRefused, match="too late"), CheckedFile(source):
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
    with CheckedFile(source) as checked:
        if padding == h5py.h5t.STR_NULLTERM:
            assert checked.text((), "backend") == "tensorflow  "
        else:
            with pytest.raises(InputRefused, match="padded"):
                checked.text((), "backend")
    source.close()


def test_an_attribute_larger_than_any_of_keras_is_refused_unread(tmp_path: Path) -> None:
    path = tmp_path / "in.h5"
    with h5py.File(path, "w", libver="latest") as file:
        file.attrs["model_config"] = np.bytes_(b"x" * ((8 << 20) + 1))
    source = Source.open(path)
    with (
        pytest.raises(InputRefused, match="claims 1 entries in 8,388,609 bytes"),
        CheckedFile(source) as checked,
    ):
        checked.text((), "model_config")
    source.close()


def test_a_list_of_more_names_than_any_model_has_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "in.h5"
    with h5py.File(path, "w", libver="latest") as file:
        for piece in range(3):
            file.attrs[f"layer_names{piece}"] = np.full(60_000, b"a")
    source = Source.open(path)
    with (
        pytest.raises(InputRefused, match="piece 3 of this list has 60,000 names"),
        CheckedFile(source) as checked,
    ):
        checked.names((), "layer_names")
    source.close()


def _counted(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    asked: list[bytes] = []
    real = module._hard_link

    def hard_link(group: object, path: bytes) -> int:
        asked.append(path)
        return real(group, path)

    monkeypatch.setattr(module, "_hard_link", hard_link)
    return asked


@pytest.mark.parametrize("links", [50, 100])
def test_many_links_to_one_group_are_refused_at_the_second(
    tmp_path: Path, links: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = [f"tensor {number}" for number in range(links)]
    with h5py.File(tmp_path / "in.h5", "w") as file:
        for name in names:
            file.create_dataset(f"layer 0/{name}", data=np.ones(1))
        for number in range(1, links):
            file[f"layer {number}"] = file["layer 0"]
    with closing(Source.open(tmp_path / "in.h5")) as source, CheckedFile(source) as checked:
        asked = _counted(monkeypatch)
        list(checked.tensors(("layer 0",), names))
        with pytest.raises(InputRefused, match="/layer 1 and /layer 0 are the same group"):
            list(checked.tensors(("layer 1",), names))
    assert len(asked) == links + 2  # the two groups, and each tensor once


@pytest.mark.parametrize(
    ("first", "second"), [("a/x", "b/y"), ("a/x", "a/up/a/y"), ("b/x", "a/x"), ("a/x", "a/up/z")]
)
def test_a_group_with_two_paths_is_refused(tmp_path: Path, first: str, second: str) -> None:
    with h5py.File(tmp_path / "in.h5", "w") as file:
        file["a/x"], file["a/y"], file["z"] = np.ones(2), np.ones(2), np.ones(2)
        file["a/up"], file["b"] = file["/"], file["a"]
    with (
        closing(Source.open(tmp_path / "in.h5")) as source,
        CheckedFile(source) as checked,
        pytest.raises(InputRefused, match="are the same group"),
    ):
        list(checked.tensors((), [first, second]))


def test_a_split_list_has_no_more_pieces_than_keras_makes(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "in.h5", "w", libver="latest") as file:
        for piece in range(1025):
            file.attrs[f"layer_names{piece}"] = np.array([b"a"])
    with (
        closing(Source.open(tmp_path / "in.h5")) as source,
        CheckedFile(source) as checked,
        pytest.raises(InputRefused, match="piece 1025 of this list has 1 names"),
    ):
        checked.names((), "layer_names")


def test_a_split_list_beside_an_object_of_its_name_is_refused(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "in.h5", "w") as file:
        file.attrs["layer_names0"] = np.array([b"a"])
        file["layer_names"] = np.array([b"b"])
    with (
        closing(Source.open(tmp_path / "in.h5")) as source,
        CheckedFile(source) as checked,
        pytest.raises(InputRefused, match="this list is split, and the group holds an object"),
    ):
        checked.names((), "layer_names")


def test_a_tensor_of_which_an_attribute_has_the_name_is_refused(tmp_path: Path) -> None:
    path = save_full(tmp_path / "in.h5")
    with h5py.File(path, "r+") as file:
        file["model_weights/model_1"].attrs["dense_1/kernel:0"] = np.zeros((3, 4), "<f4")
    with (
        closing(Source.open(path)) as source,
        CheckedFile(source) as checked,
        pytest.raises(InputRefused, match="an attribute and an object both have the name 'dense_1/kernel:0'"),
    ):
        list(checked.tensors(("model_weights", "model_1"), ["dense_1/kernel:0"]))


@pytest.mark.parametrize("stored", [h5py.string_dtype("ascii", 12), h5py.string_dtype("utf-8", 12)])
def test_text_of_fixed_length_is_read_in_both_encodings(tmp_path: Path, stored: np.dtype[Any]) -> None:
    with h5py.File(tmp_path / "in.h5", "w") as file:
        file.attrs.create("backend", b"tensorflow", dtype=stored)
        file.attrs.create("layer_names", [b"a", b"b"], dtype=stored)
    with closing(Source.open(tmp_path / "in.h5")) as source, CheckedFile(source) as checked:
        assert checked.text((), "backend") == "tensorflow"
        assert checked.names((), "layer_names") == ("a", "b")


def test_groups_that_share_one_large_attribute_are_refused(tmp_path: Path) -> None:
    """Each group refers to the same fractal heap, in which an attribute of half the file's size lies."""
    path = tmp_path / "in.h5"
    with h5py.File(path, "w", libver="latest") as file:
        for number in range(4):
            group = file.create_group(f"layer {number}")
            for other in range(9):
                group.attrs[f"filler {other}"] = other
        file["layer 0"].attrs["weight_names"] = np.array([b"a"], "S200000")
        places = [h5py.h5o.get_info(file[f"layer {number}"].id).addr for number in range(4)]
    data = bytearray(path.read_bytes())
    known = headers(path, places)
    (given, *others) = [
        next(message for message in known[place].messages if message.kind == ATTRIBUTE_INFO)
        for place in places
    ]
    for place, message in zip(places[1:], others, strict=True):

        def share(at: int = message.offset) -> None:
            data[at : at + len(given.content)] = given.content

        edit(data, place, place + known[place].size + 4, share)
    path.write_bytes(data)
    with h5py.File(path) as file:
        assert all(file[f"layer {number}"].attrs["weight_names"][0] == b"a" for number in range(4))
    with closing(Source.open(path)) as source, CheckedFile(source) as checked:
        assert checked.names(("layer 0",), "weight_names") == ("a",)
        with pytest.raises(InputRefused, match="the attributes have more bytes together than the file"):
            checked.names(("layer 1",), "weight_names")


def test_tensors_of_no_bytes_are_no_exception(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "in.h5", "w") as file:
        file["layer/a"] = np.ones((0, 3))
        file["layer/b"] = file["layer/a"]
    with (
        closing(Source.open(tmp_path / "in.h5")) as source,
        CheckedFile(source) as checked,
        pytest.raises(InputRefused, match="shares its bytes with /layer/a"),
    ):
        list(checked.tensors(("layer",), ["a", "b"]))


class _Closing:
    def close(self) -> None:
        raise RuntimeError("Can't decrement id ref count")


def test_damage_that_libhdf5_meets_when_it_closes_the_file_is_told(tmp_path: Path) -> None:
    with closing(Source.open(save_full(tmp_path / "in.h5"))) as source:
        checked = CheckedFile(source)
        opened, checked._file = checked._file, _Closing()
        with pytest.raises(InputRefused, match="HDF5 cannot read this: Can't decrement"), checked:
            pass
        opened.close()


def test_what_was_met_before_says_more_than_damage_met_at_the_end(tmp_path: Path) -> None:
    with closing(Source.open(save_full(tmp_path / "in.h5"))) as source:
        checked = CheckedFile(source)
        opened, checked._file = checked._file, _Closing()
        with pytest.raises(InputRefused, match="does not hold 'nothing'"), checked:
            checked.text(("nothing",), "text")
        opened.close()


def test_a_tensor_behind_the_end_that_the_superblock_states_is_refused(tmp_path: Path) -> None:
    path = save_weights(tmp_path / "in.h5", {"layer": {"a": np.ones(4), "b": np.zeros(4)}})
    with h5py.File(path) as file:
        offset = file["layer/b"].id.get_offset()
    data = bytearray(path.read_bytes())
    header = data.index(struct.pack("<QQ", offset, 32))
    data[header : header + 8] = struct.pack("<Q", len(data))
    path.write_bytes(data + bytes(64))
    with h5py.File(path) as file, pytest.raises((KeyError, OSError)):
        file["layer/b"][()]
    with closing(Source.open(path)) as source, CheckedFile(source) as checked, pytest.raises(InputRefused):
        list(checked.tensors(("layer",), ["a", "b"]))


@pytest.mark.parametrize("length", [10, 14])
def test_text_ends_at_its_first_nul_where_h5py_says_so(tmp_path: Path, length: int) -> None:
    path = save_weights(tmp_path / "in.h5")
    with h5py.File(path, "r+") as file:
        del file.attrs["backend"]
        kind = h5py.h5t.C_S1.copy()
        kind.set_size(length)
        kind.set_strpad(h5py.h5t.STR_NULLTERM)
        attribute = h5py.h5a.create(file.id, b"backend", kind, h5py.h5s.create(h5py.h5s.SCALAR))
        attribute.write(np.array(b"tensorflow\0and"[:length]), mtype=kind)
        expected = file.attrs["backend"].decode()
    with closing(Source.open(path)) as source, CheckedFile(source) as checked:
        assert checked.text((), "backend") == expected


def test_variable_text_that_reads_differently_from_what_is_stored_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "in.h5"
    with h5py.File(path, "w") as file:
        file.attrs["backend"] = "tensorflow"
    data = path.read_bytes()
    path.write_bytes(data.replace(b"tensorflow", b"tensor\0low"))  # to libhdf5 it ends at the NUL
    with (
        closing(Source.open(path)) as source,
        CheckedFile(source) as checked,
        pytest.raises(InputRefused, match="reads differently from what is stored"),
    ):
        checked.text((), "backend")
