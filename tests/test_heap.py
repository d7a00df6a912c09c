"""Strings are found without libhdf5, and nothing on the way to them is believed."""

from __future__ import annotations

import struct
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from remap.errors import InputRefused
from remap.hdf5.heap import Strings
from remap.hdf5.refused import Refused
from remap.hdf5.source import Source

if TYPE_CHECKING:
    from pathlib import Path

LIMIT = 1 << 20
WORDS = ["dense_1/kernel:0", "", "é", "x" * 5000]


def _save(path: Path, words: list[str] = WORDS, **options: Any) -> int:
    """Write strings into a file and give the address of the header of its root group."""
    with h5py.File(path, "w", **options) as file:
        file.attrs.create("other", "something else")
        file.attrs.create("names", np.array(words, dtype=object), dtype=h5py.string_dtype())
        return int(h5py.h5o.get_info(file.id).addr)


def _read(path: Path, header: int, count: int = len(WORDS), limit: int = LIMIT) -> list[bytes]:
    source = Source.open(path)
    try:
        return Strings(source).read(header, b"names", count, limit)
    finally:
        source.close()


@pytest.mark.parametrize("libver", ["earliest", "latest"])
@pytest.mark.parametrize("ordered", [False, True])
def test_finds_what_h5py_wrote(tmp_path: Path, libver: str, ordered: bool) -> None:
    header = _save(tmp_path / "in.h5", libver=libver, track_order=ordered)
    assert _read(tmp_path / "in.h5", header) == [word.encode() for word in WORDS]


def test_finds_it_in_a_header_that_grew_into_many_pieces(tmp_path: Path) -> None:
    for libver in ("earliest", "latest"):
        with h5py.File(tmp_path / "in.h5", "w", libver=libver) as file:
            group = file.create_group("group")
            for number in range(7):
                group.attrs[f"filler{number}"] = np.arange(200)
                file.create_group(f"between{number}")
            group.attrs.create("names", np.array(WORDS, dtype=object), dtype=h5py.string_dtype())
            header = int(h5py.h5o.get_info(group.id).addr)
        assert _read(tmp_path / "in.h5", header) == [word.encode() for word in WORDS]


def test_refuses_more_bytes_than_the_limit_before_reading_any(tmp_path: Path) -> None:
    header = _save(tmp_path / "in.h5")
    with pytest.raises(Refused, match="its strings claim 5,018 bytes, and 5,017 are the most"):
        _read(tmp_path / "in.h5", header, limit=5017)


def test_refuses_more_strings_than_there_are_references(tmp_path: Path) -> None:
    header = _save(tmp_path / "in.h5")
    with pytest.raises(Refused, match="shorter than its shape says"):
        _read(tmp_path / "in.h5", header, count=5)


def test_refuses_attributes_outside_the_header(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "in.h5", "w", libver="latest") as file:
        for number in range(20):  # from the ninth on they lie in a heap of their own
            file.attrs[f"filler{number}"] = number
        file.attrs.create("names", np.array(WORDS, dtype=object), dtype=h5py.string_dtype())
        header = int(h5py.h5o.get_info(file.id).addr)
    with pytest.raises(Refused, match="in a way that Keras's files never are"):
        _read(tmp_path / "in.h5", header)


def test_refuses_a_header_of_no_known_form(tmp_path: Path) -> None:
    (tmp_path / "in.h5").write_bytes(b"\x07" * 100)
    with pytest.raises(Refused, match="no header that the format knows"):
        _read(tmp_path / "in.h5", 10)


def test_refuses_a_header_outside_the_file(tmp_path: Path) -> None:
    (tmp_path / "in.h5").write_bytes(bytes(100))
    with pytest.raises(Refused, match="points past the end"):
        _read(tmp_path / "in.h5", 90)


def _old_header(*messages: bytes, size: int | None = None) -> bytes:
    content = b"".join(messages)
    return struct.pack("<BxHII4x", 1, len(messages), 1, len(content) if size is None else size) + content


def _message(kind: int, content: bytes, flags: int = 0) -> bytes:
    return struct.pack("<HHB3x", kind, len(content), flags) + content


def _attribute(data: bytes) -> bytes:
    return struct.pack("<BxHHH", 1, 6, 0, 0) + b"names\0\0\0" + data


def test_refuses_a_header_that_continues_in_itself_for_ever(tmp_path: Path) -> None:
    (tmp_path / "in.h5").write_bytes(_old_header(_message(0x10, struct.pack("<QQ", 16, 24))))
    with pytest.raises(Refused, match="larger than any that Keras makes"):
        _read(tmp_path / "in.h5", 0)


def test_refuses_a_header_of_unheard_size(tmp_path: Path) -> None:
    (tmp_path / "in.h5").write_bytes(_old_header(size=(1 << 20) + 1) + bytes(1 << 21))
    with pytest.raises(Refused, match="larger than any that Keras makes"):
        _read(tmp_path / "in.h5", 0)


def test_passes_over_what_it_does_not_look_for(tmp_path: Path) -> None:
    header = _old_header(
        _message(0x10, b"short"),
        _message(0x0C, _attribute(bytes(64)), flags=0x02),
        _message(0x01, bytes(8)),
    )
    (tmp_path / "in.h5").write_bytes(header)
    with pytest.raises(Refused, match="in a way that Keras's files never are"):
        _read(tmp_path / "in.h5", 0)


def test_refuses_an_attribute_without_content(tmp_path: Path) -> None:
    (tmp_path / "in.h5").write_bytes(_old_header(_message(0x0C, b"abc")))
    with pytest.raises(Refused, match="an attribute without content"):
        _read(tmp_path / "in.h5", 0)


def _with_heap(path: Path, heap: bytes, reference: tuple[int, int, int] = (3, 256, 1)) -> None:
    header = _old_header(_message(0x0C, _attribute(struct.pack("<IQI", *reference))))
    path.write_bytes(header.ljust(256, b"\0") + heap)


def _heap(*objects: tuple[int, bytes], size: int | None = None) -> bytes:
    content = b"".join(
        struct.pack("<HHxxxxQ", number, 1, len(data)) + data.ljust(-(-len(data) // 8) * 8, b"\0")
        for number, data in objects
    )
    return struct.pack("<4sB3xQ", b"GCOL", 1, 16 + len(content) if size is None else size) + content


def test_finds_a_string_by_its_number(tmp_path: Path) -> None:
    _with_heap(tmp_path / "in.h5", _heap((2, b"other"), (1, b"abc"), (0, bytes(64))))
    assert _read(tmp_path / "in.h5", 0, count=1) == [b"abc"]


@pytest.mark.parametrize(
    ("heap", "words"),
    [
        (_heap((1, b"abcd")), "is not where it should be"),
        (_heap((2, b"abc")), "is not where it should be"),
        (_heap((1, b"abc"), (1, b"xyz")), "contradicts itself"),
        (_heap((1, b"abc"), (0, b"")) + _heap((1, b"abc")), None),
        (_heap((0, bytes(8)), (1, b"abc")), "is not where it should be"),
        (_heap((1, b"abc"), size=1 << 30), "there is no heap"),
        (_heap((1, b"abc"), size=8), "is not where it should be"),
        (b"GCOL\x02" + _heap((1, b"abc"))[5:], "there is no heap"),
        (b"XCOL" + _heap((1, b"abc"))[4:], "there is no heap"),
        (_heap((1, b"abc"), size=5000), "points past the end"),
        (b"GC", "points past the end"),
    ],
)
def test_believes_no_heap(tmp_path: Path, heap: bytes, words: str | None) -> None:
    _with_heap(tmp_path / "in.h5", heap)
    if words is None:
        assert _read(tmp_path / "in.h5", 0, count=1) == [b"abc"]
    else:
        with pytest.raises(Refused, match=words):
            _read(tmp_path / "in.h5", 0, count=1)


@given(st.binary(max_size=400), st.integers(0, 400))
def test_no_bytes_make_it_fail_otherwise(
    tmp_path_factory: pytest.TempPathFactory, content: bytes, header: int
) -> None:
    """Every file is either read or refused."""
    path = tmp_path_factory.getbasetemp() / "noise.h5"
    path.write_bytes(_old_header(_message(0x0C, _attribute(struct.pack("<IQI", 3, header, 1)))) + content)
    with suppress(Refused, InputRefused):
        assert len(_read(path, 0, count=1)[0]) == 3
