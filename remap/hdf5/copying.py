"""The bytes of an output written: its structure, and its tensors, each compared in the output as soon as it is there.

The kernel copies tensors from file to file in a thread of its own, a few steps ahead of the comparison. It is told where
every byte comes from and goes to, so that it shares no file position with the comparison; and what it does not copy, for
whatever reason, is read and written here. So an error is met again by plain reading and writing, which tell errors of the
input from those of the output.
"""

from __future__ import annotations

import errno
import io
import os
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, closing, nullcontext
from queue import SimpleQueue
from typing import TYPE_CHECKING, NamedTuple

from remap.errors import OutputRefused
from remap.hdf5.reader import read_tensor
from remap.hdf5.source import FileSource, Source
from remap.hdf5.verification import LOST, require_stored

if TYPE_CHECKING:
    from remap.checkpoint import Weight
    from remap.hdf5.file_image import FileImage, PlacedTensor
    from remap.hdf5.reader import OpenedCheckpoint

__all__ = ["FlushedAlong", "Progress", "write_at", "write_image"]


class Progress:
    """Tell a callback of bytes done and bytes in all."""

    def __init__(self, callback: Callable[[int, int], None] | None, total: int) -> None:
        self._callback = callback
        self._total = total
        self._done = 0

    def add(self, count: int) -> None:
        """Count bytes that are written and compared."""
        self._done += count
        if self._callback is not None:
            self._callback(self._done, self._total)


def write_image(
    image: FileImage, opened: OpenedCheckpoint, output: io.FileIO, size: int, progress: Progress
) -> None:
    """Write an image with its tensors into an empty file, reserving `size` bytes for it before the first is written.

    Every tensor is compared in the output once it is there; `progress` then counts its bytes. Raises OSError for whatever
    goes wrong with the output, OutputRefused where a tensor reads back differently, and InputRefused for the input.
    """
    _reserve(output, size)
    for offset, piece in image.pieces:
        write_at(output, offset, memoryview(piece))
    _copy([placed for placed in image.tensors if placed.tensor.transform is None], opened, output, progress)
    for placed in image.tensors:
        if placed.tensor.transform is not None:
            _compute(placed, opened, output)
            progress.add(placed.tensor.size)


def write_at(output: io.FileIO, offset: int, data: memoryview) -> None:
    """Write all of `data` from byte `offset` on, however little the system takes at a time."""
    output.seek(offset)
    while data:
        data = data[output.write(data) or 0 :]


_UNSUPPORTED = {errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP}


def _reserve(output: io.FileIO, size: int) -> None:
    """Allocate room on the disk where the system can, so that a full disk is met now and not in the middle."""
    try:
        os.posix_fallocate(output.fileno(), 0, size)
    except (AttributeError, OSError) as error:
        if isinstance(error, OSError) and error.errno not in _UNSUPPORTED:
            raise
        output.truncate(size)


def _compute(placed: PlacedTensor, opened: OpenedCheckpoint, output: io.FileIO) -> None:
    """Compute a tensor, write it, and compare it."""
    source = placed.tensor.source
    values = placed.tensor.make(*(() if source is None else (read_tensor(opened, source),)))
    data = memoryview(values.tobytes())
    write_at(output, placed.offset, data)
    require_stored(output, placed.offset, data, placed.path)


_STEP = 16 << 20
"""Bytes copied between two reports of progress; no more than a source behind a URL reads and keeps at a time."""
_AHEAD = 4
"""Steps that the kernel may be ahead: what is compared is still in memory then, whatever the file's size."""
_WORTH_A_THREAD = 1 << 20
"""Bytes of a tensor below which the kernel has copied it before a thread would be awake."""
_BLOCK = 256 << 10
"""Bytes compared at a time: two blocks stay in the cache of a processor's core."""


class _Step(NamedTuple):
    """Bytes to copy: from which byte of the input, to which byte of the output, how many, and of which tensor."""

    start: int
    target: int
    size: int
    placed: PlacedTensor


def _copy(
    tensors: Sequence[PlacedTensor], opened: OpenedCheckpoint, output: io.FileIO, progress: Progress
) -> None:
    """Copy tensors of a checkpoint to their places in an output that has room for them, and compare every byte."""
    steps = list(_steps(tensors, opened))
    source, target = opened.source.descriptor, output.fileno()
    copied: AbstractContextManager[Iterable[int]]
    if source is None:  # the kernel copies from files of this machine only
        copied = nullcontext([0] * len(steps))
    elif any(step.size >= _WORTH_A_THREAD for step in steps):
        copied = _CopiedAhead(steps, source, target)
    else:
        copied = nullcontext(_copy_step(step, source, target) for step in steps)
    blocks = bytearray(_BLOCK), bytearray(_BLOCK)
    with (
        closing(FileSource(os.dup(target), "the output", refusal=OutputRefused)) as written,
        copied as counts,
    ):
        for step, count in zip(steps, counts, strict=True):
            if count < step.size:
                _write_rest(step, count, opened.source, output)
            _compare(step, opened.source, written, *blocks)
            progress.add(step.size)


def _steps(tensors: Sequence[PlacedTensor], opened: OpenedCheckpoint) -> Iterator[_Step]:
    for placed in tensors:
        offset, size = opened.extent(_source(placed))
        for done in range(0, size, _STEP):
            yield _Step(offset + done, placed.offset + done, min(_STEP, size - done), placed)


def _source(placed: PlacedTensor) -> Weight:
    assert placed.tensor.source is not None  # noqa: S101 - for the type checker: what is not computed is copied
    return placed.tensor.source


def _copy_step(step: _Step, source: int, target: int) -> int:
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
    offset = step.target + count
    for piece in source.chunks(step.start + count, step.size - count):
        write_at(output, offset, piece)
        offset += len(piece)


def _compare(step: _Step, source: Source, written: Source, ours: bytearray, theirs: bytearray) -> None:
    for done in range(0, step.size, _BLOCK):
        size = min(_BLOCK, step.size - done)
        written.read_into(memoryview(ours)[:size], step.target + done)
        source.read_into(memoryview(theirs)[:size], step.start + done)
        # Whole byte arrays are compared at the speed of memory, views of them byte by byte.
        if ours != theirs if size == _BLOCK else ours[:size] != theirs[:size]:
            raise OutputRefused(
                "a tensor that was written reads back differently",
                where=f"{step.placed.path}, within {size:,} bytes from byte "
                f"{step.target + done - step.placed.offset:,} of it",
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
        return self._copied()

    def __exit__(self, *_: object) -> None:
        # A descriptor is not closed while the kernel writes to it: its number may be that of another file next.
        self._stopped = True
        self._room.release()
        self._thread.join()

    def _copied(self) -> Iterator[int]:
        for _ in self._steps:
            yield self._counts.get()
            self._room.release()

    def _run(self) -> None:
        for step in self._steps:
            self._room.acquire()
            if self._stopped:
                return
            self._counts.put(_copy_step(step, *self._descriptors))


_WORTH_FLUSHING = 32 << 20
"""Bytes of a file below which the disk is no slower than starting a thread."""
_PAUSE = 0.01


class FlushedAlong:
    """Flush a file to the disk in a thread while it is written and compared, in a `with` statement.

    A large conversion waits for the disk, while copying and comparing only use the processor. At the end, the first
    error that the disk reported is raised: the system reports each error only once.
    """

    def __init__(self, file: io.FileIO, size: int) -> None:
        self._descriptor = file.fileno()
        self._end = threading.Event()
        self._error: OSError | None = None
        self._thread = threading.Thread(target=self._run, daemon=True) if size >= _WORTH_FLUSHING else None

    def __enter__(self) -> FlushedAlong:
        if self._thread is not None:
            self._thread.start()
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if self._thread is not None:
            self._end.set()
            self._thread.join()
        if error is None and self._error is not None:
            raise self._error

    def _run(self) -> None:
        try:
            while not self._end.wait(_PAUSE):
                os.fsync(self._descriptor)
        except OSError as error:
            self._error = error
