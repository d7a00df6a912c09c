"""Today's formats: nothing that differs from what was meant passes for written."""

from __future__ import annotations

import io
import os
from dataclasses import replace
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from remap import OutputRefused, extract
from remap.checkpoint import Weight
from remap.hdf5 import store
from remap.keras3.tensors import Group, OutputTensor, keep

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    Case = Callable[[str, str], Path]

PLACES = 40


def _spoil(patch: pytest.MonkeyPatch, place: int) -> None:
    """Let the disk store another bit at a place of the file, whoever writes it."""

    class FileIO(io.FileIO):
        def write(self, buffer: Any, /) -> int:
            data, at = bytearray(buffer), self.tell()
            if at <= place < at + len(data):
                data[place - at] ^= 1
            return int(super().write(data))

    def copy(source: int, target: int, count: int, start: int, at: int) -> int:
        data = bytearray(os.pread(source, count, start))
        if at <= place < at + len(data):
            data[place - at] ^= 1
        return os.pwrite(target, data, at)

    patch.setattr("remap.hdf5.output.io", SimpleNamespace(FileIO=FileIO))
    patch.setattr(os, "copy_file_range", copy, raising=False)


@pytest.mark.parametrize("form", ["keras", "weights.h5"])
@pytest.mark.parametrize("name", ["conv_bn", "recurrent"])
def test_what_reads_back_differently_is_not_published(
    case: Case, tmp_path: Path, name: str, form: str
) -> None:
    source, target = case("keras-2.2.4", name) / "multi.h5", tmp_path / f"out.{form}"
    extract(source, target)
    whole = target.read_bytes()
    target.unlink()
    refused = 0
    for number in range(PLACES):
        place = len(whole) * (2 * number + 1) // (2 * PLACES)
        with pytest.MonkeyPatch.context() as patch:
            _spoil(patch, place)
            told = ""
            try:
                extract(source, target)
            except OutputRefused as refusal:
                told = refusal.what
                refused += 1
        if told:
            assert told.endswith("reads back differently")
        else:
            assert target.read_bytes() == whole  # nobody wrote there: room that is left
            target.unlink()
        assert list(tmp_path.iterdir()) == []
    assert refused > PLACES // 2


def test_tensors_that_would_share_bytes_are_a_bug_and_not_published(
    case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    draw = store._draw

    def overlapping(groups: Sequence[Group]) -> store._Drawn:
        drawn = draw(groups)
        first, second, *rest = drawn.variables
        return replace(drawn, variables=(first, replace(second, offset=first.offset + 4), *rest))

    monkeypatch.setattr(store, "_draw", overlapping)
    with pytest.raises(ValueError, match="share bytes"):
        extract(case("keras-2.2.4", "conv_bn") / "multi.h5", tmp_path / "out.weights.h5")
    assert list(tmp_path.iterdir()) == []


def _kept(name: str = "a") -> OutputTensor:
    return keep(Weight(name=name, path=f"/{name}", shape=(2,), dtype="<f4"))


@pytest.mark.parametrize(
    ("groups", "words"),
    [
        ([Group(path="layers/a\nb", name="a")], "does not lead to one place"),
        ([Group(path="layers/..", name="a")], "does not lead to one place"),
        ([Group(path="layers/a", name="a\0b")], "cannot be stored"),
        ([Group(path="layers/a", name="a")] * 2, "two things in the output"),
        (
            [
                Group(path="layers/a", name="a", variables=(_kept(),)),
                Group(path="layers/a/vars/0", name="b", variables=(_kept(),)),
            ],
            "two things in the output",
        ),
        (
            [
                Group(path="layers/a/vars/0", name="b", variables=(_kept(),)),
                Group(path="layers/a", name="a", variables=(_kept(),)),
            ],
            "two things in the output",
        ),
        (
            [
                Group(path="layers/a/vars/b", name="b"),
                Group(path="layers/a", name="a", variables=(_kept(),)),
            ],
            "two things in the output",
        ),
    ],
)
def test_names_that_cannot_stand_in_one_file_are_refused(groups: list[Group], words: str) -> None:
    with pytest.raises(OutputRefused, match=words):
        store._draw(groups)
