"""Superblocks and object headers are followed as the format says, and refused where they leave it."""

from __future__ import annotations

import struct
from contextlib import closing
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np
import pytest
from h5py import h5f, h5p

from remap.hdf5.identify import SIGNATURE
from remap.hdf5.object_headers import Header, Superblock, read_header, read_superblock
from remap.hdf5.source import Refused, Source

if TYPE_CHECKING:
    from pathlib import Path


def _header(path: Path, content: bytes, address: int = 0) -> Header:
    path.write_bytes(content)
    source = Source.open(path)
    try:
        return read_header(source, address, source.size)
    finally:
        source.close()


def _superblock(path: Path) -> Superblock:
    source = Source.open(path)
    try:
        return read_superblock(source)
    finally:
        source.close()


def _old(*messages: bytes, count: int | None = None, size: int | None = None) -> bytes:
    content = b"".join(messages)
    fields = len(messages) if count is None else count, 1, len(content) if size is None else size
    return struct.pack("<BxHII4x", 1, *fields) + content


def _old_message(kind: int, content: bytes, flags: int = 0) -> bytes:
    return struct.pack("<HHB3x", kind, len(content), flags) + content


def _new(*messages: bytes, flags: int = 0, gap: int = 0) -> bytes:
    between = bytes((16 if flags & 0x20 else 0) + (4 if flags & 0x10 else 0))
    content = b"".join(messages) + bytes(gap)
    size = len(content).to_bytes(1 << (flags & 3), "little")
    return b"OHDR\2" + bytes([flags]) + between + size + content + bytes(4)


def _new_message(kind: int, content: bytes, *, ordered: bool = False) -> bytes:
    return struct.pack("<BHB", kind, len(content), 0) + (b"\7\7" if ordered else b"") + content


@pytest.mark.parametrize("width", range(4))
@pytest.mark.parametrize("flags", [0, 0x04, 0x10, 0x20, 0x34])
def test_a_new_header_says_how_long_it_is_behind_what_it_may_leave_out(
    tmp_path: Path, flags: int, width: int
) -> None:
    messages = [_new_message(kind, b"abc", ordered=bool(flags & 4)) for kind in (1, 3)]
    content = _new(*messages, flags=flags | width, gap=3)
    header = _header(tmp_path / "file", content)
    assert header.new
    assert header.size == len(content) - 4
    assert [(message.kind, message.content) for message in header.messages] == [(1, b"abc"), (3, b"abc")]
    for message in header.messages:
        assert content[message.offset : message.offset + 3] == b"abc"


def test_an_old_header_says_it_at_a_fixed_place(tmp_path: Path) -> None:
    header = _header(tmp_path / "file", _old(_old_message(1, b"12345678"), _old_message(8, b"")))
    assert (header.new, header.pieces, header.size) == (False, 1, 16 + 16 + 8)
    assert [(message.kind, message.offset) for message in header.messages] == [(1, 24), (8, 40)]


@pytest.mark.parametrize("new", [False, True])
def test_messages_in_a_continuation_follow_those_before_it(tmp_path: Path, new: bool) -> None:
    message = _new_message if new else _old_message
    block = message(5, b"12345678")
    block = b"OCHK" + block + bytes(4) if new else block
    where = struct.pack("<QQ", 200, len(block))
    head = (_new if new else _old)(message(0x10, where), message(1, b"abcdefgh"))
    if not new:
        head = _old(message(0x10, where), message(1, b"abcdefgh"), count=3)
    header = _header(tmp_path / "file", head.ljust(200, b"\0") + block)
    assert [message.kind for message in header.messages] == [0x10, 1, 5]
    assert header.pieces == 2


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\1",
        b"\0" * 34,
        b"\2" * 34,
        b"OHDR",
        b"TREE" * 8,
        _new()[:4] + b"\3" + _new()[5:],  # version 3
        _new()[:5] + b"\x40" + _new()[6:] * 20,  # a flag that is not defined
        _new(flags=0x37)[:12],  # cut short
    ],
)
def test_what_begins_otherwise_is_no_header(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(Refused, match="a version that the format does not define"):
        _header(tmp_path / "file", content)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (_old(_old_message(1, bytes(8)), count=2), "as many messages as it says"),
        (_old(_old_message(1, bytes(7)), size=15), "within a message"),  # not a multiple of eight
        (_old(_old_message(1, bytes(8)), size=20), "within a message|past the end"),
        (_old(_old_message(1, bytes(8)), bytes(4), count=1), "within a message"),
        (_old(struct.pack("<HHB3x", 1, 64, 0)), "within a message"),
        (_old(size=1 << 21), "larger than any"),
        (_old(size=500), "past the end"),
        (_new(struct.pack("<BHB", 1, 64, 0)), "within a message"),
        (_old(_old_message(0x10, bytes(8))), "continues at a place that does not belong to it"),
        (
            _old(_old_message(0x10, struct.pack("<QQ", 0, 24), flags=2)),
            "continues at a place that does not belong to it",
        ),
        (_old(_old_message(0x10, struct.pack("<QQ", 1 << 40, 24))), "past the end"),
        (_old(_old_message(0x10, struct.pack("<QQ", 16, 24))), "larger than any"),  # continues in itself
        (
            _new(_new_message(0x10, struct.pack("<QQ", 0, 24))),
            "continues at a place that does not belong to it",
        ),
        (
            _new(_new_message(0x10, struct.pack("<QQ", 0, 7))),
            "continues at a place that does not belong to it",
        ),
    ],
)
def test_refuses_a_header_that_contradicts_itself(tmp_path: Path, content: bytes, words: str) -> None:
    with pytest.raises(Refused, match=words):
        _header(tmp_path / "file", content)


@pytest.mark.parametrize("libver", ["earliest", "v108", "latest"])
@pytest.mark.parametrize("ordered", [False, True])
def test_reads_every_header_that_libhdf5_writes(tmp_path: Path, libver: str, ordered: bool) -> None:
    path = tmp_path / "in.h5"
    with h5py.File(path, "w", libver=libver, track_order=ordered) as file:
        for number in range(7):
            file.attrs[f"filler {number}"] = np.arange(100)
            file.create_dataset(f"between {number}", data=np.arange(3))
        address = int(h5py.h5o.get_info(file.id).addr)
        messages = int(h5py.h5o.get_info(file.id).hdr.mesg.present)
    header = _header(path, path.read_bytes(), address)
    assert header.pieces > 1
    assert sum(message.kind == 0x0C for message in header.messages) == 7
    assert messages == sum(1 << kind for kind in {message.kind for message in header.messages})


def _created(path: Path, *, sizes: tuple[int, int] = (8, 8), libver: Any = None, paged: bool = False) -> Path:
    creation, access = h5p.create(h5p.FILE_CREATE), h5p.create(h5p.FILE_ACCESS)
    creation.set_sizes(*sizes)
    if libver is not None:
        access.set_libver_bounds(libver, h5f.LIBVER_LATEST)
    if paged:
        creation.set_file_space_strategy(h5f.FSPACE_STRATEGY_PAGE, True, 1)
    h5py.File(h5f.create(bytes(path), h5f.ACC_TRUNC, creation, access)).close()
    return path


@pytest.mark.parametrize("libver", [None, h5f.LIBVER_V18, h5f.LIBVER_LATEST])
def test_a_superblock_says_where_the_file_ends(tmp_path: Path, libver: Any) -> None:
    path = _created(tmp_path / "in.h5", libver=libver)
    size = path.stat().st_size
    assert _superblock(path) == Superblock(end=size, plain=True)
    path.write_bytes(path.read_bytes() + bytes(100))
    assert _superblock(path) == Superblock(end=size, plain=True)


@pytest.mark.parametrize("sizes", [(4, 8), (8, 4), (4, 4), (16, 16)])
@pytest.mark.parametrize("libver", [None, h5f.LIBVER_V18])
def test_other_sizes_of_addresses_are_not_plain(tmp_path: Path, sizes: tuple[int, int], libver: Any) -> None:
    path = _created(tmp_path / "in.h5", sizes=sizes, libver=libver)
    assert _superblock(path) == Superblock(end=path.stat().st_size, plain=False)


def test_a_superblock_with_an_extension_is_not_plain(tmp_path: Path) -> None:
    assert not _superblock(_created(tmp_path / "in.h5", paged=True)).plain


def test_what_the_superblock_says_behind_the_file_is_not_read(tmp_path: Path) -> None:
    path = _created(tmp_path / "in.h5")
    path.write_bytes(path.read_bytes()[:-1])
    assert _superblock(path).end == path.stat().st_size


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (SIGNATURE, "version that the format does not define"),
        (SIGNATURE + b"\4", "version that the format does not define"),
        (SIGNATURE + b"\2\3\3", "damaged"),
        (SIGNATURE + b"\2\x08\x08" + bytes(20), "damaged"),
        (SIGNATURE + b"\2\x08\x08\0" + (512).to_bytes(8, "little") + bytes(30), "base address"),
    ],
)
def test_refuses_a_superblock_that_it_does_not_know(tmp_path: Path, content: bytes, words: str) -> None:
    (tmp_path / "in.h5").write_bytes(content)
    with pytest.raises(Refused, match=words):
        _superblock(tmp_path / "in.h5")


def test_pieces_that_overlap_are_refused(tmp_path: Path) -> None:
    """Each of 200 continuations leads to the same block: two hundred times the file would be read."""
    block = _old_message(0, bytes(8000))
    first = 16 + 200 * 24
    links = [_old_message(0x10, struct.pack("<QQ", first, len(block))) for _ in range(200)]
    with pytest.raises(Refused, match="larger than any"):
        _header(tmp_path / "in.h5", _old(*links, count=400) + block)


@pytest.mark.parametrize("limits", [{"pieces": 1}, {"size": 63}])
def test_a_caller_may_ask_for_a_smaller_header(tmp_path: Path, limits: dict[str, int]) -> None:
    content = _old(_old_message(0x10, struct.pack("<QQ", 40, 64)), count=2) + _old_message(0, bytes(56))
    assert _header(tmp_path / "in.h5", content).pieces == 2
    with closing(Source.open(tmp_path / "in.h5")) as source, pytest.raises(Refused, match="larger than any"):
        read_header(source, 0, source.size, **limits)
