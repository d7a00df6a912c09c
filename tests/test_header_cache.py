"""What is told from the bytes of a header is what libhdf5 would have said of it, or nothing is."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from remap.errors import InputRefused
from remap.hdf5 import object_headers as headers
from remap.hdf5.checked_file import CheckedFile
from remap.hdf5.object_headers import HeaderCache, Superblock, read_header
from remap.hdf5.reader import OpenedCheckpoint, open_checkpoint, read_source
from remap.hdf5.source import Source
from remap.hdf5.tensors import Extent, Tensor
from tests.conftest import all_cases
from tests.handmade import write_layers

Case = Callable[[str, str], Path]

ERAS = ("keras-2.0.9", "keras-2.2.4", "tf.keras-2.3.4")
ALIKE = {
    "layer": {
        **{f"dense_{number}/kernel:0": np.full((3, 4), number, "<f4") for number in range(4)},
        **{f"dense_{number}/bias:0": np.full(4, number, "<f4") for number in range(4)},
    }
}


def _save(path: Path, **options: Any) -> Path:
    with h5py.File(path, "w", **options) as file:
        write_layers(file, ALIKE)
    return path


def _header(path: Path, name: str) -> tuple[int, int]:
    """Say where the header of a tensor begins, and how many bytes it has."""
    with h5py.File(path) as file:
        address = int(h5py.h5o.get_info(file.id, name.encode()).addr)
    source = Source.open(path)
    header = read_header(source, address, source.size)
    source.close()
    return address, header.size + (4 if header.new else 0)


def _told(path: Path, *, compared: bool = False) -> dict[str, tuple[tuple[int, ...], str, Extent]] | str:
    """Give all that is read of a file's tensors, or the refusal."""
    source = Source.open(path)
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("remap.hdf5.reader.CheckedFile", partial(CheckedFile, compared=compared))
            opened = read_source(source)
    except InputRefused as refusal:
        return refusal.what
    finally:
        source.close()
    return _tensors(opened)


def _tensors(opened: OpenedCheckpoint) -> dict[str, tuple[tuple[int, ...], str, Extent]]:
    return {
        weight.path: (weight.shape, weight.dtype, opened.extent(weight))
        for layer in opened.checkpoint.layers
        for weight in layer.weights
    }


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """Give the names of the tensors that libhdf5 is asked to open."""
    names: list[bytes] = []
    real = h5py.h5d.open

    def opening(group: Any, name: bytes) -> Any:
        names.append(name)
        return real(group, name)

    monkeypatch.setattr("remap.hdf5.checked_file.h5d.open", opening)
    return names


def _alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(HeaderCache, "find", lambda *_: None)


@pytest.mark.parametrize(("era", "name"), [case for case in all_cases() if case[0] in ERAS])
def test_real_files_say_the_same_with_the_cache_and_without(
    case: Case, era: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = sorted(case(era, name).rglob("*.h5"))
    with_cache = [_told(path) for path in paths]
    _alone(monkeypatch)
    assert [_told(path) for path in paths] == with_cache


@pytest.mark.parametrize("compared", [False, True])
def test_of_tensors_alike_only_the_first_is_opened(
    tmp_path: Path, opened: list[bytes], compared: bool
) -> None:
    found = _told(_save(tmp_path / "in.h5"), compared=compared)
    assert opened == [b"dense_0/kernel:0", b"dense_0/bias:0"]
    assert isinstance(found, dict)
    assert [told[0] for told in found.values()] == [(3, 4)] * 4 + [(4,)] * 4
    assert len({told[2].offset for told in found.values()}) == 8


def test_headers_with_checksums_are_believed_only_where_every_byte_was_compared(
    tmp_path: Path, opened: list[bytes]
) -> None:
    path = _save(tmp_path / "in.h5", libver=("v108", "v108"))
    given = _told(path)
    assert len(opened) == 8
    assert _told(path, compared=True) == given
    assert len(opened) == 10


@pytest.mark.parametrize("libver", ["earliest", "latest"])
def test_every_bit_of_a_header_says_what_libhdf5_makes_of_it(
    tmp_path: Path, libver: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = _save(tmp_path / "in.h5", libver=libver)
    address, size = _header(path, "layer/dense_2/kernel:0")
    content = path.read_bytes()
    changed = []
    for place in range(address, address + size):
        for bit in (1, 16, 128):
            damaged = bytearray(content)
            damaged[place] ^= bit
            changed.append(bytes(damaged))

    def every() -> list[object]:
        told: list[object] = []
        for number, damaged in enumerate(changed):
            other = tmp_path / f"{number}.h5"
            other.write_bytes(damaged)
            told.append(_told(other))
            other.unlink()
        return told

    with_cache = every()
    _alone(monkeypatch)
    assert every() == with_cache
    # Some bits say nothing, and some are refused: the loop has met both.
    assert len({isinstance(told, str) for told in with_cache}) == (2 if libver == "earliest" else 1)


def test_an_address_outside_of_the_file_is_for_libhdf5_to_judge(tmp_path: Path) -> None:
    path = _save(tmp_path / "in.h5")
    address, size = _header(path, "layer/dense_2/kernel:0")
    content = bytearray(path.read_bytes())
    with open_checkpoint(path) as opened:
        offset = opened.extents["/layer/dense_2/kernel:0"].offset
    place = content.index(offset.to_bytes(8, "little"), address, address + size)
    for wrong in (len(content) - 8, (1 << 64) - 1, 1 << 62):
        content[place : place + 8] = wrong.to_bytes(8, "little")
        path.write_bytes(content)
        assert isinstance(_told(path), str)


def test_two_names_for_one_header_are_two_names_for_the_same_bytes(tmp_path: Path) -> None:
    path = _save(tmp_path / "in.h5")
    with h5py.File(path, "r+") as file:
        del file["layer/dense_3/kernel:0"]
        file["layer/dense_3/kernel:0"] = file["layer/dense_2/kernel:0"]
    assert _told(path) == "this tensor shares its bytes with /layer/dense_2/kernel:0"


def _message(kind: int, content: bytes, flags: int = 0) -> bytes:
    return struct.pack("<HHB3x", kind, len(content), flags) + content


def _layout(offset: int, size: int = 8, begin: bytes = b"\3\1") -> bytes:
    return _message(8, begin + struct.pack("<QQ", offset, size) + bytes(6))


def _head(*messages: bytes) -> bytes:
    """Make a header of the old form."""
    content = b"".join(messages)
    return struct.pack("<BxHII4x", 1, len(messages), 1, len(content)) + content


@contextmanager
def _cache(
    path: Path, content: bytes, *, plain: bool = True, compared: bool = False
) -> Iterator[HeaderCache]:
    path.write_bytes(content)
    with closing(Source.open(path)) as source:
        yield HeaderCache(source, Superblock(end=len(content), plain=plain), compared=compared)


TENSOR = Tensor((2,), "<f4", Extent(16, 8))
KIND, SPACE = _message(3, bytes(16)), _message(1, bytes(16))


def test_learns_a_header_that_holds_nothing_else_than_a_plain_tensor(tmp_path: Path) -> None:
    first, second = _head(KIND, SPACE, _layout(16)), _head(KIND, SPACE, _layout(24))
    with _cache(tmp_path / "file", bytes(32) + first + second) as cache:
        cache.learn(32, TENSOR)
        assert cache.find(32 + len(first)) == Tensor((2,), "<f4", Extent(24, 8))


@pytest.mark.parametrize(
    "head",
    [
        _head(KIND, SPACE, _layout(16), _layout(16)),  # which of the two is the address?
        _head(KIND, SPACE, _layout(24)),  # not the address that libhdf5 gave
        _head(KIND, SPACE, _layout(16, 16)),  # not the size
        _head(KIND, SPACE, _layout(16, begin=b"\4\1")),  # a layout of another version
        _head(KIND, SPACE, _layout(16, begin=b"\3\2")),  # in chunks
        _head(KIND, SPACE, _message(8, b"\3\1" + bytes(6))),  # a layout cut short
        _head(KIND, SPACE, _message(0x0C, struct.pack("<Q", 16)), _layout(16)),  # an attribute
        _head(KIND, SPACE, _message(0, struct.pack("<Q", 16))),  # an address in what is no message
        _head(KIND, _message(1, bytes(16), flags=2), _layout(16)),  # a shape that lies elsewhere
        _head(KIND, SPACE, _message(0x10, struct.pack("<QQ", 0, 0)), _layout(16)),  # continued
        _head(KIND, SPACE, _message(7, bytes(8)), _layout(16)),  # bytes in other files
        _head(KIND, SPACE, _message(0, bytes(5000)), _layout(16)),  # longer than any real one
        b"\2" + _head(KIND, SPACE, _layout(16))[1:],  # of no form
        b"\1",  # cut short
    ],
)
def test_learns_nothing_from_a_header_that_may_hold_anything_else(tmp_path: Path, head: bytes) -> None:
    with _cache(tmp_path / "file", bytes(32) + head, compared=True) as cache:
        cache.learn(32, TENSOR)
        assert cache.find(32) is None


def test_learns_nothing_in_a_file_that_is_built_otherwise_than_those_of_keras(tmp_path: Path) -> None:
    with _cache(tmp_path / "file", bytes(32) + _head(KIND, SPACE, _layout(16)), plain=False) as cache:
        cache.learn(32, TENSOR)
        assert cache.find(32) is None


def test_forms_of_header_are_kept_up_to_a_number(tmp_path: Path) -> None:
    heads = [
        _head(*[_message(0, bytes(8))] * number, KIND, SPACE, _layout(16))
        for number in range(headers._FORMS + 1)
    ]
    place, found = 0, []
    with _cache(tmp_path / "file", b"".join(heads)) as cache:
        for head in heads:
            cache.learn(place, TENSOR)
            found.append(cache.find(place))
            place += len(head)
    assert found == [TENSOR] * headers._FORMS + [None]


def test_a_tensor_of_no_bytes_has_no_address_to_learn(tmp_path: Path) -> None:
    with _cache(tmp_path / "file", _head(KIND, SPACE, _layout(0, 0))) as cache:
        cache.learn(0, Tensor((0,), "<f4", Extent(0, 0)))
        assert cache.find(0) is None


def test_looks_for_no_header_behind_the_end(tmp_path: Path) -> None:
    head = _head(KIND, SPACE, _layout(16))
    with _cache(tmp_path / "file", head) as cache:
        cache.learn(0, TENSOR)
        assert cache.find(8) is None


@pytest.mark.parametrize("sizes", [(4, 8), (8, 4)])
def test_an_attribute_is_not_taken_for_the_address_where_addresses_are_short(
    tmp_path: Path, sizes: tuple[int, int], opened: list[bytes]
) -> None:
    """A note at a tensor that is equal to its address in eight bytes, where the address itself has four."""
    creation = h5py.h5p.create(h5py.h5p.FILE_CREATE)
    creation.set_sizes(*sizes)
    path = tmp_path / "in.h5"
    with h5py.File(h5py.h5f.create(bytes(path), h5py.h5f.ACC_TRUNC, creation)) as file:
        group = file.create_group("group")
        tensors = [group.create_dataset(f"tensor {number}", data=np.arange(4)) for number in range(4)]
        offsets = [tensor.id.get_offset() for tensor in tensors]
        for tensor, offset in zip(tensors, [*offsets[:3], offsets[0]], strict=True):
            tensor.attrs["note"] = np.uint64(offset)
    with closing(Source.open(path)) as source, CheckedFile(source) as checked:
        found = list(checked.tensors(("group",), [f"tensor {number}" for number in range(4)]))
    assert [tensor.extent.offset for tensor in found] == offsets
    assert len(opened) == 4
