from __future__ import annotations

import io
import os
import struct
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import h5py
import numpy as np
import pytest

import remap
from remap import InputRefused, Undecided, extract
from remap.errors import GIVE_JSON, GIVE_KERAS, Remedy
from remap.reference_file import read_reference
from tests.truth import differences

Case = Callable[[str, str], Path]


def test_json_of_the_wrapper_counts_for_the_model_in_it(case: Case, tmp_path: Path) -> None:
    folder = case("keras-2.2.4", "conv_bn")
    with h5py.File(folder / "multi.h5") as file:
        (tmp_path / "multi.json").write_text(str(file.attrs["model_config"]))
    extract(folder / "multi_weights.h5", tmp_path / "out.h5", like=tmp_path / "multi.json")
    assert differences(tmp_path / "out.h5", folder / "single_weights.h5") == []


def test_a_whole_multi_gpu_file_counts_for_the_model_in_it(case: Case, tmp_path: Path) -> None:
    folder = case("keras-2.2.4", "conv_bn")
    extract(folder / "multi_weights.h5", tmp_path / "out.h5", like=folder / "multi.h5")
    assert differences(tmp_path / "out.h5", folder / "single_weights.h5") == []


def test_a_weights_file_of_keras_3_asks_for_a_file_that_tells_the_order(case: Case, tmp_path: Path) -> None:
    folder = case("keras-2.2.4", "nested")
    for name in ("like.weights.h5", "like.keras"):
        extract(folder / "multi.h5", tmp_path / name)
    with pytest.raises(Undecided, match="does not tell the order of the model's layers") as caught:
        extract(folder / "multi_weights.h5", tmp_path / "out.h5", like=tmp_path / "like.weights.h5")
    assert caught.value.remedies == (GIVE_JSON, GIVE_KERAS)
    for like in (folder / "single.json", tmp_path / "like.keras"):
        extract(folder / "multi_weights.h5", tmp_path / "out.h5", like=like, overwrite=True)
        assert differences(tmp_path / "out.h5", folder / "single_weights.h5") == []


def test_refuses_an_archive_that_is_no_keras_file(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("data.pkl", "")
    with pytest.raises(InputRefused, match=r"no \.keras file"):
        read_reference(tmp_path / "a.zip")


def test_refuses_a_broken_archive(tmp_path: Path) -> None:
    (tmp_path / "a.keras").write_bytes(b"PK\x03\x04" + bytes(100))
    with pytest.raises(InputRefused, match=r"no \.keras file"):
        read_reference(tmp_path / "a.keras")


def test_refuses_an_archive_whose_members_begin_before_the_file(tmp_path: Path) -> None:
    path = tmp_path / "a.keras"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("config.json", "{}")
    content = bytearray(path.read_bytes())
    content[-6:-2] = struct.pack("<L", struct.unpack_from("<L", content, len(content) - 6)[0] + 1)
    path.write_bytes(content)
    for read in (read_reference, remap.inspect):
        with pytest.raises(InputRefused, match="before the file"):
            read(path)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_json_is_known_behind_blank_lines_and_in_the_encodings_of_windows(
    case: Case, tmp_path: Path, encoding: str
) -> None:
    model = (case("keras-2.2.4", "conv_bn") / "single.json").read_text()
    path = tmp_path / "a.json"
    path.write_text(model)
    plain = read_reference(path)
    path.write_text("\n" * 100 + model, encoding=encoding)
    assert read_reference(path) == plain


def test_refuses_utf_16_that_ends_within_a_character(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_bytes("{}".encode("utf-16") + b"x")
    with pytest.raises(InputRefused, match="not UTF-16"):
        read_reference(tmp_path / "a.json")


def test_refuses_json_that_is_not_text(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_bytes(b'{"a": "\xff"}')
    with pytest.raises(InputRefused, match="not UTF-8"):
        read_reference(tmp_path / "a.json")


def test_refuses_json_larger_than_any_models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("remap.reference_file._LARGEST_JSON", 10)
    with zipfile.ZipFile(tmp_path / "a.keras", "w") as archive:
        archive.writestr("config.json", "[" * 100)
    with pytest.raises(InputRefused, match="larger than any"):
        read_reference(tmp_path / "a.keras")


def test_says_that_a_reference_model_is_missing(tmp_path: Path) -> None:
    for name, code in (
        ("none.json", "open({0!r}, 'w').write(model.to_json())"),
        ("none.h5", "model.save_weights({0!r})"),
        ("none.keras", "model.save({0!r})"),
    ):
        path = str(tmp_path / name)
        with pytest.raises(InputRefused, match="there is no such reference model") as caught:
            read_reference(path)
        assert caught.value.remedies == (Remedy(option="like", value=path, code=code.format(path)),)


@pytest.mark.parametrize("name", ["none", "none.yaml"])
def test_a_name_that_tells_no_format_is_not_proposed_for_json(tmp_path: Path, name: str) -> None:
    with pytest.raises(InputRefused, match="there is no such reference model") as caught:
        read_reference(tmp_path / name)
    code = "open('model.json', 'w').write(model.to_json())"
    assert caught.value.remedies == (Remedy(option="like", value="model.json", code=code),)


@pytest.mark.parametrize(
    "text",
    [
        "backend: tensorflow\nclass_name: Model\nconfig: {name: m}\n",
        "# a comment\n---\nclass_name: Sequential\n",
        "!!python/object/apply:collections.OrderedDict\n- []\n",
    ],
)
def test_says_how_to_make_json_of_yaml(tmp_path: Path, text: str) -> None:
    path = tmp_path / "model.yaml"
    path.write_text(text)
    with pytest.raises(InputRefused, match="the reference model is YAML") as caught:
        read_reference(path)
    assert "model_from_yaml" in caught.value.remedies[0].code


def test_a_reference_model_of_an_unknown_scheme_is_told_as_a_url() -> None:
    with pytest.raises(InputRefused, match=r"URLs of this kind are not supported: ftp://b/model\.json"):
        read_reference(Path("ftp://b/model.json"))


def test_refuses_a_reference_model_without_weights(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "like.h5", "w") as file:
        file.attrs["layer_names"] = np.array([b"input_1"])
        file.create_group("input_1").attrs["weight_names"] = np.array([])
    with pytest.raises(Undecided, match="holds no weights"):
        read_reference(tmp_path / "like.h5")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_named_pipe_is_refused_and_nobody_waits_for_its_writer(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(InputRefused, match="it is a pipe or a device"):
        read_reference(tmp_path / "pipe")


@pytest.mark.parametrize("method", [zipfile.ZIP_LZMA, zipfile.ZIP_BZIP2])
def test_an_archive_that_is_compressed_as_keras_never_does_is_refused_unread(
    tmp_path: Path, method: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    with zipfile.ZipFile(tmp_path / "a.keras", "w", method) as archive:
        archive.writestr("config.json", "{}")
    monkeypatch.setattr(zipfile.ZipFile, "open", lambda *_: pytest.fail("the member was opened"))
    with pytest.raises(InputRefused, match="another method than Keras uses"):
        read_reference(tmp_path / "a.keras")


def test_an_encrypted_member_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.keras", "w") as archive:
        archive.writestr("config.json", "{}")
    data = bytearray((tmp_path / "a.keras").read_bytes())
    data[data.index(b"PK\x01\x02") + 8] |= 1
    (tmp_path / "a.keras").write_bytes(data)
    with pytest.raises(InputRefused, match="encrypted"):
        read_reference(tmp_path / "a.keras")


def test_a_member_that_says_it_is_large_is_not_unpacked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with zipfile.ZipFile(tmp_path / "a.keras", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("config.json", bytes(65 << 20))
    monkeypatch.setattr(zipfile.ZipFile, "open", lambda *_: pytest.fail("the member was opened"))
    with pytest.raises(InputRefused, match="larger than any"):
        read_reference(tmp_path / "a.keras")


def test_a_member_that_is_larger_than_it_says_is_not_unpacked_further(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.keras", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("config.json", b" " * (65 << 20))
    data = bytearray((tmp_path / "a.keras").read_bytes())
    entry = data.index(b"PK\x01\x02")
    data[entry + 24 : entry + 28] = (100).to_bytes(4, "little")
    (tmp_path / "a.keras").write_bytes(data)
    tracemalloc.start()
    with pytest.raises(InputRefused, match=r"no \.keras file|no JSON|not JSON"):
        read_reference(tmp_path / "a.keras")
    assert tracemalloc.get_traced_memory()[1] < 4 << 20
    tracemalloc.stop()


def test_a_fault_of_the_disk_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with zipfile.ZipFile(tmp_path / "a.keras", "w") as archive:
        archive.writestr("config.json", "{}")

    class Broken(io.FileIO):
        def readinto(self, _: Any, /) -> int:
            raise OSError(5, "Input/output error")

    monkeypatch.setattr("remap.hdf5.source.io", SimpleNamespace(FileIO=Broken))
    with pytest.raises(InputRefused, match="cannot read the file: Input/output error"):
        read_reference(tmp_path / "a.keras")


@pytest.mark.parametrize("count", [10, 1000])
def test_a_table_of_contents_without_end_is_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    monkeypatch.setattr("remap.hdf5.archive_reader._LARGEST_TABLE", 30_000)
    with zipfile.ZipFile(tmp_path / "a.keras", "w") as archive:
        for number in range(count):
            archive.writestr(str(number), b"")
    with pytest.raises(InputRefused, match="no item named" if count == 10 else "table of contents is larger"):
        read_reference(tmp_path / "a.keras")
