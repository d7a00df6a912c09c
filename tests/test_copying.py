"""Every byte of every tensor is copied and compared, in a thread or without, and every error of the disk is reported."""

from __future__ import annotations

import errno
import io
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from remap.errors import OutputRefused
from remap.hdf5 import copying
from remap.hdf5.copying import FlushedAlong
from remap.hdf5.output import publish
from remap.hdf5.reader import open_checkpoint
from tests.handmade import save_full, unchanged

Copy = Callable[[int, int, int, int, int], int]

real: Copy | None = getattr(os, "copy_file_range", None)

needs_kernel_copy = pytest.mark.skipif(real is None, reason="this system copies nothing inside its kernel")


@pytest.fixture(params=[False, True], ids=["at once", "in a thread"])
def threaded(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Let small tensors go the way of large ones, many steps each; say whether they do."""
    inside: bool = request.param
    monkeypatch.setattr(copying, "_WORTH_A_THREAD", 0 if inside else 1 << 30)
    monkeypatch.setattr(copying, "_STEP", 12)
    monkeypatch.setattr(copying, "_BLOCK", 8)
    return inside


def _copied(source: Path, target: Path) -> list[int]:
    """Convert, and give the bytes done after each step."""
    done: list[int] = []
    with open_checkpoint(source) as opened:
        publish(
            unchanged(opened.checkpoint),
            opened,
            target,
            overwrite=False,
            progress=lambda count, _: done.append(count),
        )
    return done


def _kernel(monkeypatch: pytest.MonkeyPatch, copy: Callable[..., int]) -> list[str]:
    """Put a copying kernel of another kind in place; give the names of the threads that called it."""
    threads: list[str] = []

    def called(*given: int) -> int:
        threads.append(threading.current_thread().name)
        return copy(*given)

    monkeypatch.setattr(os, "copy_file_range", called)
    return threads


def _as_it_is(*given: int) -> int:
    assert real is not None
    return real(*given)


@needs_kernel_copy
def test_every_byte_arrives_and_is_reported_once(
    tmp_path: Path, threaded: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, target = save_full(tmp_path / "in.h5"), tmp_path / "out.h5"
    threads = _kernel(monkeypatch, _as_it_is)
    done = _copied(source, target)
    assert done == sorted(set(done))
    assert done[-1] == 48 + 16 + 8 + 8 + 28
    assert threads
    assert ("MainThread" in threads) != threaded
    with open_checkpoint(source) as given, open_checkpoint(target) as written:
        assert written.checkpoint == given.checkpoint


def _nothing(*_: int) -> int:
    return 0


def _little(source: int, target: int, count: int, start: int, at: int) -> int:
    return _as_it_is(source, target, min(count, 5), start, at)


def _half_way(source: int, target: int, count: int, start: int, at: int) -> int:
    """Copy one part of every twelve bytes and fail at the next."""
    if count < 7:
        raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))
    return _little(source, target, count, start, at)


@needs_kernel_copy
@pytest.mark.usefixtures("threaded")
@pytest.mark.parametrize("copy", [_nothing, _little, _half_way])
def test_what_the_kernel_leaves_arrives_too(
    tmp_path: Path, copy: Copy, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, target, other = save_full(tmp_path / "in.h5"), tmp_path / "out.h5", tmp_path / "other.h5"
    _copied(source, target)
    _kernel(monkeypatch, copy)
    assert _copied(source, other)[-1] == 108
    assert other.read_bytes() == target.read_bytes()


@needs_kernel_copy
@pytest.mark.usefixtures("threaded")
def test_every_single_bit_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source, target = save_full(tmp_path / "in.h5"), tmp_path / "out.h5"
    _copied(source, target)
    with open_checkpoint(target) as written:
        extents = [extent for extent in written.extents.values() if extent.size]
    target.unlink()
    for extent in extents:
        for place in (extent.offset, extent.offset + extent.size - 1):
            for bit in (1, 128):

                def spoil(
                    source: int,
                    into: int,
                    count: int,
                    start: int,
                    at: int,
                    place: int = place,
                    bit: int = bit,
                ) -> int:
                    done = _as_it_is(source, into, count, start, at)
                    if at <= place < at + done:
                        os.pwrite(into, bytes([os.pread(into, 1, place)[0] ^ bit]), place)
                    return done

                _kernel(monkeypatch, spoil)
                with pytest.raises(OutputRefused, match="a tensor that was written reads back differently"):
                    _copied(source, target)
                assert not target.exists()


@needs_kernel_copy
def test_the_place_of_a_difference_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(copying, "_BLOCK", 16)

    def spoil(source: int, target: int, count: int, start: int, at: int) -> int:
        done = _as_it_is(source, target, count, start, at)
        if count == 48:
            os.pwrite(target, b"?", at + 40)
        return done

    _kernel(monkeypatch, spoil)
    with pytest.raises(OutputRefused) as caught:
        _copied(save_full(tmp_path / "in.h5"), tmp_path / "out.h5")
    assert caught.value.where == (
        "/model_weights/model_1/dense_1/kernel:0, within 16 bytes from byte 32 of it"
    )


@needs_kernel_copy
def test_the_thread_has_ended_before_anybody_closes_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in (("_WORTH_A_THREAD", 0), ("_STEP", 4), ("_AHEAD", 3)):
        monkeypatch.setattr(copying, name, value)
    before = threading.active_count()
    busy, never = threading.Event(), threading.Event()

    def slow(*given: int) -> int:
        if len(threads) == 3:
            busy.set()
            never.wait(0.2)
        return _as_it_is(*given)

    threads = _kernel(monkeypatch, slow)

    def enough(*_: int) -> None:
        assert busy.wait(30)
        raise KeyboardInterrupt

    source = save_full(tmp_path / "in.h5")
    with open_checkpoint(source) as opened, pytest.raises(KeyboardInterrupt):
        publish(unchanged(opened.checkpoint), opened, tmp_path / "out.h5", overwrite=False, progress=enough)
    assert threading.active_count() == before
    assert [path.name for path in tmp_path.iterdir()] == ["in.h5"]


@needs_kernel_copy
def test_the_kernel_is_a_few_steps_ahead_and_no_further(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in (("_WORTH_A_THREAD", 0), ("_STEP", 4), ("_AHEAD", 3)):
        monkeypatch.setattr(copying, name, value)
    third, fourth = threading.Event(), threading.Event()

    def counted(*given: int) -> int:
        if len(threads) == 3:
            third.set()
        if len(threads) == 4:
            fourth.set()
        return _as_it_is(*given)

    threads = _kernel(monkeypatch, counted)

    def first(*_: int) -> None:
        assert third.wait(30)
        assert not fourth.wait(0.1)
        raise KeyboardInterrupt

    source = save_full(tmp_path / "in.h5")
    with open_checkpoint(source) as opened, pytest.raises(KeyboardInterrupt):
        publish(unchanged(opened.checkpoint), opened, tmp_path / "out.h5", overwrite=False, progress=first)


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
