"""Nothing that differs from its description or from the input is published."""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from remap import OutputRefused, extract
from remap.formats.description import Attribute, FileDescription
from remap.hdf5.file_image import FileImage, PlacedTensor, build_image
from remap.hdf5.output import publish
from remap.hdf5.reader import open_checkpoint
from remap.hdf5.verification import read_back, require_description, require_stored, require_structure
from tests.handmade import save_full, unchanged

Case = Callable[[str, str], Path]

CONTENT = bytes(range(100))


@pytest.fixture
def output(tmp_path: Path) -> Iterator[io.FileIO]:
    (tmp_path / "out").write_bytes(CONTENT)
    with io.FileIO(tmp_path / "out", "r+b") as file:
        yield file


def test_gives_what_is_there_and_no_more(output: io.FileIO) -> None:
    assert b"".join(read_back(output, 10, 20)) == CONTENT[10:30]
    with pytest.raises(OutputRefused, match="ends too early"):
        list(read_back(output, 90, 11))


def test_every_byte_counts(output: io.FileIO) -> None:
    require_stored(output, 0, memoryview(CONTENT), "all")
    for place in range(100):
        wrong = bytearray(CONTENT)
        wrong[place] ^= 1
        with pytest.raises(OutputRefused, match="reads back differently; at all"):
            require_stored(output, 0, memoryview(wrong), "all")


@pytest.mark.parametrize(
    "tensors",
    [[], [(0, 100)], [(20, 30)], [(30, 40), (40, 50), (90, 95)], [(0, 5), (5, 25), (70, 100)], [(3, 3)]],
)
def test_structure_is_what_no_tensor_takes(output: io.FileIO, tensors: list[tuple[int, int]]) -> None:
    taken = {place for begin, end in tensors for place in range(begin, end)}
    for place in range(100):
        wrong = bytearray(CONTENT)
        wrong[place] ^= 1
        pieces = [(0, bytes(wrong[:30])), (30, bytes(wrong[30:60])), (60, bytes(wrong[60:]))]
        if place in taken:
            require_structure(output, pieces, reversed(tensors))
        else:
            with pytest.raises(OutputRefused, match="at the file's structure"):
                require_structure(output, pieces, reversed(tensors))


def test_tensors_that_overlap_are_a_bug(output: io.FileIO) -> None:
    with pytest.raises(ValueError, match="share bytes"):
        require_structure(output, [], [(10, 20), (0, 11)])


def test_every_bit_of_the_structure_is_seen_to_be_on_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, target = save_full(tmp_path / "in.h5"), tmp_path / "out.h5"
    with open_checkpoint(source) as opened:
        file = unchanged(opened.checkpoint)
        publish(file, opened, target, overwrite=False)
        with open_checkpoint(target) as written:
            extents = [extent for extent in written.extents.values() if extent.size]
        size = target.stat().st_size
        inside = {place for offset, length in extents for place in range(offset, offset + length)}
        target.unlink()
        structure = [place for place in range(0, size, 41) if place not in inside]
        for place in structure:

            def lossy(output: io.FileIO, offset: int, data: memoryview, place: int = place) -> None:
                """Store one bit wrongly."""
                wrong = bytearray(data)
                if offset <= place < offset + len(wrong):
                    wrong[place - offset] ^= 64
                os.pwrite(output.fileno(), wrong, offset)

            monkeypatch.setattr("remap.hdf5.copying.write_at", lossy)
            with pytest.raises(OutputRefused, match="reads back differently; at the file's structure"):
                publish(file, opened, target, overwrite=False)
            assert not target.exists()
    assert len(structure) > 50


Change = Callable[[FileDescription], FileDescription]
Move = Callable[[list[PlacedTensor]], list[PlacedTensor]]


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Path, Path]:
    source, target = save_full(tmp_path / "in.h5"), tmp_path / "out.h5"
    with open_checkpoint(source) as opened:
        publish(unchanged(opened.checkpoint), opened, target, overwrite=False)
    return source, target


def verify(
    pair: tuple[Path, Path],
    change: Change = lambda file: file,
    move: Move = lambda tensors: tensors,
    begin: int = 0,
) -> None:
    """Compare an output with another description, or with other offsets of its tensors."""
    with open_checkpoint(pair[0]) as opened, io.FileIO(pair[1]) as output:
        file = unchanged(opened.checkpoint)
        image = build_image(file).moved(begin)
        require_description(
            change(file), output, move(list(image.tensors)), begin=begin, size=image.size - begin
        )


def test_accepts_what_is_right(pair: tuple[Path, Path]) -> None:
    verify(pair)


def test_a_file_inside_an_archive_is_verified_too(pair: tuple[Path, Path]) -> None:
    pair[1].write_bytes(b"x" * 77 + pair[1].read_bytes() + b"x" * 10)
    verify(pair, begin=77)


def changed(number: int, **changes: Any) -> Change:
    """Change one of the groups of a description."""

    def change(file: FileDescription) -> FileDescription:
        groups = list(file.groups)
        groups[number] = replace(groups[number], **changes)
        return replace(file, groups=tuple(groups))

    return change


def altered(number: int, name: str, value: Any) -> Change:
    """Change the value of one of the attributes of a description; None leaves it out."""

    def change(file: FileDescription) -> FileDescription:
        attributes = (
            replace(one, value=value) if one.name == name else one
            for one in file.groups[number].attributes
            if one.name != name or value is not None
        )
        return changed(number, attributes=tuple(attributes))(file)

    return change


def added(number: int, name: str, value: Any) -> Change:
    """Add an attribute to a description."""

    def change(file: FileDescription) -> FileDescription:
        attributes = (*file.groups[number].attributes, Attribute(name=name, value=value, width=1))
        return changed(number, attributes=attributes)(file)

    return change


def retyped(file: FileDescription) -> FileDescription:
    (name, tensor), *rest = file.groups[3].tensors
    other = replace(tensor, dtype="<i4", transform=lambda values: values)
    return changed(3, tensors=((name, other), *rest))(file)


@pytest.mark.parametrize(
    ("change", "words", "where"),
    [
        (altered(0, "backend", None), "what it holds", "/"),
        (altered(0, "keras_version", "2.2.5"), "its keras_version", "/"),
        (altered(0, "model_config", "{}"), "its model_config", "/"),
        (altered(0, "training_config", None), "what it holds", "/"),
        (
            altered(1, "layer_names", ("model_1", "input_1", "predictions")),
            "its layer_names",
            "/model_weights",
        ),
        (altered(3, "weight_names", ()), "its weight_names", "/model_weights/model_1"),
        (added(3, "absent", "text"), "its absent", "/model_weights/model_1"),
        (added(3, "absent", ("list",)), "its absent", "/model_weights/model_1"),
        (
            lambda file: changed(3, tensors=file.groups[3].tensors[:-1])(file),
            "what it holds",
            "/model_weights/model_1",
        ),
        (retyped, "its type or shape", "/model_weights/model_1/dense_1/kernel:0"),
        (lambda file: replace(file, groups=file.groups[:-1]), "what it holds", "/"),
    ],
)
def test_every_difference_from_the_description_is_found(
    pair: tuple[Path, Path], change: Change, words: str, where: str
) -> None:
    with pytest.raises(OutputRefused, match=f"reads back differently: {words}") as caught:
        verify(pair, change)
    assert caught.value.where == where


@pytest.mark.parametrize(
    "change",
    [
        lambda file: changed(3, path=("model_weights", "model_2"))(file),
        lambda file: changed(3, tensors=(("absent:0", file.groups[3].tensors[0][1]),))(file),
        altered(1, "layer_names", "text"),
    ],
)
def test_what_cannot_be_read_back_is_refused(pair: tuple[Path, Path], change: Change) -> None:
    with pytest.raises(OutputRefused, match="what was written cannot be read back"):
        verify(pair, change)


@pytest.mark.parametrize(
    "move",
    [
        lambda tensors: [replace(tensors[0], offset=tensors[0].offset + 4), *tensors[1:]],
        lambda tensors: tensors[1:],
        lambda tensors: [
            replace(tensors[0], offset=tensors[1].offset),
            replace(tensors[1], offset=tensors[0].offset),
            *tensors[2:],
        ],
    ],
)
def test_every_tensor_is_where_it_was_compared(pair: tuple[Path, Path], move: Move) -> None:
    with pytest.raises(OutputRefused, match="a tensor that was written reads back from elsewhere") as caught:
        verify(pair, move=move)
    assert caught.value.where == "/model_weights/model_1/dense_1/kernel:0"


def test_an_output_that_cannot_be_read_back_is_not_published(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def spoilt(file: FileDescription) -> FileImage:
        image = build_image(file)
        (_, piece), *rest = image.pieces
        return replace(image, pieces=((0, piece[:8] + b"XXXX" + piece[12:]), *rest))

    monkeypatch.setattr("remap.hdf5.output.build_image", spoilt)
    with (
        open_checkpoint(save_full(tmp_path / "in.h5")) as opened,
        pytest.raises(OutputRefused, match="what was written cannot be read back"),
    ):
        publish(unchanged(opened.checkpoint), opened, tmp_path / "out.h5", overwrite=False)
    assert [path.name for path in tmp_path.iterdir()] == ["in.h5"]


FORMS = ("h5", "keras", "weights.h5")


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("era", ["keras-2.2.4", "tf.keras-2.3.4"])
def test_swapping_two_tensors_of_equal_shape_is_seen(
    case: Case, tmp_path: Path, era: str, form: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Let the image give two tensors each other's offsets, and see that the output is refused."""

    def swapping(file: FileDescription) -> FileImage:
        image = build_image(file)
        for one, other in combinations(image.tensors, 2):
            if one.tensor.shape == other.tensor.shape and one.tensor.size > 8:
                swapped = {one: replace(one, offset=other.offset), other: replace(other, offset=one.offset)}
                return replace(image, tensors=tuple(swapped.get(placed, placed) for placed in image.tensors))
        raise AssertionError("no two tensors of equal shape")

    monkeypatch.setattr("remap.hdf5.output.build_image", swapping)
    with pytest.raises(OutputRefused, match="reads back from elsewhere"):
        extract(case(era, "alternating_frozen") / "multi.h5", tmp_path / f"out.{form}")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("form", FORMS)
def test_tensors_that_would_share_bytes_are_a_bug_and_not_published(
    case: Case, tmp_path: Path, form: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def overlapping(file: FileDescription) -> FileImage:
        image = build_image(file)
        first, second, *rest = image.tensors
        return replace(image, tensors=(first, replace(second, offset=first.offset + 4), *rest))

    monkeypatch.setattr("remap.hdf5.output.build_image", overlapping)
    with pytest.raises((ValueError, OutputRefused), match=r"share bytes|reads back differently"):
        extract(case("keras-2.2.4", "conv_bn") / "multi.h5", tmp_path / f"out.{form}")
    assert list(tmp_path.iterdir()) == []


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


@pytest.mark.parametrize("form", FORMS)
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
