"""The input is opened once, read-only, and whatever goes wrong with it is said."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

import pytest

from remap.errors import InputRefused, OutputRefused
from remap.hdf5.source import CHUNK, FileSource, Source

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "file.h5"
    path.write_bytes(bytes(range(256)) * 8192)
    return path


def test_gives_chunks_that_together_are_the_range(file: Path) -> None:
    source = Source.open(file)
    try:
        pieces = [bytes(piece) for piece in source.chunks(3, CHUNK + 10)]
    finally:
        source.close()
    assert [len(piece) for piece in pieces] == [CHUNK, 10]
    assert b"".join(pieces) == file.read_bytes()[3 : CHUNK + 13]


def test_an_empty_range_has_no_chunks(file: Path) -> None:
    source = Source.open(file)
    assert list(source.chunks(0, 0)) == []
    source.close()


def test_refuses_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(InputRefused, match="there is no such file"):
        Source.open(tmp_path / "missing.h5")


def test_refuses_a_name_that_no_system_takes() -> None:
    with pytest.raises(InputRefused, match="cannot be opened"):
        Source.open("a\0b")


def test_refuses_a_file_that_may_not_be_read(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: str, _flags: int) -> int:
        raise PermissionError(13, "Permission denied", path)

    monkeypatch.setattr("remap.hdf5.source.os.open", refuse)
    with pytest.raises(InputRefused, match="Permission denied"):
        Source.open(file)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_refuses_a_pipe_without_waiting_for_a_writer(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.h5")
    with pytest.raises(InputRefused, match="it is a pipe or a device"):
        Source.open(tmp_path / "pipe.h5")


def test_refuses_a_directory(tmp_path: Path) -> None:
    with pytest.raises(InputRefused, match="it is a directory"):
        Source.open(tmp_path)


def test_a_directory_that_cannot_even_be_opened_is_named_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: str, _flags: int) -> int:
        raise IsADirectoryError(21, "Is a directory", path)

    monkeypatch.setattr("remap.hdf5.source.os.open", refuse)
    with pytest.raises(InputRefused, match="it is a directory"):
        Source.open(tmp_path)


def test_notices_that_the_file_was_changed_meanwhile(file: Path) -> None:
    source = Source.open(file)
    source.require_unchanged()
    with file.open("r+b") as other:
        other.write(b"x")
    status = file.stat()
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns + 1))
    with pytest.raises(InputRefused, match="was changed while it was read"):
        source.require_unchanged()
    source.close()


def test_never_opens_the_input_for_writing(file: Path) -> None:
    before = file.read_bytes()
    source = Source.open(file)
    assert source.descriptor is not None
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.write(source.descriptor, b"x")
    source.close()
    assert file.read_bytes() == before


def test_knows_itself_under_another_name(file: Path, tmp_path: Path) -> None:
    (tmp_path / "other.h5").hardlink_to(file)
    source = Source.open(file)
    assert source.is_same(str(tmp_path / "other.h5"))
    assert not source.is_same(str(tmp_path))
    assert not source.is_same(str(tmp_path / "none.h5"))
    source.close()
    assert stat.S_ISREG(file.stat().st_mode)


def test_refuses_what_lies_past_the_end(file: Path) -> None:
    source = Source.open(file)
    with pytest.raises(InputRefused, match="the file ends before"):
        source.read_into(memoryview(bytearray(10)), source.size - 5)
    source.close()


def test_blames_whom_it_was_told_to_blame(file: Path) -> None:
    source = FileSource(os.open(file, os.O_RDONLY), "the output", refusal=OutputRefused)
    with pytest.raises(OutputRefused):
        source.read_into(memoryview(bytearray(1)), source.size)
    source.close()


# As libhdf5's driver.


def test_as_a_driver_it_gives_zeros_after_a_fault_and_remembers_it(file: Path) -> None:
    source = Source.open(file)
    source.seek(source.size - 2)
    view = memoryview(bytearray(b"x" * 8))
    assert source.readinto(view) == 8
    assert bytes(view) == bytes(8)
    source.seek(0)
    assert source.read(4) == bytes(4)
    with pytest.raises(InputRefused, match="the file ends before"):
        source.raise_fault()
    source.close()


def test_as_a_driver_it_refuses_a_single_read_of_unheard_size(file: Path) -> None:
    source = Source.open(file)
    source.seek(0)
    view = memoryview(bytearray((16 << 20) + 1))
    assert source.readinto(view) == len(view)
    with pytest.raises(InputRefused, match="claims 16,777,217 bytes"):
        source.raise_fault()
    source.close()


def test_as_a_driver_it_reads_where_it_was_told(file: Path) -> None:
    source = Source.open(file)
    assert source.seek(0, os.SEEK_END) == source.tell() == source.size
    source.seek(7)
    assert source.read(3) == b"\x07\x08\x09"
    source.flush()
    source.raise_fault()
    source.close()


def test_as_a_driver_it_lets_an_interruption_through_only_afterwards(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    source = Source.open(file)
    monkeypatch.setattr(Source, "read_into", interrupt)
    assert source.read(3) == bytes(3)
    with pytest.raises(KeyboardInterrupt):
        source.raise_fault()
    source.close()


def test_notices_that_the_file_became_shorter(file: Path) -> None:
    source = Source.open(file)
    os.truncate(file, 100)
    with pytest.raises(InputRefused, match="the file ends before"):
        source.read_into(memoryview(bytearray(10)), 95)
    source.close()
