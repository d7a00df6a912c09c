"""Where the first messages of an object header lie, in either form, or that it is no header."""

from __future__ import annotations

import pytest

from remap.hdf5.header import PREFIX, Piece, first_piece


def _new(flags: int, size: int) -> bytes:
    before = (16 if flags & 0x20 else 0) + (4 if flags & 0x10 else 0)
    return b"OHDR\2" + bytes([flags]) + bytes(before) + size.to_bytes(1 << (flags & 3), "little")


@pytest.mark.parametrize("width", range(4))
@pytest.mark.parametrize("flags", [0, 0x04, 0x10, 0x20, 0x34])
def test_a_new_header_says_how_long_it_is_behind_what_it_may_leave_out(flags: int, width: int) -> None:
    head = _new(flags | width, 200)
    assert len(head) <= PREFIX
    wanted = Piece(begin=len(head), size=200, new=True, ordered=flags in (0x04, 0x34))
    assert first_piece(head) == wanted
    assert first_piece(head.ljust(PREFIX, b"\xff")) == wanted


def test_an_old_header_says_it_at_a_fixed_place() -> None:
    head = b"\1\0\5\0\1\0\0\0" + (256).to_bytes(4, "little") + bytes(4)
    assert first_piece(head) == Piece(begin=16, size=256, new=False, ordered=False)


@pytest.mark.parametrize("head", [b"", b"\1", b"\0" * 34, b"\2" * 34, b"OHDR", b"TREE" * 8])
def test_what_begins_otherwise_is_no_header(head: bytes) -> None:
    assert first_piece(head) is None
