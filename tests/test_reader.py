"""Whatever Keras and h5py wrote is read as they would read it."""

from __future__ import annotations

import io
import lzma
import tarfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np
import pytest

from remap.errors import InputRefused
from remap.hdf5.reader import open_checkpoint, read_tensor, tensor_chunks
from tests.handmade import LAYERS, names, save_full, save_weights, write_layers

if TYPE_CHECKING:
    from collections.abc import Iterator

FIXTURES = Path(__file__).resolve().parents[1] / "fixtures"
ARCHIVES = sorted(FIXTURES.glob("*/*.tar.xz"))


def _members(archive: Path) -> Iterator[tuple[str, bytes]]:
    with lzma.open(archive) as packed, tarfile.open(fileobj=packed) as members:
        for member in members:
            content = members.extractfile(member)
            if member.name.endswith(".h5") and content is not None:
                yield member.name, content.read()


def _text(value: Any) -> str | None:
    return value.decode() if isinstance(value, bytes) else value


def _list(attributes: h5py.AttributeManager, name: str) -> list[str]:
    if name in attributes:
        return [_text(item) or "" for item in attributes[name]]
    pieces = [f"{name}{number}" for number in range(len(attributes)) if f"{name}{number}" in attributes]
    return [_text(item) or "" for piece in pieces for item in attributes[piece]]


@pytest.mark.parametrize(
    "archive", ARCHIVES, ids=lambda path: f"{path.parent.name}-{path.name.split('.')[0]}"
)
def test_real_files_say_what_h5py_reads_in_them(archive: Path, tmp_path: Path) -> None:
    for name, content in _members(archive):
        path = tmp_path / Path(name).name
        path.write_bytes(content)
        with open_checkpoint(path) as opened, h5py.File(io.BytesIO(content)) as file:
            checkpoint = opened.checkpoint
            root = file[checkpoint.root]
            assert [layer.name for layer in checkpoint.layers] == _list(root.attrs, "layer_names")
            assert checkpoint.backend == _text(root.attrs.get("backend"))
            assert checkpoint.keras_version == _text(root.attrs.get("keras_version"))
            assert checkpoint.model_config == _text(file.attrs.get("model_config"))
            assert checkpoint.training_config == _text(file.attrs.get("training_config"))
            for layer in checkpoint.layers:
                group = root[layer.name]
                assert [weight.name for weight in layer.weights] == _list(group.attrs, "weight_names")
                for weight in layer.weights:
                    expected = group[weight.name][()]
                    assert (weight.shape, weight.dtype) == (expected.shape, expected.dtype.str)
                    assert np.array_equal(read_tensor(opened, weight), expected)
            if "optimizer_weights" in file:
                state = file["optimizer_weights"]
                assert checkpoint.optimizer is not None
                assert [weight.name for weight in checkpoint.optimizer] == _list(state.attrs, "weight_names")
            else:
                assert checkpoint.optimizer is None


def test_there_are_real_files() -> None:
    assert len(ARCHIVES) > 100


FORMATS = [None, "earliest", "latest", ("v108", "v108")]


@pytest.mark.parametrize("libver", FORMATS)
@pytest.mark.parametrize("ordered", [False, True])
def test_reads_lists_of_variable_strings_as_h5py_3_writes_them(
    tmp_path: Path, libver: Any, ordered: bool
) -> None:
    given = {f"layer_{number}": [f"w/{'k' * (number % 9)}:0", f"b{number}"] for number in range(300)}
    config = "é" * 50_000
    with h5py.File(tmp_path / "in.h5", "w", libver=libver, track_order=ordered) as file:
        file.attrs["layer_names"] = [name.encode() for name in given]
        file.attrs["model_config"] = config
        file.attrs["keras_version"] = "3.0.5"
        file.attrs["odd"] = np.arange(100)
        for layer, weights in given.items():
            group = file.create_group(layer)
            group.attrs["weight_names"] = (
                weights if layer.endswith("7") else [name.encode() for name in weights]
            )
            for weight in weights:
                group[weight] = np.arange(3.0)
    with open_checkpoint(tmp_path / "in.h5") as opened:
        found = {layer.name: [weight.name for weight in layer.weights] for layer in opened.checkpoint.layers}
        assert found == given
        assert opened.checkpoint.model_config == config
        assert opened.checkpoint.keras_version == "3.0.5"


def test_reads_split_lists_of_layers_weights_and_optimizer_state(tmp_path: Path) -> None:
    with h5py.File(save_full(tmp_path / "in.h5"), "r+") as file:
        for path, attribute in (
            ("model_weights", "layer_names"),
            ("model_weights/model_1", "weight_names"),
            ("optimizer_weights", "weight_names"),
        ):
            whole = file[path].attrs[attribute]
            del file[path].attrs[attribute]
            file[path].attrs[f"{attribute}0"], file[path].attrs[f"{attribute}1"] = whole[:1], whole[1:]
    with open_checkpoint(tmp_path / "in.h5") as opened:
        checkpoint = opened.checkpoint
        assert [layer.name for layer in checkpoint.layers] == list(LAYERS)
        assert [weight.name for weight in checkpoint.layers[1].weights] == list(LAYERS["model_1"])
        assert checkpoint.optimizer is not None
        assert [weight.name for weight in checkpoint.optimizer] == ["Adam/iterations:0", "m:0"]


def test_takes_the_whole_list_where_there_are_both_as_keras_does(tmp_path: Path) -> None:
    with h5py.File(save_weights(tmp_path / "in.h5"), "r+") as file:
        file.attrs["layer_names0"] = names(["nothing"])
    with open_checkpoint(tmp_path / "in.h5") as opened:
        assert [layer.name for layer in opened.checkpoint.layers] == list(LAYERS)


@pytest.mark.parametrize(
    "value",
    [np.array([]), np.array([], dtype="S4"), np.array([], dtype="<i8")],
    ids=["floats", "strings", "integers"],
)
def test_an_empty_list_has_no_names_whatever_its_type(tmp_path: Path, value: Any) -> None:
    with h5py.File(save_weights(tmp_path / "in.h5"), "r+") as file:
        del file["input_1"].attrs["weight_names"]
        file["input_1"].attrs["weight_names"] = value
    with open_checkpoint(tmp_path / "in.h5") as opened:
        assert opened.checkpoint.layers[0].weights == ()


DTYPES = ["f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "?", ">f4", ">i8"]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(), (1,), (2, 3), (0, 4)], ids=str)
def test_reads_every_type_and_shape_of_plain_numbers(
    tmp_path: Path, dtype: str, shape: tuple[int, ...]
) -> None:
    value = np.random.default_rng(7).integers(0, 2, shape).astype(dtype)
    with open_checkpoint(save_weights(tmp_path / "in.h5", {"layer": {"w:0": value}})) as opened:
        (weight,) = opened.checkpoint.layers[0].weights
        assert (weight.shape, weight.dtype) == (shape, value.dtype.str)
        found = read_tensor(opened, weight)
        assert found.dtype == value.dtype
        assert np.array_equal(found, value)
        assert b"".join(bytes(chunk) for chunk in tensor_chunks(opened, weight)) == value.tobytes()


def test_layers_whose_names_are_paths_may_lie_inside_each_other(tmp_path: Path) -> None:
    layers = {"block/conv": {"block/conv/k:0": np.ones(3)}, "block": {"k:0": np.zeros(2)}}
    with open_checkpoint(save_weights(tmp_path / "in.h5", layers)) as opened:
        assert [weight.path for layer in opened.checkpoint.layers for weight in layer.weights] == [
            "/block/conv/block/conv/k:0",
            "/block/k:0",
        ]


def test_attributes_that_are_not_there_are_none(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "in.h5", "w") as file:
        write_layers(file, backend=False)
    with open_checkpoint(tmp_path / "in.h5") as opened:
        checkpoint = opened.checkpoint
        assert (checkpoint.backend, checkpoint.keras_version) == (None, None)
        assert (checkpoint.model_config, checkpoint.training_config) == (None, None)
        assert checkpoint.optimizer is None


def test_versions_stand_apart_on_the_file_and_on_the_weights(tmp_path: Path) -> None:
    with h5py.File(save_full(tmp_path / "in.h5"), "r+") as file:
        file.attrs["keras_version"] = "2.3.0-tf"
        del file.attrs["backend"]
    with open_checkpoint(tmp_path / "in.h5") as opened:
        checkpoint = opened.checkpoint
        assert (checkpoint.keras_version, checkpoint.file_keras_version) == ("2.2.4", "2.3.0-tf")
        assert (checkpoint.backend, checkpoint.file_backend) == ("tensorflow", None)


def test_an_optimizer_group_without_a_list_holds_no_state(tmp_path: Path) -> None:
    with h5py.File(save_full(tmp_path / "in.h5"), "r+") as file:
        del file["optimizer_weights"].attrs["weight_names"]
    with open_checkpoint(tmp_path / "in.h5") as opened:
        assert opened.checkpoint.optimizer == ()


def test_top_level_weights_of_newer_keras_may_be_there_if_empty(tmp_path: Path) -> None:
    with h5py.File(save_full(tmp_path / "in.h5"), "r+") as file:
        file.create_group("model_weights/top_level_model_weights").attrs["weight_names"] = names([])
    with open_checkpoint(tmp_path / "in.h5") as opened:
        assert len(opened.checkpoint.layers) == len(LAYERS)


@pytest.mark.parametrize("inside", ["layers/dense/vars", "_layer_checkpoint_dependencies/dense", "vars"])
def test_says_that_a_file_is_in_the_new_format_of_keras_3(tmp_path: Path, inside: str) -> None:
    with h5py.File(tmp_path / "in.weights.h5", "w") as file:
        file.create_group(inside)["0"] = np.arange(3.0)
    with pytest.raises(InputRefused, match=r"Keras 3's own format"):
        open_checkpoint(tmp_path / "in.weights.h5")


def test_says_that_hdf5_is_not_keras(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "in.h5", "w") as file:
        file["measurements"] = np.arange(3.0)
    with pytest.raises(InputRefused, match="not a Keras checkpoint"):
        open_checkpoint(tmp_path / "in.h5")


@pytest.mark.parametrize("missing", ["model_1", "model_1/dense_1/bias:0", "input_1"])
def test_says_that_a_save_did_not_finish(tmp_path: Path, missing: str) -> None:
    with h5py.File(save_weights(tmp_path / "in.h5"), "r+") as file:
        del file[missing]
    with pytest.raises(InputRefused, match="the program that saved the file did not finish"):
        open_checkpoint(tmp_path / "in.h5")


def test_says_that_a_layer_has_no_list(tmp_path: Path) -> None:
    with h5py.File(save_weights(tmp_path / "in.h5"), "r+") as file:
        del file["input_1"].attrs["weight_names"]
    with pytest.raises(InputRefused, match="no list of its weights") as caught:
        open_checkpoint(tmp_path / "in.h5")
    assert caught.value.where.startswith("/input_1 in ")


def test_says_that_a_file_is_still_being_written(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "in.h5", "w", libver="latest") as file:
        write_layers(file)
        file.flush()
        (tmp_path / "copy.h5").write_bytes((tmp_path / "in.h5").read_bytes())
    with pytest.raises(InputRefused, match="marked as being written"):
        open_checkpoint(tmp_path / "copy.h5")


@pytest.mark.parametrize("share", [0.2, 0.5, 0.9, 0.999])
def test_says_that_a_file_is_cut_short(tmp_path: Path, share: float) -> None:
    path = save_full(tmp_path / "in.h5")
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(InputRefused, match="the file is cut short"):
        open_checkpoint(path)


def test_reads_headers_only(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "in.h5", "w") as file:
        write_layers(file, {"layer": {}})
        file["layer"].attrs["weight_names"] = names(["w:0"])
        # Four gigabytes that are there in name only: whoever read them would take long.
        options = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        options.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
        options.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
        space = h5py.h5s.create_simple((1 << 30,))
        h5py.h5d.create(file["layer"].id, b"w:0", h5py.h5t.IEEE_F32LE, space, options)
    with open_checkpoint(tmp_path / "in.h5") as opened:
        (weight,) = opened.checkpoint.layers[0].weights
        assert opened.extent(weight).size == 1 << 32
        assert not any(next(tensor_chunks(opened, weight)))


def test_closes_the_file_with_the_checkpoint(tmp_path: Path) -> None:
    opened = open_checkpoint(save_weights(tmp_path / "in.h5"))
    weight = opened.checkpoint.layers[1].weights[0]
    opened.close()
    opened.close()
    with pytest.raises(ValueError, match="closed file"):
        read_tensor(opened, weight)


@pytest.mark.parametrize("split", [False, True])
@pytest.mark.parametrize("full", [False, True])
def test_two_lists_of_layers_are_refused(tmp_path: Path, *, split: bool, full: bool) -> None:
    """`load_weights` would read the one, or the other where the first is split, and `load_model` the second."""
    path = save_full(tmp_path / "in.h5")
    with h5py.File(path, "r+") as file:
        if not full:
            del file.attrs["model_config"]
        file.attrs["layer_names0" if split else "layer_names"] = names(["layer"])
        file.create_group("layer").attrs["weight_names"] = names([])
    with pytest.raises(InputRefused, match="a list of layers beside a group model_weights"):
        open_checkpoint(path)


@pytest.mark.parametrize("name", ["model_weights", "optimizer_weights", "model_weights/model_1"])
def test_a_group_of_which_an_attribute_has_the_name_is_refused(tmp_path: Path, name: str) -> None:
    path = save_full(tmp_path / "in.h5")
    parent, _, attribute = name.rpartition("/")
    with h5py.File(path, "r+") as file:
        file[f"/{parent}"].attrs[attribute] = np.zeros(1, [("weight_names", "S3"), ("w:0", "<f4")])
    with pytest.raises(InputRefused, match=f"an attribute and an object both have the name '{attribute}'"):
        open_checkpoint(path)


@pytest.mark.parametrize("name", ["backend", "keras_version"])
def test_a_layer_may_have_the_name_of_a_text_of_keras(tmp_path: Path, name: str) -> None:
    with open_checkpoint(save_weights(tmp_path / "in.h5", {name: {"w:0": np.ones(2)}})) as opened:
        assert [layer.name for layer in opened.checkpoint.layers] == [name]


def test_layers_that_are_one_group_are_refused(tmp_path: Path) -> None:
    path = save_weights(tmp_path / "in.h5", {"a": {}, "b": {}})
    with h5py.File(path, "r+") as file:
        del file["b"]
        file["b"] = file["a"]
    with pytest.raises(InputRefused, match="/b and /a are the same group"):
        open_checkpoint(path)
