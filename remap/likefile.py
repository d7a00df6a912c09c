"""A like-file on the disk: JSON, a Keras .h5 or a .keras archive, told apart by content."""

from __future__ import annotations

import os
from pathlib import Path

from remap.errors import InputRefused
from remap.keras.like import Like, like_of_checkpoint, like_of_json

__all__ = ["read_like"]

# The largest architecture known (NASNetLarge) takes 0.4 MB of JSON.
_LARGEST_JSON = 64 * 1024 * 1024


def read_like(path: str | os.PathLike[str]) -> Like:
    """Read what a like-file says of the single model.

    Raises InputRefused for a file that is neither JSON of a model, nor a Keras .h5, nor a .keras archive,
    and what `like_of_json` and `like_of_checkpoint` raise.
    """
    name = os.fspath(path)
    try:
        with Path(name).open("rb") as file:
            head = file.read(8)
            if head.startswith(b"PK"):
                return like_of_json(_archived(name), where=f"{name}, config.json")
            if head.lstrip()[:1] in (b"{", b"["):
                return like_of_json(_decoded(head + file.read(_LARGEST_JSON), name), where=name)
    except OSError as error:
        raise InputRefused(f"cannot read the like-file: {error.strerror or error}", where=name) from None
    from remap.hdf5.reader import open_checkpoint

    with open_checkpoint(path) as opened:
        return like_of_checkpoint(opened.checkpoint, where=name)


def _archived(name: str) -> str:
    """Read the `config.json` of a .keras archive and nothing else of it."""
    # Loading these takes longer than most like-files do.
    import lzma
    import struct
    import zipfile
    import zlib

    # What damaged archives make the standard library raise, beside the usual.
    broken = (zipfile.BadZipFile, zlib.error, lzma.LZMAError, struct.error)
    try:
        with zipfile.ZipFile(name) as archive, archive.open("config.json") as member:
            return _decoded(member.read(_LARGEST_JSON + 1), f"{name}, config.json")
    except (KeyError, RuntimeError, ValueError, EOFError, *broken) as error:
        raise InputRefused(
            f"a zip archive, but no .keras file: {error}",
            where=name,
            hint="give model.to_json(), a Keras .h5 or a .keras file of the single model",
        ) from None


def _decoded(data: bytes, where: str) -> str:
    if len(data) > _LARGEST_JSON:
        raise InputRefused("the JSON is larger than any model's", where=where)
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise InputRefused("the JSON is not UTF-8 text", where=where) from None
