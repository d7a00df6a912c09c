"""libhdf5 reads strings of variable length only where everything on the way to them is as the format says."""

from __future__ import annotations

import struct
from contextlib import closing, suppress
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from remap.errors import InputRefused
from remap.hdf5.object_headers import Strings, Superblock
from remap.hdf5.source import Refused, Source

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


def _read(
    path: Path, header: int, count: int = len(WORDS), limit: int = LIMIT, *, plain: bool = True
) -> list[bytes]:
    source = Source.open(path)
    try:
        return Strings(source, Superblock(end=source.size, plain=plain)).check(header, b"names", count, limit)
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
    with pytest.raises(Refused, match="not as long as its shape says"):
        _read(tmp_path / "in.h5", header, count=5)


def test_refuses_attributes_outside_the_header(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "in.h5", "w", libver="latest") as file:
        for number in range(20):  # from the ninth on they lie in a heap of their own
            file.attrs[f"filler{number}"] = number
        file.attrs.create("names", np.array(WORDS, dtype=object), dtype=h5py.string_dtype())
        header = int(h5py.h5o.get_info(file.id).addr)
    with pytest.raises(Refused, match="densely"):
        _read(tmp_path / "in.h5", header)


def test_refuses_a_header_of_no_known_form(tmp_path: Path) -> None:
    (tmp_path / "in.h5").write_bytes(b"\x07" * 100)
    with pytest.raises(Refused, match="a version that the format does not define"):
        _read(tmp_path / "in.h5", 10)


def test_refuses_a_header_outside_the_file(tmp_path: Path) -> None:
    (tmp_path / "in.h5").write_bytes(bytes(100))
    with pytest.raises(Refused, match="points past the end"):
        _read(tmp_path / "in.h5", 200)


def _old_header(*messages: bytes, size: int | None = None) -> bytes:
    content = b"".join(messages)
    return struct.pack("<BxHII4x", 1, len(messages), 1, len(content) if size is None else size) + content


def _message(kind: int, content: bytes, flags: int = 0) -> bytes:
    size = -(-len(content) // 8) * 8
    return struct.pack("<HHB3x", kind, size, flags) + content.ljust(size, b"\0")


def _attribute(data: bytes, *, version: int = 1, flags: int = 0, name: bytes = b"names\0") -> bytes:
    padded = name.ljust(-(-len(name) // 8) * 8, b"\0") if version == 1 else name
    return struct.pack("<BBHHH", version, flags, len(name), 0, 0) + padded + data


@pytest.mark.parametrize(
    ("messages", "words"),
    [
        ((_message(0x0C, _attribute(bytes(16)), 2),), "messages that Keras never writes"),  # shared
        ((_message(0x01, bytes(8)),), "messages that Keras never writes"),  # a dataset's
        ((_message(0x30, bytes(8)),), "messages that Keras never writes"),  # of nobody
        (
            (_message(0x15, b"\0\0" + b"\xff" * 22),),
            "densely",
        ),  # the old form of header knows no such message
        ((_message(0x0C, _attribute(bytes(16))),) * 2, "two attributes of one name"),
        (
            (_message(0x0C, _attribute(bytes(16), version=2, flags=1)),),
            "a version that Keras never writes",
        ),
        ((_message(0x0C, _attribute(bytes(16), version=4)),), "a version that Keras never writes"),
        ((_message(0x0C, _attribute(bytes(16), name=b"names\0\0\0")),), "does not end where it should"),
        ((_message(0x0C, _attribute(bytes(16), name=b"names")),), "does not end where it should"),
        ((_message(0x0C, _attribute(bytes(16), name=b"")),), "does not end where it should"),
        ((_message(0x0C, struct.pack("<BxHHH", 1, 6, 900, 0) + b"names\0\0\0"),), "without content"),
        ((_message(0x0C, _attribute(bytes(16), name=b"other\0")),), "not among the attributes in the header"),
        ((_message(0x0C, _attribute(bytes(24))),), "not as long as its shape says"),
        ((_message(0x0C, _attribute(bytes(8))),), "not as long as its shape says"),
    ],
)
def test_refuses_a_header_of_another_form_than_libhdf5_writes_for_keras(
    tmp_path: Path, messages: tuple[bytes, ...], words: str
) -> None:
    (tmp_path / "in.h5").write_bytes(_old_header(*messages))
    with pytest.raises(Refused, match=words):
        _read(tmp_path / "in.h5", 0, count=1)


@pytest.mark.parametrize(
    ("content", "dense"),
    [
        (b"\0\0" + b"\xff" * 16, False),
        (b"\0\1\3\0" + b"\xff" * 16, False),
        (b"\0\3\3\0" + b"\xff" * 24, False),
        (b"\0\0" + bytes(8) + b"\xff" * 8, True),
        (b"\0\1\3\0" + bytes(8) + b"\xff" * 8, True),
        (b"\1\0" + b"\xff" * 16, True),  # of a version that the format does not define
        (b"\0", True),
    ],
)
def test_attributes_in_a_heap_of_their_own_are_refused(tmp_path: Path, content: bytes, dense: bool) -> None:
    messages = b"".join(
        struct.pack("<BHB", kind, len(body), 0) + body
        for kind, body in ((0x15, content), (0x0C, _attribute(bytes(16))))
    )
    header = b"OHDR\2\0" + bytes([len(messages)]) + messages + bytes(4)
    (tmp_path / "in.h5").write_bytes(header)
    if dense:
        with pytest.raises(Refused, match="densely"):
            _read(tmp_path / "in.h5", 0, count=1)
    else:
        assert _read(tmp_path / "in.h5", 0, count=1) == [b""]


def test_refuses_a_file_whose_addresses_are_of_another_size(tmp_path: Path) -> None:
    header = _save(tmp_path / "in.h5")
    with pytest.raises(Refused, match="is one that Keras never writes"):
        _read(tmp_path / "in.h5", header, plain=False)


def test_refuses_an_attribute_without_content(tmp_path: Path) -> None:
    (tmp_path / "in.h5").write_bytes(_old_header(_message(0x0C, b"")))
    with pytest.raises(Refused, match="an attribute without content"):
        _read(tmp_path / "in.h5", 0)


def _with_heap(path: Path, heap: bytes, reference: tuple[int, int, int] = (3, 256, 1)) -> None:
    header = _old_header(_message(0x0C, _attribute(struct.pack("<IQI", *reference))))
    path.write_bytes(header.ljust(256, b"\0") + heap)


def _heap(*objects: tuple[int, bytes], size: int = 4096, free: int | None = None) -> bytes:
    """Make a heap as libhdf5 does: 4,096 bytes, of which the last object is the room that is left."""
    content = b"".join(
        struct.pack("<HHxxxxQ", number, 1, len(data)) + data.ljust(-(-len(data) // 8) * 8, b"\0")
        for number, data in objects
    )
    left = 4096 - 16 - len(content)
    room = struct.pack("<HHxxxxQ", 0, 0, max(0, left) if free is None else free).ljust(left, b"\0")
    return struct.pack("<4sB3xQ", b"GCOL", 1, size) + content + room


def test_finds_a_string_by_its_number(tmp_path: Path) -> None:
    _with_heap(tmp_path / "in.h5", _heap((2, b"other"), (1, b"abc")))
    assert _read(tmp_path / "in.h5", 0, count=1) == [b"abc"]


def test_a_heap_may_be_full_but_for_less_than_a_head(tmp_path: Path) -> None:
    _with_heap(tmp_path / "in.h5", _heap((1, b"abc"), (2, bytes(4096 - 16 - 24 - 16 - 8)))[:4096])
    assert _read(tmp_path / "in.h5", 0, count=1) == [b"abc"]


@pytest.mark.parametrize("reference", [(0, 0, 0), (0, 256, 2)])
def test_an_empty_string_is_nowhere_or_an_object_of_no_bytes(
    tmp_path: Path, reference: tuple[int, int, int]
) -> None:
    _with_heap(tmp_path / "in.h5", _heap((1, b"abc"), (2, b"")), reference)
    assert _read(tmp_path / "in.h5", 0, count=1) == [b""]


@pytest.mark.parametrize(
    ("heap", "words"),
    [
        (_heap((1, b"abcd")), "is not where it should be"),
        (_heap((2, b"abc")), "is not where it should be"),
        (_heap((1, b"abc"), (1, b"xyz")), "contradicts itself"),
        (_heap((0, bytes(8)), (1, b"abc")), "contradicts itself"),
        (_heap((1, b"abc"), free=0), "contradicts itself"),  # for ever, in libhdf5
        (_heap((1, b"abc"), free=16), "contradicts itself"),
        (_heap((1, b"abc"), (2, bytes(5000))), "contradicts itself"),
        (_heap((1, b"abc"), size=1 << 30), "there is no global heap"),
        (_heap((1, b"abc"), size=4088), "there is no global heap"),
        (b"GCOL\x02" + _heap((1, b"abc"))[5:], "there is no global heap"),
        (b"XCOL" + _heap((1, b"abc"))[4:], "there is no global heap"),
        (_heap((1, b"abc"), size=5000), "points past the end"),
        (b"GC", "points past the end"),
    ],
    ids=str,
)
def test_believes_no_heap_that_libhdf5_does_not_write(tmp_path: Path, heap: bytes, words: str) -> None:
    _with_heap(tmp_path / "in.h5", heap)
    with pytest.raises(Refused, match=words):
        _read(tmp_path / "in.h5", 0, count=1)


def test_heaps_that_overlap_are_not_read_again_and_again(tmp_path: Path) -> None:
    """Each heap is the one string of the heap before: sixty of them would be thirty times the file."""
    total, count = 1 << 13, 60
    sizes = [total - 32 * number for number in range(count)]
    references = [struct.pack("<IQI", size - 32, 4096 + total - size, 1) for size in sizes]
    heads = [struct.pack("<4sB3xQHHxxxxQ", b"GCOL", 1, size, 1, 1, size - 32) for size in sizes]
    header = _old_header(_message(0x0C, _attribute(b"".join(references))))
    heaps = b"".join(heads).ljust(total, b"\0")
    (tmp_path / "in.h5").write_bytes(header.ljust(4096, b"\0") + heaps)
    read: list[int] = []
    with closing(Source.open(tmp_path / "in.h5")) as source:
        real = source.read_into

        def counting(view: memoryview, offset: int) -> None:
            read.append(len(view))
            real(view, offset)

        source.read_into = counting  # type: ignore[method-assign]
        strings = Strings(source, Superblock(end=source.size, plain=True))
        with pytest.raises(Refused, match="more bytes together than the file"):
            strings.check(0, b"names", count, LIMIT)
        assert sum(read) < 3 * source.size


@given(st.binary(max_size=400), st.integers(0, 400))
def test_no_bytes_make_it_fail_otherwise(
    tmp_path_factory: pytest.TempPathFactory, content: bytes, header: int
) -> None:
    """Every file is either read or refused."""
    path = tmp_path_factory.getbasetemp() / "noise.h5"
    path.write_bytes(_old_header(_message(0x0C, _attribute(struct.pack("<IQI", 3, header, 1)))) + content)
    with suppress(Refused, InputRefused):
        assert len(_read(path, 0, count=1)[0]) == 3


def test_headers_are_not_read_again_and_again(tmp_path: Path) -> None:
    """Two headers that share a large block take turns."""
    big = _message(0, bytes(20_000))
    names = _message(0x0C, _attribute(b""))
    size = 16 + 24 + len(names)
    content = bytearray()
    for _ in range(2):
        link = struct.pack("<HHB3xQQ", 0x10, 16, 0, 2 * size, len(big))
        content += struct.pack("<BxHII4x", 1, 3, 1, size - 16) + link + names
    (tmp_path / "in.h5").write_bytes(content + big)
    with closing(Source.open(tmp_path / "in.h5")) as source:
        strings = Strings(source, Superblock(end=source.size, plain=True))
        for turn in range(4):
            assert strings.check(turn % 2 * size, b"names", 0, LIMIT) == []
            assert strings.check(turn % 2 * size, b"names", 0, LIMIT) == []  # read once
        with pytest.raises(Refused, match="the headers of its groups have more bytes together than the file"):
            strings.check(0, b"names", 0, LIMIT)
