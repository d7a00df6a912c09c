"""Tell what a file is that is not a Keras HDF5 checkpoint, and escape text from files for the terminal."""

from __future__ import annotations

import re
import stat
from pathlib import Path

__all__ = ["SIGNATURE", "identify", "show"]

SIGNATURE = b"\x89HDF\r\n\x1a\n"

_STARTS = (
    (b"version https://git-lfs", "it is a Git LFS pointer, not the file it stands for: run `git lfs pull`"),
    (b"\x1f\x8b", "it is compressed by gzip: unpack it first (`gunzip`)"),
    (b"BZh", "it is compressed by bzip2: unpack it first (`bunzip2`)"),
    (b"\xfd7zXZ\x00", "it is compressed by xz: unpack it first (`unxz`)"),
    (b"\x28\xb5\x2f\xfd", "it is compressed by zstd: unpack it first (`unzstd`)"),
    (b"7z\xbc\xaf\x27\x1c", "it is a 7-Zip archive: unpack it first"),
    (b"Rar!", "it is a RAR archive: unpack it first"),
    (b"CDF\x01", "it is a netCDF classic file"),
    (b"CDF\x02", "it is a netCDF classic file"),
    (b"\x93NUMPY", "it is a NumPy array (.npy), not a Keras checkpoint"),
    (b"\x0e\x03\x13\x01", "it is an HDF4 file, which is another format than HDF5"),
    (b"%PDF", "it is a PDF document"),
    (b"GGUF", "it is a GGUF model of llama.cpp, not a Keras checkpoint"),
)
_SAVED_MODEL_FILES = ("saved_model.pb", "keras_metadata.pb", "fingerprint.pb")
_LOAD_AND_SAVE = "load it in TensorFlow and save it as .h5"
# How the Protocol Buffers messages begin that these formats are: the field with a version, then the next one.
# SavedModel in tensorflow/core/protobuf/saved_model.proto: version 1, then meta_graphs.
_SAVED_MODEL = re.compile(rb"\x08\x01\x12")
# ModelProto in onnx/onnx.proto: ir_version (1 is of 2017), then the producer, the domain, the graph or the opset.
_ONNX = re.compile(rb"\x08[\x02-\x20][\x12\x1a\x22\x3a\x42]")


def show(text: str) -> str:
    """Escape what cannot be printed in text from a file or a command line: a terminal could take it for a command."""
    if text.isprintable():
        return text
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape", "surrogatepass").decode()
        for char in text
    )


def identify(name: str, *, head: bytes = b"", size: int = 0, kind: int = stat.S_IFREG) -> str:
    """Tell in one sentence what a file is that does not begin with the signature of HDF5.

    `head` is its first bytes (512 are enough), `kind` the mode that the system gives.
    """
    if stat.S_ISDIR(kind):
        return _directory(Path(name))
    if not stat.S_ISREG(kind):
        return "it is a pipe or a device: give the path of a file on disk"
    if size == 0:
        return "the file is empty"
    for start, sentence in _STARTS:
        if head.startswith(start):
            return sentence
    if head.startswith(b"PK"):
        return _archive(head)
    if head[257:262] == b"ustar":
        return "it is a tar archive: unpack it first (`tar -xf`)"
    if head[4:8] == b"TFL3":
        return "it is a TensorFlow Lite model, which holds no Keras weights: use the .h5 file that it was made from"
    if head[6:9] == b"\0\0{" and 8 < int.from_bytes(head[:8], "little") + 8 <= size:
        return "it is a safetensors file: load it in the library that saved it"
    if Path(name).name in _SAVED_MODEL_FILES or _SAVED_MODEL.match(head):
        return f"it is part of a TensorFlow SavedModel: {_LOAD_AND_SAVE}"
    if _ONNX.match(head):
        return "it is an ONNX model, which holds no Keras weights: use the .h5 file that it was made from"
    if head[:1] == b"\x80" and head[1:2] in b"\x02\x03\x04\x05" and size > 2:
        return "it is a Python pickle (PyTorch's older files are such too); it was not opened"
    if name.endswith((".index", ".meta")) or ".ckpt" in Path(name).name or ".data-0" in Path(name).name:
        return f"it is part of a TensorFlow checkpoint: {_LOAD_AND_SAVE}"
    if SIGNATURE in head or not head.strip(b"\0"):
        return _displaced(head)
    return _text(head) or "it does not begin as an HDF5 file does"


def _directory(path: Path) -> str:
    if (path / "saved_model.pb").exists() or (path / "keras_metadata.pb").exists():
        return f"it is a TensorFlow SavedModel directory: {_LOAD_AND_SAVE}"
    if (path / "checkpoint").exists():
        return f"it is a directory with a TensorFlow checkpoint: {_LOAD_AND_SAVE}"
    return "it is a directory: give the path of an .h5 file"


def _archive(head: bytes) -> str:
    if b"metadata.json" in head or b"config.json" in head or b"model.weights.h5" in head:
        return (
            "it is a .keras archive of Keras 3, which holds a single model already: `h5remap inspect` shows it, "
            "`h5remap compare` compares it with another file"
        )
    if b"data.pkl" in head or b"archive/" in head:
        return "it is a PyTorch file (a zip archive)"
    if b".npy" in head:
        return "it is a NumPy archive (.npz), not a Keras checkpoint"
    return "it is a zip archive: unpack it first (`unzip`)"


def _displaced(head: bytes) -> str:
    if not head.strip(b"\0"):
        return "it begins with zeros: a copy or download that did not finish"
    return "it is HDF5 with other data before it, which Keras never writes"


def _text(head: bytes) -> str | None:
    start = head.lstrip(b"\xef\xbb\xbf \t\r\n")[:64].lower()
    if start.startswith((b"<!doctype html", b"<html", b"<head")):
        return "it is an HTML page, probably a login or error page downloaded in its place: download it again"
    if start.startswith((b"<?xml", b"<error")):
        return "it is an XML document, probably an error downloaded in its place: download it again"
    if start.startswith((b"{", b"[")):
        return "it is JSON text, which holds an architecture but no weights"
    return "it is a text file" if _is_text(head[:256]) else None


def _is_text(data: bytes) -> bool:
    """Tell whether bytes are ASCII text: no control characters but white space."""
    return all(byte in b"\t\n\f\r" or 0x20 <= byte < 0x7F for byte in data)
