"""A tensor is plain numbers, stored once, of the size it claims, whatever the library beneath says."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest
from h5py import h5d, h5s, h5t

from remap.hdf5.source import Refused
from remap.hdf5.tensors import Extent, check_tensor, native_type


@dataclass
class _Storage:
    """What libhdf5 might say of a dataset, true or not."""

    layout: int = h5d.CONTIGUOUS
    external: int = 0
    shape: tuple[int, ...] = (2, 3)
    offset: int | None = 96
    stored: int = 24
    asked: list[str] = field(default_factory=list)

    def get_create_plist(self) -> _Storage:
        self.asked.append("storage")
        return self

    def get_layout(self) -> int:
        return self.layout

    def get_external_count(self) -> int:
        return self.external

    def get_type(self) -> Any:
        return h5t.IEEE_F32LE

    def get_space(self) -> Any:
        self.asked.append("shape")
        return h5s.create_simple(self.shape) if self.shape else h5s.create(h5s.SCALAR)

    def get_offset(self) -> int | None:
        return self.offset

    def get_storage_size(self) -> int:
        return self.stored


def test_says_where_the_bytes_are() -> None:
    assert check_tensor(_Storage(), 120).extent == Extent(96, 24)


@pytest.mark.parametrize(
    ("storage", "words"),
    [
        (_Storage(stored=20), "claims 24 bytes, and the file holds 20"),
        (_Storage(stored=1 << 40), "claims 24 bytes, and the file holds"),
        (_Storage(shape=(1 << 40, 1 << 40), stored=24), "claims 4,835,703,278,458,516,698,824,704 bytes"),
        (_Storage(offset=97), "ends at byte 121, and the file at 120"),
        (_Storage(offset=None), "created but never written"),
        (_Storage(offset=None, shape=(0, 3)), None),
        (_Storage(offset=None, external=1), "stored in another file"),
        (_Storage(offset=None, layout=h5d.CHUNKED), "stored in chunks"),
        (_Storage(offset=None, layout=h5d.CHUNKED, shape=(0,)), "stored in chunks"),
        (_Storage(offset=None, layout=99), "stored in an unknown layout"),
    ],
)
def test_believes_nothing_that_contradicts_itself(storage: _Storage, words: str | None) -> None:
    if words is None:
        assert check_tensor(storage, 120).extent.size == 0
        return
    with pytest.raises(Refused, match=words):
        check_tensor(storage, 120)


def test_never_asks_a_virtual_dataset_for_its_shape() -> None:
    """To answer, libhdf5 opens the files that it names."""
    storage = _Storage(offset=None, layout=h5d.VIRTUAL)
    with pytest.raises(Refused, match="in other files"):
        check_tensor(storage, 120)
    assert storage.asked == ["storage"]


def test_gives_back_the_type_it_let_through() -> None:
    assert native_type("<f4").equal(h5t.IEEE_F32LE)
    assert native_type(">i8").equal(h5t.STD_I64BE)
