"""Every byte that was meant to be there has to come back."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from remap.errors import OutputRefused
from remap.hdf5.copying import require_stored, require_structure, stored
from remap.hdf5.output import publish
from remap.hdf5.reader import open_checkpoint
from tests.handmade import identity, save_full

CONTENT = bytes(range(100))


@pytest.fixture
def output(tmp_path: Path) -> Iterator[io.FileIO]:
    (tmp_path / "out").write_bytes(CONTENT)
    with io.FileIO(tmp_path / "out", "r+b") as file:
        yield file


def test_gives_what_is_there_and_no_more(output: io.FileIO) -> None:
    assert b"".join(stored(output, 10, 20)) == CONTENT[10:30]
    with pytest.raises(OutputRefused, match="ends too early"):
        list(stored(output, 90, 11))


def test_every_byte_counts(output: io.FileIO) -> None:
    require_stored(output, 0, memoryview(CONTENT), "all")
    for place in range(100):
        wrong = bytearray(CONTENT)
        wrong[place] ^= 1
        with pytest.raises(OutputRefused, match="reads back differently; at all"):
            require_stored(output, 0, memoryview(wrong), "all")


@pytest.mark.parametrize(
    "tensors",
    [[], [(0, 100)], [(20, 30)], [(30, 40), (40, 50), (90, 95)], [(0, 5), (5, 25), (70, 100)], [(3, 3)]],
)
def test_structure_is_what_no_tensor_takes(output: io.FileIO, tensors: list[tuple[int, int]]) -> None:
    taken = {place for begin, end in tensors for place in range(begin, end)}
    for place in range(100):
        wrong = bytearray(CONTENT)
        wrong[place] ^= 1
        pieces = [(0, bytes(wrong[:30])), (30, bytes(wrong[30:60])), (60, bytes(wrong[60:]))]
        if place in taken:
            require_structure(output, pieces, reversed(tensors))
        else:
            with pytest.raises(OutputRefused, match="at the file's structure"):
                require_structure(output, pieces, reversed(tensors))


def test_tensors_that_overlap_are_a_bug(output: io.FileIO) -> None:
    with pytest.raises(ValueError, match="share bytes"):
        require_structure(output, [], [(10, 20), (0, 11)])


def test_every_bit_of_the_structure_is_seen_to_be_on_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, target = save_full(tmp_path / "in.h5"), tmp_path / "out.h5"
    with open_checkpoint(source) as opened:
        plan = identity(opened.checkpoint)
        publish(plan, opened, target, overwrite=False)
        with open_checkpoint(target) as written:
            extents = [extent for extent in written.extents.values() if extent.size]
        size = target.stat().st_size
        inside = {place for offset, length in extents for place in range(offset, offset + length)}
        target.unlink()
        structure = [place for place in range(0, size, 41) if place not in inside]
        for place in structure:

            def lossy(output: io.FileIO, offset: int, data: memoryview, place: int = place) -> None:
                """Store one bit wrongly."""
                wrong = bytearray(data)
                if offset <= place < offset + len(wrong):
                    wrong[place - offset] ^= 64
                os.pwrite(output.fileno(), wrong, offset)

            monkeypatch.setattr("remap.hdf5.copying.write_at", lossy)
            with pytest.raises(OutputRefused, match="reads back differently; at the file's structure"):
                publish(plan, opened, target, overwrite=False)
            assert not target.exists()
    assert len(structure) > 50
