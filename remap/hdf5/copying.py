"""Tensors copied from file to file, each compared in the output as soon as it is there.

The kernel copies in a thread of its own, a few steps ahead of the comparison. It is told where every byte comes from
and goes to, so that it shares no file position with anybody; and what it leaves, for whatever reason, is read and
written here. So a fault is met again by the plain way, which tells the input's from the output's.
"""

from __future__ import annotations

import os
import threading
from contextlib import AbstractContextManager, closing, nullcontext
from queue import SimpleQueue
from typing import TYPE_CHECKING, NamedTuple

from remap.errors import OutputRefused
from remap.hdf5.source import Source
from remap.hdf5.stored import LOST

if TYPE_CHECKING:
    import io
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from remap.hdf5.layout import Place
    from remap.hdf5.reader import OpenedCheckpoint

__all__ = ["copy", "write_at"]

_STEP = 16 << 20
"""Bytes copied between two reports of progress."""
_AHEAD = 4
"""Steps that the kernel may be ahead: what is compared is still in memory then, whatever the file's size."""
_WORTH = 1 << 20
"""Bytes of a tensor below which the kernel has copied it before a thread would be awake."""
_BLOCK = 256 << 10
"""Bytes compared at a time: two blocks stay in the cache of a processor's core."""


class _Step(NamedTuple):
    """Bytes to copy: from which byte of the input, to which of the output, how many, and whose."""

    start: int
    target: int
    size: int
    place: Place


def copy(
    places: Sequence[Place], opened: OpenedCheckpoint, output: io.FileIO, report: Callable[[int], None]
) -> None:
    """Copy tensors of a checkpoint to their places in an output that has room for them, and compare every byte.

    `report` is told of every number of bytes that are there. Raises OSError for whatever goes wrong with the output,
    OutputRefused where it does not give back what was written, and InputRefused for the input.
    """
    steps = list(_steps(places, opened))
    source, target = opened.source.descriptor, output.fileno()
    copied: AbstractContextManager[Iterable[int]] = nullcontext(_copy(step, source, target) for step in steps)
    if any(step.size >= _WORTH for step in steps):
        copied = _CopiedAhead(steps, source, target)
    blocks = bytearray(_BLOCK), bytearray(_BLOCK)
    with closing(Source(os.dup(target), "the output", refusal=OutputRefused)) as written, copied as counts:
        for step, count in zip(steps, counts, strict=True):
            if count < step.size:
                _write_rest(step, count, opened.source, output)
            _compare(step, opened.source, written, *blocks)
            report(step.size)


def write_at(output: io.FileIO, offset: int, data: memoryview) -> None:
    """Write all of `data` from byte `offset` on, however little the system takes at a time."""
    output.seek(offset)
    while data:
        data = data[output.write(data) or 0 :]


def _steps(places: Sequence[Place], opened: OpenedCheckpoint) -> Iterator[_Step]:
    for place in places:
        offset, size = opened.extent(place.source)
        for done in range(0, size, _STEP):
            yield _Step(offset + done, place.offset + done, min(_STEP, size - done), place)


def _copy(step: _Step, source: int, target: int) -> int:
    """Copy inside the kernel, as far as it does, and say how far that was."""
    done = 0
    try:
        while done < step.size:
            count = os.copy_file_range(
                source, target, step.size - done, step.start + done, step.target + done
            )
            if count == 0:
                break
            done += count
    except (AttributeError, OSError):
        pass
    return done


def _write_rest(step: _Step, count: int, source: Source, output: io.FileIO) -> None:
    at = step.target + count
    for piece in source.chunks(step.start + count, step.size - count):
        write_at(output, at, piece)
        at += len(piece)


def _compare(step: _Step, source: Source, written: Source, ours: bytearray, theirs: bytearray) -> None:
    for done in range(0, step.size, _BLOCK):
        size = min(_BLOCK, step.size - done)
        written.read_into(memoryview(ours)[:size], step.target + done)
        source.read_into(memoryview(theirs)[:size], step.start + done)
        # Whole byte arrays are compared at the speed of memory, views of them byte by byte.
        if ours != theirs if size == _BLOCK else ours[:size] != theirs[:size]:
            raise OutputRefused(
                "a tensor that was written reads back differently",
                where=f"{step.place.path}, within {size:,} bytes from byte {step.target + done - step.place.offset:,} of it",
                hint=LOST,
            )


class _CopiedAhead:
    """A thread in which the kernel copies; gives how many bytes of each step it has copied, in order."""

    def __init__(self, steps: Sequence[_Step], source: int, target: int) -> None:
        self._steps = steps
        self._descriptors = source, target
        self._room = threading.Semaphore(_AHEAD)
        self._counts: SimpleQueue[int] = SimpleQueue()
        self._stopped = False
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Iterator[int]:
        self._thread.start()
        return self._told()

    def __exit__(self, *_: object) -> None:
        # Nobody closes a descriptor to which the kernel still writes: its number may be another file's next.
        self._stopped = True
        self._room.release()
        self._thread.join()

    def _told(self) -> Iterator[int]:
        for _ in self._steps:
            yield self._counts.get()
            self._room.release()

    def _run(self) -> None:
        for step in self._steps:
            self._room.acquire()
            if self._stopped:
                return
            self._counts.put(_copy(step, *self._descriptors))
