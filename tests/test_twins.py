"""A header told by another's bytes says what libhdf5 would have said of it, or nothing."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from remap.errors import InputRefused
from remap.hdf5 import twins
from remap.hdf5.header import first_piece
from remap.hdf5.reader import OpenedCheckpoint, open_checkpoint, read_source
from remap.hdf5.source import Source
from remap.hdf5.tensors import Extent, Tensor
from remap.hdf5.twins import Twins
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
    piece = first_piece(path.read_bytes()[address:])
    assert piece is not None
    return address, piece.begin + piece.size + (4 if piece.new else 0)


def _told(path: Path, *, compared: bool = False) -> dict[str, tuple[tuple[int, ...], str, Extent]] | str:
    """Give all that is read of a file's tensors, or the refusal."""
    source = Source.open(path)
    try:
        opened = read_source(source, compared=compared)
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

    monkeypatch.setattr("remap.hdf5.gate.h5d.open", opening)
    return names


def _alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Twins, "find", lambda *_: None)


@pytest.mark.parametrize(("era", "name"), [case for case in all_cases() if case[0] in ERAS])
def test_real_files_say_the_same_with_twins_and_without(
    case: Case, era: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = sorted(case(era, name).rglob("*.h5"))
    with_twins = [_told(path) for path in paths]
    _alone(monkeypatch)
    assert [_told(path) for path in paths] == with_twins


@pytest.mark.parametrize("compared", [False, True])
def test_of_tensors_alike_only_the_first_is_opened(
    tmp_path: Path, opened: list[bytes], compared: bool
) -> None:
    found = _told(_save(tmp_path / "in.h5"), compared=compared)
    assert opened == [b"dense_0/kernel:0", b"dense_0/bias:0"]
    assert isinstance(found, dict)
    assert [told[0] for told in found.values()] == [(3, 4)] * 4 + [(4,)] * 4
    assert len({told[2].offset for told in found.values()}) == 8


@pytest.mark.parametrize("bound", ["v108", "latest"])
def test_headers_with_checksums_are_believed_only_where_every_byte_was_compared(
    tmp_path: Path, opened: list[bytes], bound: str
) -> None:
    path = _save(tmp_path / "in.h5", libver=(bound, bound))
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

    with_twins = every()
    _alone(monkeypatch)
    assert every() == with_twins
    # Some bits say nothing, and some are refused: the loop has met both.
    assert len({isinstance(told, str) for told in with_twins}) == (2 if libver == "earliest" else 1)


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


def _bytes(path: Path, content: bytes) -> Source:
    path.write_bytes(content)
    return Source.open(path)


def _head(length: int, offset: int, *, copies: int = 1) -> bytes:
    """Make a header of the old form in which an address stands so often."""
    messages = offset.to_bytes(8, "little") * copies
    return b"\1\0\1\0" + bytes(4) + length.to_bytes(4, "little") + bytes(4) + messages.ljust(length, b"\7")


@pytest.mark.parametrize(
    "head",
    [
        _head(64, 8, copies=2),  # which of the two is the address?
        _head(64, 9),  # none of them
        _head(5000, 8),  # longer than any real one
        b"\2" + _head(64, 8)[1:],  # of no form
        b"\1",  # cut short
    ],
)
def test_learns_nothing_from_a_header_that_it_does_not_know(tmp_path: Path, head: bytes) -> None:
    source = _bytes(tmp_path / "file", bytes(32) + head)
    known = Twins(source, compared=True)
    known.learn(32, Tensor((2,), "<f4", Extent(8, 8)))
    assert known.find(32) is None
    source.close()


def test_forms_of_header_are_kept_up_to_a_number(tmp_path: Path) -> None:
    heads = [_head(64 + 8 * number, 8) for number in range(twins._FORMS + 1)]
    source = _bytes(tmp_path / "file", b"".join(heads))
    known, tensor, place = Twins(source, compared=False), Tensor((2,), "<f4", Extent(8, 8)), 0
    found = []
    for head in heads:
        known.learn(place, tensor)
        found.append(known.find(place))
        place += len(head)
    source.close()
    assert found == [tensor] * twins._FORMS + [None]


def test_a_tensor_of_no_bytes_has_no_address_to_learn(tmp_path: Path) -> None:
    source = _bytes(tmp_path / "file", _head(64, 0))
    known = Twins(source, compared=False)
    known.learn(0, Tensor((0,), "<f4", Extent(0, 0)))
    assert known.find(0) is None
    source.close()
