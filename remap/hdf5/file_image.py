"""The structure of an output file: every byte but those of its tensors, built by libhdf5 in memory.

libhdf5 loses write errors and crashes on a full disk, so it never writes to one: it builds the file in memory, with room
for tensors that is allocated and never filled. The bytes that it wrote are then written by plain system calls, which
report every error.
"""

from __future__ import annotations

import functools
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np
from h5py import h5a, h5d, h5f, h5fd, h5g, h5p, h5s, h5t

from remap.hdf5.checked_file import GroupCache
from remap.hdf5.tensors import native_type
from remap.weight_names import path_parts

if TYPE_CHECKING:
    from collections.abc import Iterator

    from remap.formats.description import Attribute, FileDescription, Group
    from remap.output_tensors import OutputTensor

__all__ = ["FileImage", "MemoryFile", "PlacedTensor", "build_image"]


@dataclass(frozen=True, slots=True, kw_only=True)
class PlacedTensor:
    """A tensor of the output, its path there, and the byte of the output at which it begins."""

    tensor: OutputTensor
    path: str
    offset: int


@dataclass(frozen=True, slots=True, kw_only=True)
class FileImage:
    """A file of `size` bytes: pieces of it by offset, and its tensors that have any bytes; the rest is zeros."""

    size: int
    pieces: tuple[tuple[int, bytes], ...]
    tensors: tuple[PlacedTensor, ...]

    def moved(self, start: int) -> FileImage:
        """Give the same file as a part of another one, from byte `start` of that on."""
        if start == 0:
            return self
        return FileImage(
            size=start + self.size,
            pieces=tuple((start + offset, piece) for offset, piece in self.pieces),
            tensors=tuple(
                PlacedTensor(tensor=placed.tensor, path=placed.path, offset=start + placed.offset)
                for placed in self.tensors
            ),
        )


def build_image(file: FileDescription) -> FileImage:
    """Let libhdf5 build a file as it is described, with nothing in it that changes from run to run.

    The file format is that of HDF5 1.8, whatever the default of the library is: libraries of 2017 read it, and
    attributes may exceed 64 KiB, as `model_config` of large models does.
    """
    memory = MemoryFile()
    opened = _create(memory)
    try:
        builder = _Builder(opened)
        for group in file.groups:
            builder.add(group)
    finally:
        opened.close()
    return FileImage(size=memory.size, pieces=tuple(memory.pieces()), tensors=tuple(builder.tensors))


def _create(memory: MemoryFile) -> Any:
    creation = h5p.create(h5p.FILE_CREATE)
    creation.set_obj_track_times(False)
    access = h5p.create(h5p.FILE_ACCESS)
    try:
        access.set_fclose_degree(h5f.CLOSE_STRONG)
        access.set_libver_bounds(h5f.LIBVER_V18, h5f.LIBVER_V18)
        access.set_fileobj_driver(h5fd.fileobj_driver, memory)
        return h5f.create(b"h5remap", h5f.ACC_TRUNC, creation, access)
    finally:
        access.close()  # it holds the memory file, which libhdf5 must not release after the interpreter's end


class _Builder:
    """One file while libhdf5 builds it; a description has made sure that no name is taken twice."""

    def __init__(self, file: Any) -> None:
        self.tensors: list[PlacedTensor] = []
        self._groups = GroupCache(h5g.open(file, b"/"), self._open_or_create)
        self._created: set[tuple[bytes, ...]] = set()
        self._group_options = h5p.create(h5p.GROUP_CREATE)
        self._group_options.set_obj_track_times(False)
        self._options = h5p.create(h5p.DATASET_CREATE)
        self._options.set_obj_track_times(False)
        self._options.set_layout(h5d.CONTIGUOUS)
        # Allocate room in the file at once, and write nothing to it.
        self._options.set_alloc_time(h5d.ALLOC_TIME_EARLY)
        self._options.set_fill_time(h5d.FILL_TIME_NEVER)

    def add(self, group: Group) -> None:
        """Create a group where it is missing, and its attributes and datasets."""
        path = tuple(part for name in group.path for part in path_parts(name))
        opened = self._groups.to(path)
        for attribute in group.attributes:
            _add_attribute(opened, attribute)
        for name, tensor in group.tensors:
            whole = path + path_parts(name)
            parent, kind = self._groups.to(whole[:-1]), native_type(tensor.dtype)
            dataset = h5d.create(parent, whole[-1], kind, _space(tensor.shape), self._options)
            offset = dataset.get_offset()
            if offset is not None:
                shown = "/" + "/".join((*group.path, name))
                self.tensors.append(PlacedTensor(tensor=tensor, path=shown, offset=offset))

    def _open_or_create(self, parent: Any, path: tuple[bytes, ...]) -> Any:
        if path in self._created:
            return h5g.open(parent, path[-1])
        self._created.add(path)
        return h5g.create(parent, path[-1], gcpl=self._group_options)


def _add_attribute(group: Any, attribute: Attribute) -> None:
    name, value = attribute.name.encode(), attribute.value
    if value == ():
        h5a.create(group, name, h5t.IEEE_F64LE, _space((0,)))
        return
    if attribute.width is None:
        array = np.array(value, dtype=h5py.string_dtype())
        stored, in_memory = _VARIABLE_TEXT, None
    else:
        encoded: Any = value.encode() if isinstance(value, str) else [text.encode() for text in value]
        array = np.array(encoded, dtype=f"S{attribute.width}")
        stored = in_memory = _text_type(attribute.width)
    h5a.create(group, name, stored, _space(array.shape)).write(array, mtype=in_memory)


_VARIABLE_TEXT = h5t.py_create(h5py.string_dtype(), logical=True)


@functools.lru_cache(maxsize=256)
def _text_type(size: int) -> Any:
    kind = h5t.C_S1.copy()
    kind.set_size(size)
    kind.set_strpad(h5t.STR_NULLPAD)
    return kind


@functools.lru_cache(maxsize=256)
def _space(shape: tuple[int, ...]) -> Any:
    return h5s.create_simple(shape) if shape else h5s.create(h5s.SCALAR)


_PAGE = 4096
_PIECE_PAGES = 256
"""Pages that are joined into one piece at most: pieces of a mebibyte."""


class MemoryFile:
    """A file in memory that keeps only the pages that were written, as libhdf5's driver."""

    def __init__(self) -> None:
        self.size = 0
        self._position = 0
        self._pages: dict[int, bytearray] = {}

    def pieces(self) -> Iterator[tuple[int, bytes]]:
        """Give what was written, by rising offset."""
        start = 0
        joined: list[bytearray] = []
        for number in sorted(self._pages):
            if number != start + len(joined) or len(joined) == _PIECE_PAGES:
                if joined:
                    yield start * _PAGE, b"".join(joined)[: self.size - start * _PAGE]
                start, joined = number, []
            joined.append(self._pages[number])
        if joined:
            yield start * _PAGE, b"".join(joined)[: self.size - start * _PAGE]

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Remember where the next read or write starts."""
        self._position = self.size if whence == os.SEEK_END else offset
        return self._position

    def tell(self) -> int:
        """Give the offset of the next read or write."""
        return self._position

    def write(self, data: Any) -> int:
        """Keep bytes."""
        number, start = divmod(self._position, _PAGE)
        size = len(data)
        self.size = max(self.size, self._position + size)
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
            number, start = divmod(self._position + done, _PAGE)
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
        """Set the size."""
        self.size = size
        return size

    def flush(self) -> None:
        """Do nothing: nothing is kept elsewhere."""
