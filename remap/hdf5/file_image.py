"""The output laid out in memory: every byte of it but the tensors', and where the tensors go.

libhdf5 loses write errors and crashes on a full disk, so it is never given one: it builds the file on a
canvas in memory, with room for tensors that is announced and never filled, and what it drew is then written
by plain system calls that can fail properly.
"""

from __future__ import annotations

import functools
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from h5py import h5a, h5d, h5f, h5fd, h5g, h5p, h5s, h5t

from remap.errors import OutputRefused
from remap.hdf5.checked_file import GroupCache, path_parts
from remap.hdf5.source import Refused
from remap.hdf5.tensors import native_type

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from remap.checkpoint import Weight
    from remap.conversion_plan import Plan, PlannedWeight

__all__ = ["FileImage", "Layout", "Place", "lay_out"]

_PAGE = 4096
_RUN = 256
_LIST = 64512
"""Bytes of names in one attribute: HDF5_OBJECT_HEADER_LIMIT of Keras's saving code."""


@dataclass(frozen=True, slots=True)
class Place:
    """A tensor of the input, its path in the output, and the byte of the output at which it begins."""

    source: Weight
    path: str
    offset: int


@dataclass(frozen=True, slots=True)
class Layout:
    """An output of `size` bytes: pieces of it by offset, and the places of its tensors; all else is zeros."""

    size: int
    pieces: tuple[tuple[int, bytes], ...]
    places: tuple[Place, ...]


def lay_out(plan: Plan) -> Layout:
    """Lay a plan out as HDF5, with nothing in it that changes from run to run.

    The file format is that of HDF5 1.8, whatever today's default is: libraries of 2017 read it, and
    attributes may exceed 64 KiB, as `model_config` of large models does. Raises
    OutputRefused when the plan's names cannot stand in one file: a name that is no path, a tensor where a
    group must be; ValueError when the plan is none: an optimizer's list that would have to be split (which
    Keras 2.2.3 to 2.3.1 write and cannot read), or state of training in a weights file.
    """
    canvas = FileImage()
    file = _create(canvas)
    try:
        drawing = _Drawing(file)
        drawing.draw(plan)
    finally:
        file.close()
    return Layout(canvas.size, tuple(canvas.pieces()), tuple(drawing.places))


def _create(canvas: FileImage) -> Any:
    creation = h5p.create(h5p.FILE_CREATE)
    creation.set_obj_track_times(False)
    access = h5p.create(h5p.FILE_ACCESS)
    try:
        access.set_fclose_degree(h5f.CLOSE_STRONG)
        access.set_libver_bounds(h5f.LIBVER_V18, h5f.LIBVER_V18)
        access.set_fileobj_driver(h5fd.fileobj_driver, canvas)
        return h5f.create(b"h5remap", h5f.ACC_TRUNC, creation, access)
    finally:
        access.close()  # it holds the canvas, and libhdf5 must not let go of that after the interpreter's end


class _Drawing:
    """One file being laid out."""

    def __init__(self, file: Any) -> None:
        self.places: list[Place] = []
        self._way = GroupCache(h5g.open(file, b"/"), self._descend)
        self._kinds: dict[tuple[bytes, ...], str] = {}
        self._group_options = h5p.create(h5p.GROUP_CREATE)
        self._group_options.set_obj_track_times(False)
        self._options = h5p.create(h5p.DATASET_CREATE)
        self._options.set_obj_track_times(False)
        self._options.set_layout(h5d.CONTIGUOUS)
        # Room in the file at once, and nothing written to it.
        self._options.set_alloc_time(h5d.ALLOC_TIME_EARLY)
        self._options.set_fill_time(h5d.FILL_TIME_NEVER)

    def draw(self, plan: Plan) -> None:
        if plan.model_config is None:
            if plan.optimizer is not None or plan.training_config is not None:
                raise ValueError("a weights file holds no state of training")
            self._layers(plan, ())
            return
        self._text((), "backend", plan.file_backend)
        self._text((), "keras_version", plan.file_keras_version)
        self._text((), "model_config", plan.model_config)
        self._text((), "training_config", plan.training_config)
        self._layers(plan, (b"model_weights",))
        if plan.optimizer is not None:
            group = (b"optimizer_weights",)
            names = [weight.name for weight in plan.optimizer]
            if len(_split(names)) > 1:
                raise ValueError("the names of the optimizer's tensors need more room than one attribute has")
            self._names(group, "weight_names", names)
            self._weights(group, plan.optimizer)

    def _layers(self, plan: Plan, root: tuple[bytes, ...]) -> None:
        self._text(root, "backend", plan.backend)
        self._text(root, "keras_version", plan.keras_version)
        self._names(root, "layer_names", [layer.name for layer in plan.layers])
        # Sorted, a group is always there before what lies inside it, whoever else has a name in its path.
        for layer in sorted(plan.layers, key=lambda layer: layer.name):
            group = root + _parts(layer.name)
            self._names(group, "weight_names", [weight.name for weight in layer.weights])
            self._weights(group, layer.weights)

    def _weights(self, group: tuple[bytes, ...], weights: Sequence[PlannedWeight]) -> None:
        for weight in weights:
            path = group + _parts(weight.name)
            parent = self._way.to(path[:-1])
            if path in self._kinds:
                raise OutputRefused("two things in the output would have one name", where=_shown(path))
            self._kinds[path] = "tensor"
            kind, space = native_type(weight.source.dtype), _space(weight.source.shape)
            offset = h5d.create(parent, path[-1], kind, space, self._options).get_offset()
            if offset is not None:
                self.places.append(Place(weight.source, _shown(path), offset))

    def _descend(self, parent: Any, path: tuple[bytes, ...]) -> Any:
        """Open a group, making it if it is not there yet."""
        kind = self._kinds.setdefault(path, "new")
        if kind == "tensor":
            raise OutputRefused("a layer and a tensor in the output would have one name", where=_shown(path))
        if kind == "group":
            return h5g.open(parent, path[-1])
        self._kinds[path] = "group"
        return h5g.create(parent, path[-1], gcpl=self._group_options)

    def _text(self, group: tuple[bytes, ...], attribute: str, text: str | None) -> None:
        if text is not None:
            self._attribute(group, attribute, np.array(text.encode()))

    def _names(self, group: tuple[bytes, ...], attribute: str, names: Sequence[str]) -> None:
        pieces = _split(names)
        for number, piece in enumerate(pieces):
            self._attribute(group, attribute if len(pieces) == 1 else f"{attribute}{number}", piece)

    def _attribute(self, group: tuple[bytes, ...], name: str, value: np.ndarray[Any, Any]) -> None:
        kind = _text_type(value.dtype.itemsize) if value.dtype.kind == "S" else h5t.IEEE_F64LE
        attribute = h5a.create(self._way.to(group), name.encode(), kind, _space(value.shape))
        if value.size:
            attribute.write(value, mtype=kind)


def _parts(name: str) -> tuple[bytes, ...]:
    try:
        return path_parts(name)
    except Refused as error:
        raise OutputRefused(str(error), hint="give the layers of the model other names") from error


def _shown(path: tuple[bytes, ...]) -> str:
    return "/" + b"/".join(path).decode()


def _split(names: Sequence[str]) -> list[np.ndarray[Any, Any]]:
    """Split a list as `save_attributes_to_hdf5_group` of Keras does; there an empty one has no floats."""
    if not names:
        return [np.empty(0, dtype="<f8")]
    whole = np.array([name.encode() for name in names])
    count = 1
    while -(-len(whole) // count) * whole.dtype.itemsize > _LIST:
        count += 1
    return np.array_split(whole, count) if count > 1 else [whole]


@functools.lru_cache(maxsize=256)
def _text_type(size: int) -> Any:
    kind = h5t.C_S1.copy()
    kind.set_size(size)
    kind.set_strpad(h5t.STR_NULLPAD)
    return kind


@functools.lru_cache(maxsize=256)
def _space(shape: tuple[int, ...]) -> Any:
    return h5s.create_simple(shape) if shape else h5s.create(h5s.SCALAR)


class FileImage:
    """A file in memory that keeps only the pages that were written, as libhdf5's driver."""

    def __init__(self) -> None:
        self.size = 0
        self._at = 0
        self._pages: dict[int, bytearray] = {}

    def pieces(self) -> Iterator[tuple[int, bytes]]:
        """Give what was written, by rising offset."""
        start = 0
        run: list[bytearray] = []
        for number in sorted(self._pages):
            if number != start + len(run) or len(run) == _RUN:
                if run:
                    yield start * _PAGE, b"".join(run)[: self.size - start * _PAGE]
                start, run = number, []
            run.append(self._pages[number])
        if run:
            yield start * _PAGE, b"".join(run)[: self.size - start * _PAGE]

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Remember where the next read or write starts."""
        self._at = self.size if whence == os.SEEK_END else offset
        return self._at

    def tell(self) -> int:
        """Give the place of the next read or write."""
        return self._at

    def write(self, data: Any) -> int:
        """Keep bytes."""
        number, start = divmod(self._at, _PAGE)
        size = len(data)
        self.size = max(self.size, self._at + size)
        if start + size <= _PAGE and number in self._pages:  # as nearly every time
            self._pages[number][start : start + size] = data
            return size
        view = memoryview(data)
        while view:
            page = self._pages.setdefault(number, bytearray(_PAGE))
            piece = view[: _PAGE - start]
            page[start : start + len(piece)] = piece
            view, number, start = view[len(piece) :], number + 1, 0
        return size

    def readinto(self, view: Any) -> int:
        """Give bytes back, zeros where none were kept."""
        done = 0
        while done < len(view):
            number, start = divmod(self._at + done, _PAGE)
            count = min(_PAGE - start, len(view) - done)
            page = self._pages.get(number) or bytes(_PAGE)
            view[done : done + count] = page[start : start + count]
            done += count
        return done

    def read(self, size: int) -> bytes:
        """Give bytes back, as the driver of older h5py asks for them."""
        data = bytearray(size)
        self.readinto(memoryview(data))
        return bytes(data)

    def truncate(self, size: int) -> int:
        """Settle the size."""
        self.size = size
        return size

    def flush(self) -> None:
        """Do nothing: there is nothing behind this memory."""
