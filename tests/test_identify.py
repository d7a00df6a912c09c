"""A file that is no HDF5 is called by its name."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import pickle
import tarfile
import zipfile
from typing import TYPE_CHECKING

import numpy as np
import pytest

from remap.errors import InputRefused
from remap.hdf5.identify import SIGNATURE, show
from remap.hdf5.reader import open_checkpoint

if TYPE_CHECKING:
    from pathlib import Path


def _zip(*members: str) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for member in members:
            archive.writestr(member, b"x" * 100)
    return buffer.getvalue()


def _tar() -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("model.h5"))
    return buffer.getvalue()


def _npy() -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, np.arange(3))
    return buffer.getvalue()


LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a2146\nsize 12345\n"
SAFETENSORS = (16).to_bytes(8, "little") + b'{"__metadata__":' + bytes(8)
FILES = {
    "empty": (b"", "the file is empty"),
    "lfs": (LFS, "Git LFS pointer"),
    "gzip": (gzip.compress(SIGNATURE), "compressed by gzip"),
    "bzip2": (bz2.compress(SIGNATURE), "compressed by bzip2"),
    "xz": (lzma.compress(SIGNATURE), "compressed by xz"),
    "zstd": (b"\x28\xb5\x2f\xfd\x00", "compressed by zstd"),
    "7z": (b"7z\xbc\xaf\x27\x1c\0\0", "7-Zip"),
    "rar": (b"Rar!\x1a\x07", "RAR archive"),
    "zip": (_zip("model.h5"), "it is a zip archive"),
    "keras": (_zip("metadata.json", "config.json", "model.weights.h5"), "a .keras archive of Keras 3"),
    "torch-zip": (_zip("archive/data.pkl", "archive/data/0"), "a PyTorch file"),
    "npz": (_zip("arr_0.npy"), "a NumPy archive"),
    "npy": (_npy(), "a NumPy array"),
    "tar": (_tar(), "a tar archive"),
    "pickle": (pickle.dumps({"weights": [1, 2, 3]}, protocol=4), "a Python pickle"),
    "html": (b"\n <!DOCTYPE html><html><body>Sign in</body></html>", "an HTML page"),
    "xml": (b"<?xml version='1.0'?><Error><Code>AccessDenied</Code></Error>", "an XML document"),
    "json": (json.dumps({"class_name": "Model"}).encode(), "JSON text, which holds an architecture"),
    "text": (b"epoch,loss\n0,1.5\n", "a text file"),
    "netcdf": (b"CDF\x01" + bytes(100), "netCDF classic"),
    "hdf4": (b"\x0e\x03\x13\x01" + bytes(100), "HDF4"),
    "pdf": (b"%PDF-1.4", "a PDF document"),
    "zeros": (bytes(10_000), "begins with zeros"),
    "prefixed": (b"MATLAB" + bytes(506) + SIGNATURE, "HDF5 with other data before it"),
    "tflite": (b"\x1c\0\0\0TFL3\x14\0", "a TensorFlow Lite model"),
    "safetensors": (SAFETENSORS, "a safetensors file"),
    "onnx": (b"\x08\x07\x12\x07pytorch\x1a\x031.7", "an ONNX model"),
    "onnx without a producer": (b"\x08\x08\x3a\x10\x0a" + bytes(20), "an ONNX model"),
    "saved_model": (b"\x08\x01\x12\xe4Q\x0a\xb9\x0c\x12\x89", "part of a TensorFlow SavedModel"),
    "gguf": (b"GGUF\x03\0\0\0", "a GGUF model"),
    "control characters": (b"abc\x01\x02", "does not begin as an HDF5 file does"),
    "noise": (bytes(range(128, 256)), "does not begin as an HDF5 file does"),
}


@pytest.mark.parametrize(("content", "words"), FILES.values(), ids=FILES)
def test_says_what_a_file_is(tmp_path: Path, content: bytes, words: str) -> None:
    path = tmp_path / "model.h5"
    path.write_bytes(content)
    with pytest.raises(InputRefused, match=words) as caught:
        open_checkpoint(path)
    assert caught.value.where == str(path)


@pytest.mark.parametrize(
    "name", ["model.ckpt.index", "model.ckpt-1000.data-00000-of-00001", "model.ckpt.meta"]
)
def test_says_that_a_file_is_part_of_a_tensorflow_checkpoint(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(bytes(range(128, 256)))
    with pytest.raises(InputRefused, match="part of a TensorFlow checkpoint"):
        open_checkpoint(tmp_path / name)


@pytest.mark.parametrize(
    ("member", "words"),
    [
        ("saved_model.pb", "SavedModel directory"),
        ("checkpoint", "directory with a TensorFlow checkpoint"),
        ("model.h5", "it is a directory"),
    ],
)
def test_says_what_a_directory_is(tmp_path: Path, member: str, words: str) -> None:
    (tmp_path / member).touch()
    with pytest.raises(InputRefused, match=words):
        open_checkpoint(tmp_path)


def test_never_opens_a_pickle(tmp_path: Path) -> None:
    class Bomb:
        def __reduce__(self) -> tuple[object, ...]:
            return pytest.fail, ("a pickle was opened",)

    (tmp_path / "model.h5").write_bytes(pickle.dumps(Bomb(), protocol=2))
    with pytest.raises(InputRefused, match="it was not opened"):
        open_checkpoint(tmp_path / "model.h5")


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ("dense_1/kernel:0", "dense_1/kernel:0"),
        ("größe", "größe"),
        ("a\x1b[2Jb\n", "a\\x1b[2Jb\\n"),
        ("a\u202eb", "a\\u202eb"),
        ("a\udcffb", "a\\udcffb"),
    ],
)
def test_shows_nothing_that_a_terminal_obeys(given: str, shown: str) -> None:
    assert show(given) == shown
