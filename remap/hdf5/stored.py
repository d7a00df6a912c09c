"""What the disk gives back, compared with what was written to it."""

from __future__ import annotations

import io
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence

from remap.errors import OutputRefused
from remap.hdf5.source import CHUNK

__all__ = ["LOST", "require_stored", "require_structure", "stored"]

LOST = "nothing was published: this disk loses data, or h5remap has a bug, which please report"
"""What to say of an output that is not what was written."""


def stored(output: io.FileIO, offset: int, size: int) -> Iterator[bytes]:
    """Read an output back in pieces; raises OutputRefused where it ends before."""
    output.seek(offset)
    while size:
        piece = output.read(min(size, CHUNK))
        if not piece:
            raise OutputRefused("the file that was written ends too early", hint=LOST)
        yield piece
        size -= len(piece)


def require_stored(output: io.FileIO, offset: int, expected: memoryview, what: str) -> None:
    """Raise OutputRefused unless an output has the expected bytes from `offset` on; `what` they are, it says."""
    at = 0
    for piece in stored(output, offset, len(expected)):
        if piece != expected[at : at + len(piece)]:
            raise OutputRefused("what was written reads back differently", where=what, hint=LOST)
        at += len(piece)


def require_structure(
    output: io.FileIO, pieces: Iterable[tuple[int, bytes]], tensors: Iterable[tuple[int, int]]
) -> None:
    """Raise OutputRefused unless an output has what was drawn, but for the stretches that its tensors take.

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
    """Give the parts of a stretch of bytes that none of the others takes."""
    for first, last in taken[max(bisect_left(taken, (begin, begin)) - 1, 0) :]:
        if first >= end:
            break
        if begin < first:
            yield begin, first
        begin = max(begin, last)
    if begin < end:
        yield begin, end
