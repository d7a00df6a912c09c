"""The two files of Keras 3: `.weights.h5`, and `.keras`, a zip archive with such a file in it.

As for the old format, libhdf5 draws the file in memory with room for the tensors, and plain system calls
write it; tensors that stay as they are go from file to file inside the kernel. What was drawn is read back
in memory, and then every byte on the disk is compared.
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

from remap.errors import OutputRefused
from remap.formats.archive import Archive
from remap.hdf5.checked_file import path_parts
from remap.hdf5.copying import require_stored, require_structure, stored, write, write_at
from remap.hdf5.file_image import FileImage, Layout, Place
from remap.hdf5.identify import show
from remap.hdf5.output import Meter, publication
from remap.hdf5.reader import read_tensor
from remap.hdf5.source import Refused
from remap.hdf5.tensors import native_type

if TYPE_CHECKING:
    import os

    from remap.checkpoint import Weight
    from remap.hdf5.reader import OpenedCheckpoint
    from remap.keras3.tensors import Group, OutputTensor, Translation

__all__ = ["write_keras", "write_weights"]

_WEIGHTS = "model.weights.h5"
_RENAME = "give the layers of the model other names, or write a .h5"
# Keras reads neither: the oldest release whose form this is, and the first day of the zip format.
_METADATA = {"keras_version": "3.5.0", "date_saved": "1980-01-01@00:00:00"}


@dataclass(frozen=True, slots=True)
class _Variable:
    """A variable of the file: how it is made, its path, and the bytes of the file that are its own."""

    recipe: OutputTensor
    path: str
    offset: int
    size: int


@dataclass(frozen=True, slots=True)
class _Drawn:
    """A file of `size` bytes: pieces of it by offset, and its variables that have any bytes."""

    size: int
    pieces: tuple[tuple[int, bytes], ...]
    variables: tuple[_Variable, ...]

    def moved(self, start: int) -> _Drawn:
        """Give the same file as part of another, from byte `start` of that on."""
        return _Drawn(
            start + self.size,
            tuple((start + offset, piece) for offset, piece in self.pieces),
            tuple(_Variable(one.recipe, one.path, start + one.offset, one.size) for one in self.variables),
        )


def write_weights(
    translation: Translation,
    opened: OpenedCheckpoint,
    target: str | os.PathLike[str],
    *,
    overwrite: bool,
    progress: Callable[[int, int], None] | None = None,
) -> int:
    """Write a translation's variables as a `.weights.h5` file and return its size in bytes.

    It appears whole and verified, or not at all; raises what `publish` raises.
    """
    drawn = _draw(translation.groups)
    with publication(target, opened, overwrite=overwrite) as output:
        _fill(output, opened, drawn, drawn.size, progress)
    return drawn.size


def write_keras(
    translation: Translation,
    opened: OpenedCheckpoint,
    target: str | os.PathLike[str],
    *,
    overwrite: bool,
    progress: Callable[[int, int], None] | None = None,
) -> int:
    """Write a translation as a `.keras` archive and return its size in bytes.

    Raises the first of the translation's problems, and what `publish` raises.
    """
    for problem in translation.problems:
        raise problem
    inner = _draw(translation.groups)
    members = (("metadata.json", _json(_METADATA)), ("config.json", _json(translation.config)))
    archive = Archive(members=members, name=_WEIGHTS, size=inner.size)
    drawn = inner.moved(archive.start)
    size = drawn.size + len(archive.tail(0))
    with publication(target, opened, overwrite=overwrite) as output:
        _fill(output, opened, drawn, size, progress)
        checksum = 0
        for piece in stored(output, archive.start, inner.size):
            checksum = zlib.crc32(piece, checksum)
        for offset, part in ((0, archive.head(checksum)), (drawn.size, archive.tail(checksum))):
            write_at(output, offset, memoryview(part))
            require_stored(output, offset, memoryview(part), "the archive's table of contents")
    return size


def _json(value: Any) -> bytes:
    return json.dumps(value).encode()


def _fill(
    output: io.FileIO,
    opened: OpenedCheckpoint,
    drawn: _Drawn,
    size: int,
    progress: Callable[[int, int], None] | None,
) -> None:
    """Write what was drawn with its tensors, and compare all of it with what it should be."""
    kept = [one for one in drawn.variables if one.recipe.transform is None]
    made = [one for one in drawn.variables if one.recipe.transform is not None]
    places = tuple(Place(_source(one.recipe), one.path, one.offset) for one in kept)
    report = Meter(progress, sum(one.size for one in drawn.variables))
    write(Layout(size, drawn.pieces, places), opened, output, report)
    for one in made:
        data = _bytes(one.recipe, opened)
        write_at(output, one.offset, data)
        require_stored(output, one.offset, data, one.path)
        report(one.size)
    taken = ((one.offset, one.offset + one.size) for one in drawn.variables)
    require_structure(output, drawn.pieces, taken)


def _source(recipe: OutputTensor) -> Weight:
    if recipe.source is None:
        raise ValueError("a tensor that is neither taken nor made")
    return recipe.source


def _bytes(recipe: OutputTensor, opened: OpenedCheckpoint) -> memoryview:
    """Make a tensor and give its bytes as they stand in the file."""
    tensors = [] if recipe.source is None else [read_tensor(opened, recipe.source)]
    return memoryview(recipe.make(*tensors).tobytes())


def _draw(groups: Sequence[Group]) -> _Drawn:
    """Draw the file as `H5IOStore` in keras/src/saving/saving_lib.py does: `<path>/vars/0`, `1`, ... and a name.

    Raises OutputRefused for names that cannot stand in one file.
    """
    canvas = FileImage()
    access = h5p.create(h5p.FILE_ACCESS)
    access.set_fclose_degree(h5f.CLOSE_STRONG)
    access.set_libver_bounds(h5f.LIBVER_V18, h5f.LIBVER_V18)
    access.set_fileobj_driver(h5fd.fileobj_driver, canvas)
    creation = h5p.create(h5p.FILE_CREATE)
    creation.set_obj_track_times(False)
    file = h5f.create(b"h5remap", h5f.ACC_TRUNC, creation, access)
    try:
        _Pen(file).draw(groups)
    finally:
        file.close()
    pieces = tuple(canvas.pieces())
    file = h5f.open(b"h5remap", h5f.ACC_RDONLY, access)
    try:
        variables = tuple(_read_back(file, groups))
    finally:
        file.close()
    return _Drawn(canvas.size, pieces, variables)


class _Pen:
    """A file being drawn."""

    def __init__(self, file: Any) -> None:
        self._groups: dict[tuple[bytes, ...], Any] = {(): h5g.open(file, b"/")}
        self._group_options = h5p.create(h5p.GROUP_CREATE)
        self._group_options.set_obj_track_times(False)
        self._options = h5p.create(h5p.DATASET_CREATE)
        self._options.set_obj_track_times(False)
        self._options.set_layout(h5d.CONTIGUOUS)
        # Room in the file at once, and nothing written to it.
        self._options.set_alloc_time(h5d.ALLOC_TIME_EARLY)
        self._options.set_fill_time(h5d.FILL_TIME_NEVER)

    def draw(self, groups: Sequence[Group]) -> None:
        for group in groups:
            place = self._group(_variables_of(group))
            if h5a.exists(place, b"name"):
                raise _ambiguous(group)
            if "\0" in group.name:
                raise OutputRefused("a name cannot be stored", where=show(group.name), hint=_RENAME)
            text = h5py.string_dtype()
            kind = h5t.py_create(text, logical=True)
            attribute = h5a.create(place, b"name", kind, h5s.create(h5s.SCALAR))
            attribute.write(np.array(group.name, dtype=text))
            for index, recipe in enumerate(group.variables):
                kind = native_type(recipe.dtype)
                number = str(index).encode()
                if place.links.exists(number):
                    raise _ambiguous(group)
                h5d.create(place, number, kind, _space(recipe.shape), self._options)

    def _group(self, path: tuple[bytes, ...]) -> Any:
        known = self._groups.get(path)
        if known is None:
            above = self._group(path[:-1])
            if above.links.exists(path[-1]):
                raise OutputRefused(
                    "two things in the output would have one name",
                    where=show("/" + b"/".join(path).decode()),
                    hint=_RENAME,
                )
            known = h5g.create(above, path[-1], gcpl=self._group_options)
            self._groups[path] = known
        return known


def _variables_of(group: Group) -> tuple[bytes, ...]:
    try:
        return path_parts(f"{group.path}/vars".lstrip("/"))
    except Refused as error:
        raise OutputRefused(str(error), hint=_RENAME) from error


def _ambiguous(group: Group) -> OutputRefused:
    return OutputRefused("two things in the output would have one name", where=show(group.path), hint=_RENAME)


def _read_back(file: Any, groups: Sequence[Group]) -> Iterator[_Variable]:
    """Find every variable in what was drawn, as Keras will, and where its bytes go."""
    for group in groups:
        place = h5g.open(file, b"/".join(_variables_of(group)))
        if place.get_num_objs() != len(group.variables):
            raise _ambiguous(group)
        for index, recipe in enumerate(group.variables):
            dataset = h5d.open(place, str(index).encode())
            if dataset.shape != recipe.shape or not dataset.get_type().equal(native_type(recipe.dtype)):
                raise ValueError(f"{group.path!r} was drawn differently")
            offset = dataset.get_offset()
            if offset is not None:
                yield _Variable(recipe, group.path, offset, dataset.get_storage_size())


def _space(shape: tuple[int, ...]) -> Any:
    return h5s.create_simple(shape) if shape else h5s.create(h5s.SCALAR)
