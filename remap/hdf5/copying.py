"""Tensors copied from file to file, each compared in the output as soon as it is there.

The kernel copies in a thread of its own, a few steps ahead of the comparison. It is told where every byte comes from
and goes to, so that it shares no file position with anybody; and what it leaves, for whatever reason, is read and
written here. So a fault is met again by the plain way, which tells the input's from the output's.
"""

from __future__ import annotations

import errno
import io
import os
import threading
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, closing, nullcontext
from queue import SimpleQueue
from typing import TYPE_CHECKING, NamedTuple

from remap.checkpoint import Checkpoint, LayerGroup, Weight
from remap.errors import OutputRefused
from remap.hdf5.source import CHUNK, Source

if TYPE_CHECKING:
    from collections.abc import Callable

    from remap.conversion_plan import Plan, PlannedWeight
    from remap.hdf5.file_image import Layout, Place
    from remap.hdf5.reader import OpenedCheckpoint

__all__ = [
    "LOST",
    "FlushedAlong",
    "copy",
    "require_stored",
    "require_structure",
    "stored",
    "verify",
    "write",
    "write_at",
]

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


_WORTH_FLUSHING = 32 << 20
"""Bytes of a file below which the disk is no slower than starting a thread."""
_PAUSE = 0.01


class FlushedAlong:
    """Let the system put a file on the disk while it is written and compared, in a `with` statement.

    The disk is what a large conversion waits for, and copying and comparing only use the processor. At the
    end, the first error that the disk gave is raised: the system tells each error only once.
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


_STEP = 16 << 20
"""Bytes copied between two reports of progress."""
_AHEAD = 4
"""Steps that the kernel may be ahead: what is compared is still in memory then, whatever the file's size."""
_WORTH_A_THREAD = 1 << 20
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
    if any(step.size >= _WORTH_A_THREAD for step in steps):
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


_UNSUPPORTED = {errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP}


def write(layout: Layout, opened: OpenedCheckpoint, output: io.FileIO, report: Callable[[int], None]) -> None:
    """Write a whole output into an empty file, reserving all its room before the first byte.

    Every tensor is compared with the input's once it is there; `report` is told of every number of bytes that are.
    Raises OSError for whatever goes wrong with the output, OutputRefused where a tensor reads back differently, and
    InputRefused for the input.
    """
    _reserve(output, layout.size)
    for offset, piece in layout.pieces:
        write_at(output, offset, memoryview(piece))
    copy(layout.places, opened, output, report)


def _reserve(output: io.FileIO, size: int) -> None:
    """Take the room on the disk where the system can, so that a full one is met now and not half-way."""
    try:
        os.posix_fallocate(output.fileno(), 0, size)
    except (AttributeError, OSError) as error:
        if isinstance(error, OSError) and error.errno not in _UNSUPPORTED:
            raise
        output.truncate(size)


def verify(plan: Plan, written: OpenedCheckpoint, places: Iterable[Place]) -> None:
    """Compare everything in an output but the bytes of its tensors with the plan.

    Those were compared at their `places`; that they are where the output itself says they are is seen to here. Raises
    OutputRefused at the first difference.
    """
    expected, found = _expected(plan), written.checkpoint
    if found != expected:
        raise OutputRefused(
            f"what was written reads back differently: {_difference(expected, found)}",
            hint=LOST,
        )
    known = {place.path: place.offset for place in places}
    for path, extent in written.extents.items():
        if extent.size and extent.offset != known.get(path):
            raise OutputRefused("a tensor that was written reads back from elsewhere", where=path, hint=LOST)


def _expected(plan: Plan) -> Checkpoint:
    full = plan.model_config is not None
    root = "/model_weights" if full else "/"
    prefix = root.rstrip("/")
    return Checkpoint(
        root=root,
        layers=tuple(
            LayerGroup(name=layer.name, weights=_expect(f"{prefix}/{layer.name}", layer.weights))
            for layer in plan.layers
        ),
        backend=plan.backend,
        keras_version=plan.keras_version,
        file_backend=plan.file_backend if full else None,
        file_keras_version=plan.file_keras_version if full else None,
        model_config=plan.model_config,
        training_config=plan.training_config,
        optimizer=None if plan.optimizer is None else _expect("/optimizer_weights", plan.optimizer),
    )


def _expect(group: str, weights: Iterable[PlannedWeight]) -> tuple[Weight, ...]:
    return tuple(
        Weight(
            name=weight.name,
            path=f"{group}/{weight.name}",
            shape=weight.source.shape,
            dtype=weight.source.dtype,
        )
        for weight in weights
    )


def _difference(expected: Checkpoint, found: Checkpoint) -> str:
    different = [name for name in Checkpoint.__slots__ if getattr(expected, name) != getattr(found, name)]
    return f"its {different[0].replace('_', ' ')}"
