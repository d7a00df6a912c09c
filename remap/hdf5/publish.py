"""All-or-nothing output: a file that is written, verified and on the disk before it has a name."""

from __future__ import annotations

import contextlib
import io
import os
from pathlib import Path
from typing import TYPE_CHECKING

from remap.errors import InputRefused, OutputRefused, UsageRefused
from remap.hdf5.draft import new_file, status_of
from remap.hdf5.flush import FlushedAlong
from remap.hdf5.identify import show
from remap.hdf5.layout import lay_out
from remap.hdf5.reader import read_source
from remap.hdf5.source import Source
from remap.hdf5.stored import require_structure
from remap.hdf5.verify import verify
from remap.hdf5.writer import write

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from remap.hdf5.reader import OpenedCheckpoint
    from remap.keras.checkpoint import Checkpoint
    from remap.keras.plan import Plan

__all__ = ["Meter", "publication", "publish"]


def publish(
    plan: Plan,
    opened: OpenedCheckpoint,
    target: str | os.PathLike[str],
    *,
    overwrite: bool,
    progress: Callable[[int, int], None] | None = None,
    check: Callable[[Checkpoint], None] | None = None,
) -> int:
    """Write a plan's output to `target` and return its size in bytes.

    The file is written without a name where the system knows such files, and under an unguessable one in the
    same directory elsewhere; its tensors are compared with the input, it is reopened and compared with the plan,
    `check` is called with what it says, and it is on the disk before it gets its name in one step. `progress` is
    called with the bytes done and the bytes in all.

    Raises UsageRefused when the target is the input, OutputRefused when it is there already and `overwrite`
    is False, or cannot be written; InputRefused when the input cannot be read or changes meanwhile;
    ValueError when the plan contradicts itself; and whatever `check` raises. Then nothing is left behind.
    """
    with publication(target, opened, overwrite=overwrite) as file:
        layout = lay_out(plan)
        tensors = [(place.offset, opened.extent(place.source).size) for place in layout.places]
        report = Meter(progress, sum(size for _, size in tensors))
        with FlushedAlong(file, layout.size):
            write(layout, opened, file, report)
            require_structure(file, layout.pieces, ((offset, offset + size) for offset, size in tensors))
            with _reopened(file) as written:
                verify(plan, written, layout.places)
                if check is not None:
                    check(written.checkpoint)
    return layout.size


@contextlib.contextmanager
def publication(
    target: str | os.PathLike[str], opened: OpenedCheckpoint, *, overwrite: bool
) -> Iterator[io.FileIO]:
    """Give an empty file that has no name; it gets its name in one step when the block ends without an error.

    Raises UsageRefused and OutputRefused as `publish` does, and whatever the block raises; then nothing is
    left behind.
    """
    path = Path(target)
    status = status_of(path)
    if status is not None and opened.source.is_same(status):
        raise UsageRefused(
            "the output is the input",
            where=show(str(path)),
            hint="give another name: the input is never written to",
        )
    with new_file(path, overwrite=overwrite) as file:
        yield file
        os.fsync(file.fileno())
        opened.source.require_unchanged()


class Meter:
    """Tells a callback of bytes done and bytes in all."""

    def __init__(self, callback: Callable[[int, int], None] | None, total: int) -> None:
        self._callback = callback
        self._total = total
        self._done = 0

    def __call__(self, count: int) -> None:
        """Count bytes that are written and compared."""
        self._done += count
        if self._callback is not None:
            self._callback(self._done, self._total)


@contextlib.contextmanager
def _reopened(file: io.FileIO) -> Iterator[OpenedCheckpoint]:
    """Read the draft back through the gate; what the gate refuses there is the output's fault."""
    source = Source(os.dup(file.fileno()), "the output", refusal=OutputRefused)
    try:
        try:
            written = read_source(source, compared=True)
        except InputRefused as error:
            raise OutputRefused(
                f"what was written cannot be read back: {error.what}",
                where=error.where,
                hint="nothing was published: this disk loses data, or h5remap has a bug, which please report",
            ) from error
        yield written
    finally:
        source.close()
