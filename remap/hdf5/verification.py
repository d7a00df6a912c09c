"""What was written, read back and compared with what should be there: bytes on the disk, and what HDF5 makes of them."""

from __future__ import annotations

import io
import os
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from typing import TYPE_CHECKING

from remap.errors import InputRefused, OutputRefused
from remap.hdf5.checked_file import CheckedFile
from remap.hdf5.source import CHUNK, FileSource

if TYPE_CHECKING:
    from remap.formats.description import FileDescription, Group
    from remap.hdf5.file_image import PlacedTensor

__all__ = ["LOST", "read_back", "require_description", "require_stored", "require_structure"]

LOST = "nothing was published: this disk loses data, or h5remap has a bug, which please report"
"""The hint of an error about an output that is not what was written."""


def read_back(output: io.FileIO, offset: int, size: int) -> Iterator[bytes]:
    """Read an output back in pieces; raises OutputRefused where it ends before."""
    output.seek(offset)
    while size:
        piece = output.read(min(size, CHUNK))
        if not piece:
            raise OutputRefused("the file that was written ends too early", hint=LOST)
        yield piece
        size -= len(piece)


def require_stored(output: io.FileIO, offset: int, expected: memoryview, where: str) -> None:
    """Raise OutputRefused unless an output has the expected bytes from `offset` on; `where` names them in the error."""
    done = 0
    for piece in read_back(output, offset, len(expected)):
        if piece != expected[done : done + len(piece)]:
            raise OutputRefused("what was written reads back differently", where=where, hint=LOST)
        done += len(piece)


def require_structure(
    output: io.FileIO, pieces: Iterable[tuple[int, bytes]], tensors: Iterable[tuple[int, int]]
) -> None:
    """Raise OutputRefused unless an output has the bytes of its image outside of its tensors.

    `pieces` are bytes by their offset, `tensors` beginnings and ends. Raises ValueError for tensors that overlap.
    """
    taken = sorted(tensors)
    for number in range(1, len(taken)):
        if taken[number - 1][1] > taken[number][0]:
            raise ValueError("two tensors of the output share bytes")
    for offset, piece in pieces:
        for begin, end in _gaps(offset, offset + len(piece), taken):
            part = memoryview(piece)[begin - offset : end - offset]
            require_stored(output, begin, part, "the file's structure")


def _gaps(begin: int, end: int, taken: Sequence[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """Give the parts of a range of bytes that are in none of the others."""
    for first, last in taken[max(bisect_left(taken, (begin, begin)) - 1, 0) :]:
        if first >= end:
            break
        if begin < first:
            yield begin, first
        begin = max(begin, last)
    if begin < end:
        yield begin, end


def require_description(
    file: FileDescription, output: io.FileIO, tensors: Iterable[PlacedTensor], *, begin: int, size: int
) -> None:
    """Reopen an HDF5 file as any input, and compare everything in it but the values of its tensors with its description.

    The file is the part of `output` that begins at byte `begin`. The values were compared where `tensors` are placed; here
    follows that HDF5 finds each of them there. Raises OutputRefused at the first difference.
    """
    offsets = {placed.path: placed.offset for placed in tensors}
    with closing(
        FileSource(os.dup(output.fileno()), "the output", refusal=OutputRefused, begin=begin, size=size)
    ) as source:
        try:
            with CheckedFile(source, compared=True) as opened:
                for group in file.groups:
                    _require_attributes(opened, group)
                    _require_tensors(opened, group, offsets, begin)
                    if opened.counts(group.path) != file.counts[group.path]:
                        raise _differs(_shown(group.path), "what it holds")
                opened.require_disjoint()
        except InputRefused as error:
            raise OutputRefused(
                f"what was written cannot be read back: {error.what}", where=error.where, hint=LOST
            ) from error


def _require_attributes(opened: CheckedFile, group: Group) -> None:
    for attribute in group.attributes:
        read = opened.text if isinstance(attribute.value, str) else opened.names
        if read(group.path, attribute.name) != attribute.value:
            raise _differs(_shown(group.path), f"its {attribute.name}")


def _require_tensors(opened: CheckedFile, group: Group, offsets: dict[str, int], begin: int) -> None:
    names = [name for name, _ in group.tensors]
    found = opened.tensors(group.path, names)
    for (name, expected), tensor in zip(group.tensors, found, strict=True):
        path = _shown((*group.path, name))
        if (tensor.shape, tensor.dtype) != (expected.shape, expected.dtype):
            raise _differs(path, "its type or shape")
        if tensor.extent.size and begin + tensor.extent.offset != offsets.get(path):
            raise OutputRefused("a tensor that was written reads back from elsewhere", where=path, hint=LOST)


def _differs(where: str, what: str) -> OutputRefused:
    return OutputRefused(f"what was written reads back differently: {what}", where=where, hint=LOST)


def _shown(path: tuple[str, ...]) -> str:
    return "/" + "/".join(path)
