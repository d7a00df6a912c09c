"""The two files of Keras 3: `.weights.h5`, and `.keras`, a zip archive with such a file in it.

As for the old format, libhdf5 draws the file in memory with room for the tensors, and plain system calls write it: the
tensors that stay as they are go from file to file inside the kernel.
"""

from __future__ import annotations

import io
import json
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np
from h5py import h5a, h5d, h5f, h5fd, h5g, h5p, h5s, h5t

from remap.archive import Archive
from remap.errors import OutputRefused
from remap.hdf5.layout import Canvas, Layout, Place
from remap.hdf5.publish import publication
from remap.hdf5.reader import read_tensor
from remap.hdf5.source import CHUNK
from remap.hdf5.tensors import native_type
from remap.hdf5.writer import write, write_at

if TYPE_CHECKING:
    import os

    from remap.hdf5.reader import OpenedCheckpoint
    from remap.keras3.recipe import Group, Recipe
    from remap.keras3.translation import Translation

__all__ = ["write_keras", "write_weights"]

_WEIGHTS = "model.weights.h5"
# Keras reads neither; the oldest release whose form this is, and the zip format's first day.
_METADATA = {"keras_version": "3.5.0", "date_saved": "1980-01-01@00:00:00"}
_LOST = "nothing was published: this disk loses data, or h5remap has a bug, which please report"

Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class _Variable:
    """A variable of the file: how it is made, its path, and the byte at which it begins (None: it has none)."""

    recipe: Recipe
    path: str
    offset: int | None


def write_weights(
    translation: Translation,
    opened: OpenedCheckpoint,
    target: str | os.PathLike[str],
    *,
    overwrite: bool,
    progress: Progress | None = None,
) -> int:
    """Write a translation's variables as a `.weights.h5` file and return its size in bytes.

    Appears whole and verified or not at all, like every output; raises what `publish` raises.
    """
    size, pieces, variables = _draw(translation.groups)
    with publication(target, opened, overwrite=overwrite) as output:
        _fill(output, opened, variables, Layout(size, pieces, ()), 0, progress)
    return size


def write_keras(
    translation: Translation,
    opened: OpenedCheckpoint,
    target: str | os.PathLike[str],
    *,
    overwrite: bool,
    progress: Progress | None = None,
) -> int:
    """Write a translation as a `.keras` archive and return its size in bytes.

    Raises the first of the translation's problems, and what `publish` raises.
    """
    for problem in translation.problems:
        raise problem
    size, pieces, variables = _draw(translation.groups)
    members = (("metadata.json", _json(_METADATA)), ("config.json", _json(translation.config)))
    archive = Archive(members=members, name=_WEIGHTS, size=size)
    start, whole = archive.start, archive.start + size + len(archive.tail(0))
    shifted = tuple((start + offset, piece) for offset, piece in pieces)
    with publication(target, opened, overwrite=overwrite) as output:
        _fill(output, opened, variables, Layout(whole, shifted, ()), start, progress)
        checksum = 0
        for piece in _stored(output, start, size):
            checksum = zlib.crc32(piece, checksum)
        for offset, part in ((0, archive.head(checksum)), (start + size, archive.tail(checksum))):
            write_at(output, offset, memoryview(part))
            _compare(_stored(output, offset, len(part)), part, "the archive's table")
    return whole


def _json(value: Any) -> bytes:
    return json.dumps(value).encode()


def _fill(
    output: io.FileIO,
    opened: OpenedCheckpoint,
    variables: Sequence[_Variable],
    layout: Layout,
    start: int,
    progress: Progress | None,
) -> None:
    """Write a file that begins at byte `start` of the output, and compare all of it with what it should be."""
    kept = [
        (one.recipe.source, one.offset)
        for one in variables
        if one.recipe.transform is None and one.recipe.source is not None and one.offset is not None
    ]
    places = tuple(Place(source, start + offset) for source, offset in kept)
    total = sum(opened.extent(place.source).size for place in places)
    report = _progress(progress, 2 * total)
    write(Layout(layout.size, layout.pieces, places), opened, output, report)
    made = [one for one in variables if one.recipe.transform is not None and one.offset is not None]
    for one in made:
        write_at(output, start + (one.offset or 0), memoryview(_make(one.recipe, opened)))
    output.flush()
    holes = {start + (one.offset or 0) for one in variables}
    for offset, piece in layout.pieces:
        if offset not in holes:
            _compare(_stored(output, offset, len(piece)), piece, "the file's structure")
    for place in places:
        extent = opened.extent(place.source)
        theirs = opened.source.chunks(extent.offset, extent.size)
        for ours, given in zip(_stored(output, place.offset, extent.size), theirs, strict=True):
            _compare(iter([ours]), bytes(given), place.source.path)
            report(len(ours))
    for one in made:
        data = _make(one.recipe, opened)
        _compare(_stored(output, start + (one.offset or 0), len(data)), data, one.path)
