"""Tell what a file is that is not a Keras HDF5 checkpoint, and escape text from files for the terminal."""

from __future__ import annotations

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
    (b"CDF\x01", "it is a netCDF classic file, not HDF5"),
    (b"CDF\x02", "it is a netCDF classic file, not HDF5"),
    (b"\x93NUMPY", "it is a NumPy array (.npy), not a Keras checkpoint"),
    (b"\x0e\x03\x13\x01", "it is an HDF4 file, which is another format than HDF5"),
    (b"%PDF", "it is a PDF document"),
)


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
    if head[:1] == b"\x80" and head[1:2] in b"\x02\x03\x04\x05" and size > 2:
        return "it is a Python pickle (PyTorch's older files are such too), not HDF5; it was not opened"
    if name.endswith((".index", ".meta")) or ".ckpt" in Path(name).name or ".data-0" in Path(name).name:
        return "it is part of a TensorFlow checkpoint, not HDF5: load it in TensorFlow and save it as .h5"
    if SIGNATURE in head or not head.strip(b"\0"):
        return _displaced(head)
    return _text(head) or "it does not begin as an HDF5 file does"


def _directory(path: Path) -> str:
    if (path / "saved_model.pb").exists() or (path / "keras_metadata.pb").exists():
        return "it is a TensorFlow SavedModel directory: load it in TensorFlow and save it as .h5"
    if (path / "checkpoint").exists():
        return "it is a directory with a TensorFlow checkpoint: load it in TensorFlow and save it as .h5"
    return "it is a directory: give the path of an .h5 file"


def _archive(head: bytes) -> str:
    if b"metadata.json" in head or b"config.json" in head or b"model.weights.h5" in head:
        return (
            "it is a .keras archive of Keras 3, which never held a multi-GPU model: load it in Keras itself"
        )
    if b"data.pkl" in head or b"archive/" in head:
        return "it is a PyTorch file (a zip archive), not HDF5"
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
    try:
        head[:256].decode("ascii")
    except UnicodeDecodeError:
        return None
    return "it is a text file"
