"""The disk works while we do, and no error of it is lost."""

from __future__ import annotations

import errno
import io
import threading
from typing import TYPE_CHECKING

import pytest

from remap.hdf5.copying import FlushedAlong

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

LARGE = 32 << 20


@pytest.fixture
def file(tmp_path: Path) -> Iterator[io.FileIO]:
    with io.FileIO(tmp_path / "file", "wb") as file:
        yield file


def test_flushes_while_the_block_runs(file: io.FileIO, monkeypatch: pytest.MonkeyPatch) -> None:
    flushed = threading.Event()
    monkeypatch.setattr("remap.hdf5.copying.os.fsync", lambda _: flushed.set())
    with FlushedAlong(file, LARGE):
        assert flushed.wait(30)


def test_tells_what_the_disk_told(file: io.FileIO, monkeypatch: pytest.MonkeyPatch) -> None:
    failed = threading.Event()

    def fail(_: int) -> None:
        failed.set()
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr("remap.hdf5.copying.os.fsync", fail)
    with pytest.raises(OSError, match="Input/output error"), FlushedAlong(file, LARGE):
        assert failed.wait(30)


def test_an_error_of_the_block_goes_first(file: io.FileIO, monkeypatch: pytest.MonkeyPatch) -> None:
    failed = threading.Event()

    def fail(_: int) -> None:
        failed.set()
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr("remap.hdf5.copying.os.fsync", fail)

    def work() -> None:
        assert failed.wait(30)
        raise KeyError

    with pytest.raises(KeyError), FlushedAlong(file, LARGE):
        work()


def test_leaves_small_files_alone(file: io.FileIO) -> None:
    before = threading.active_count()
    with FlushedAlong(file, LARGE - 1):
        assert threading.active_count() == before


def test_no_thread_outlives_the_block(file: io.FileIO) -> None:
    before = threading.active_count()
    with FlushedAlong(file, LARGE):
        pass
    assert threading.active_count() == before
