"""Two files are compared right: conversions are equal, a single changed bit is found, what cannot be told is said."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import h5py
import pytest
from typer.testing import CliRunner

import remap
from remap import Comparison, InputRefused, RemapError, compare, extract
from remap.cli import app
from remap.console.comparison import comparison_lines
from remap.hdf5.keras3_reader import open_keras3
from remap.hdf5.reader import open_checkpoint
from remap.isolation import Isolation
from tests.conftest import all_cases
from tests.documented import require_documented

Case = Callable[[str, str], Path]

ERAS = ("keras-2.0.9", "keras-2.2.4", "tf.keras-1.13.2", "tf.keras-2.3.4")
FORMS = ("h5", "keras", "weights.h5")
# Among these: hard_sigmoid, cells of recurrent layers, frozen layers, models in models, depthwise kernels.
CHANGED = ("conv_bn", "recurrent", "nested_frozen_layers")


def invoke(*words: object) -> SimpleNamespace:
    with Isolation() as isolation:
        result = CliRunner().invoke(app, [str(word) for word in words], obj=isolation)
    return SimpleNamespace(code=result.exit_code, out=result.stdout)


def unlike(found: Comparison) -> list[str]:
    return [tensor.status for tensor in found.tensors if not tensor.equal]


@pytest.mark.parametrize("era", ERAS)
def test_every_conversion_of_a_fixture_is_equal_to_it(case: Case, tmp_path: Path, era: str) -> None:
    compared = 0
    for name in [name for found, name in all_cases() if found == era]:
        source = case(era, name) / "multi.h5"
        for form in FORMS:
            target = tmp_path / f"{name}.{form}"
            try:
                extract(source, target)
            except (RemapError, OSError):
                continue
            found = compare(source, target)
            assert (name, form, found.verdict, unlike(found)) == (name, form, "equal", [])
            assert found.optimizer in (None, "equal")
            compared += 1
    assert compared >= 8


@pytest.mark.parametrize("era", ERAS)
def test_files_that_old_keras_saved_of_one_model_are_equal(case: Case, era: str) -> None:
    names = [name for found, name in all_cases() if found == era and not name.startswith("gan")]
    files = ("multi.h5", "multi_weights.h5", "single_weights.h5")
    for name in names:
        folder = case(era, name)
        pairs = [(folder / file, folder / "single.h5") for file in files]
        for one, other in pairs:
            if one.exists() and other.exists():
                assert (name, one.name, compare(one, other).verdict) == (name, one.name, "equal")


@pytest.mark.parametrize("name", CHANGED)
@pytest.mark.parametrize("form", FORMS)
def test_one_changed_bit_in_any_tensor_is_found(case: Case, tmp_path: Path, name: str, form: str) -> None:
    source = case("keras-2.2.4", name) / "multi.h5"
    target = tmp_path / f"out.{form}"
    extract(source, target)
    places = tensor_places(target)
    assert len(places) >= 8
    chosen = random.Random(3)
    for path, (offset, size) in places.items():
        changed = tmp_path / f"changed.{form}"
        shutil.copy(target, changed)
        flip(changed, offset + chosen.randrange(size), 1 << chosen.randrange(8))
        found = compare(source, changed)
        assert found.verdict == "different", path
        (tensor,) = [one for one in (*found.tensors, *found.optimizer_tensors) if not one.equal]
        if tensor.status == "different":
            assert tensor.b == path
            assert tensor.differing == 1
        assert compare(changed, source).verdict == "different"


def tensor_places(path: Path) -> dict[str, tuple[int, int]]:
    """Give where in a file the bytes of each of its tensors with any bytes lie."""
    if path.name.endswith((".keras", ".weights.h5")):
        with open_keras3(path) as opened:
            start = path.read_bytes().index(b"\x89HDF")
            held = [weight for one in opened.weighted for weight in one.variables]
            extents = {weight.path: opened.extent(weight) for weight in held}
    else:
        start = 0
        with open_checkpoint(path) as old:
            listed = [weight for group in old.checkpoint.layers for weight in group.weights]
            extents = {weight.path: old.extent(weight) for weight in listed}
    return {name: (start + extent.offset, extent.size) for name, extent in extents.items() if extent.size}


def flip(path: Path, offset: int, bit: int) -> None:
    with path.open("r+b") as file:
        file.seek(offset)
        (old,) = file.read(1)
        file.seek(offset)
        file.write(bytes([old ^ bit]))


def swap(path: Path, one: str, other: str) -> None:
    with h5py.File(path, "r+") as file:
        first, second = file[one][...], file[other][...]
        file[one][...], file[other][...] = second, first


@pytest.mark.parametrize("form", FORMS)
def test_swapped_layers_are_different(case: Case, tmp_path: Path, form: str) -> None:
    source = case("keras-2.2.4", "conv_bn") / "multi.h5"
    target = tmp_path / f"out.{form}"
    extract(source, target)
    places = tensor_places(target)
    one, other = [where for where in places.values() if where[1] == 32][:2]
    content = bytearray(target.read_bytes())
    first, second = content[one[0] : sum(one)], content[other[0] : sum(other)]
    content[one[0] : sum(one)], content[other[0] : sum(other)] = second, first
    target.write_bytes(content)
    found = compare(source, target)
    assert (found.verdict, unlike(found)) == ("different", ["different", "different"])
    assert any("not in the same places" in note for note in found.notes)


def test_a_conversion_without_its_arithmetic_is_different_and_says_why(case: Case, tmp_path: Path) -> None:
    source, target = case("keras-2.2.4", "lstm_plain") / "single.h5", tmp_path / "out.weights.h5"
    extract(source, target)
    with h5py.File(source) as old, h5py.File(target, "r+") as new:
        cell = new["layers/lstm"]
        own = [
            old["model_weights"]["lstm_1"]["lstm_1"][name]
            for name in ("kernel:0", "recurrent_kernel:0", "bias:0")
        ]
        for number, tensor in enumerate(own):
            cell["cell/vars"][str(number)][...] = tensor[...]
    found = compare(source, target)
    assert found.verdict == "different"
    assert any("hard_sigmoid has another slope" in note for note in found.notes)


def test_swapped_layers_are_undecided_where_names_and_flags_disagree(case: Case, tmp_path: Path) -> None:
    """A nested model was frozen, which Keras 2 does not save: its flags give another order than names."""
    source, target = case("keras-2.2.4", "nested_deep") / "multi.h5", tmp_path / "out.keras"
    extract(source, target)
    assert compare(source, target).matched_by == "names"
    places = tensor_places(target)
    one, other = [where for where in places.values() if where[1] == 100][:2]
    content = bytearray(target.read_bytes())
    first, second = content[one[0] : sum(one)], content[other[0] : sum(other)]
    content[one[0] : sum(one)], content[other[0] : sum(other)] = second, first
    target.write_bytes(content)
    assert compare(source, target).verdict == "undecided"


def test_what_no_architecture_tells_is_undecided(case: Case, tmp_path: Path) -> None:
    folder = case("keras-2.2.4", "lstm_plain")
    target = tmp_path / "out.weights.h5"
    extract(folder / "multi.h5", target)
    found = compare(folder / "single_weights.h5", target)
    assert (found.verdict, found.exit_code) == ("undecided", 4)
    assert "how Keras 3 stores" in found.question


def test_equal_tensors_without_names_in_common_are_undecided(case: Case, tmp_path: Path) -> None:
    folder = case("keras-2.2.4", "slash_names")
    target = tmp_path / "out.weights.h5"
    extract(folder / "multi.h5", target)
    found = compare(folder / "single_weights.h5", target)
    assert (found.verdict, found.matched_by) == ("undecided", "content")
    assert "do not tell which layer" in found.question


def test_missing_and_additional_layers_are_told(case: Case) -> None:
    found = compare(
        case("keras-2.2.4", "conv_bn") / "single.h5", case("keras-2.2.4", "dense_plain") / "single.h5"
    )
    assert found.verdict == "different"
    assert {"only in a", "only in b"} <= {tensor.status for tensor in found.tensors}


def test_differences_are_measured(case: Case, tmp_path: Path) -> None:
    source, target = tmp_path / "a.h5", tmp_path / "b.h5"
    for copy in (source, target):
        shutil.copy(case("keras-2.2.4", "dense_plain") / "single.h5", copy)
    found = compare(source, target)
    kernel = next(tensor for tensor in found.tensors if len(tensor.shape_a or ()) == 2)
    with h5py.File(target, "r+") as file:
        values = file[kernel.b][...]
        values[0, 0], values[0, 1] = 4.0, float("nan")
        file[kernel.b][...] = values
    with h5py.File(source, "r+") as file:
        file[kernel.a][0, 0] = 2.0
    (tensor,) = [tensor for tensor in compare(source, target).tensors if not tensor.equal]
    assert (tensor.differing, tensor.largest_absolute, tensor.largest_relative) == (2, 2.0, 0.5)


def test_optimizer_states_are_compared_too(case: Case, tmp_path: Path) -> None:
    source = case("keras-2.2.4", "conv_bn") / "single.h5"
    target = tmp_path / "b.h5"
    shutil.copy(source, target)
    assert compare(source, target).optimizer == "equal"
    with open_checkpoint(target) as opened:
        weight = next(weight for weight in opened.checkpoint.optimizer or () if weight.shape)
        offset = opened.extent(weight).offset
    flip(target, offset, 1)
    found = compare(source, target)
    assert (found.verdict, found.optimizer, unlike(found)) == ("different", "different", [])


def test_the_command_ends_with_the_verdict(case: Case, tmp_path: Path) -> None:
    folder = case("keras-2.2.4", "recurrent")
    source, target, weights = folder / "multi.h5", tmp_path / "out.keras", tmp_path / "out.weights.h5"
    extract(source, target)
    extract(source, weights)
    equal = invoke("compare", source, target, "--all")
    assert equal.code == 0
    assert "Equal: both files hold the same weights, bit for bit, but for the conversion" in equal.out
    assert equal.out.count("converted") == 9
    different = invoke("compare", source, case("keras-2.2.4", "conv_bn") / "single.h5")
    assert different.code == 3
    assert different.out.startswith("Different.")
    undecided = invoke("compare", folder / "single_weights.h5", weights)
    assert undecided.code == 4
    assert "Undecided: some tensors differ" in undecided.out


def test_the_json_document_is_as_described(case: Case, tmp_path: Path) -> None:
    source, target = case("keras-2.2.4", "conv_bn") / "multi.h5", tmp_path / "out.keras"
    extract(source, target)
    for other in (target, case("keras-2.2.4", "recurrent") / "single.h5"):
        document = json.loads(invoke("compare", source, other, "--json").out)
        require_documented(document)
        assert document["form_a"] == "multi-gpu .h5"


def test_a_file_that_is_none_is_refused(case: Case, tmp_path: Path) -> None:
    source = case("keras-2.2.4", "conv_bn") / "multi.h5"
    (tmp_path / "no.h5").write_bytes(b"nothing of the kind" * 9)
    with pytest.raises(InputRefused):
        compare(source, tmp_path / "no.h5")
    assert invoke("compare", tmp_path / "no.h5", source).code == 3


def test_the_library_offers_it_isolated(case: Case) -> None:
    folder = case("keras-2.2.4", "conv_bn")
    reported: list[tuple[int, int]] = []
    found = remap.compare(
        folder / "multi.h5",
        folder / "single.h5",
        isolated=True,
        progress=lambda done, total: reported.append((done, total)),
    )
    assert found.verdict == "equal"
    assert all(0 < done <= total for done, total in reported)


def test_a_layer_that_one_file_stores_once_is_compared_in_both_places(case: Case) -> None:
    folder = case("tf.keras-2.3.4", "shared_across")
    for one in ("multi.h5", "multi_weights.h5"):
        found = compare(folder / one, folder / "single.h5")
        assert found.verdict == "equal"
        assert len({tensor.b for tensor in found.tensors}) > len({tensor.a for tensor in found.tensors})


def test_weights_without_a_layers_name_belong_to_the_layer_that_is_left(case: Case, tmp_path: Path) -> None:
    source, target = case("keras-2.2.4", "custom_odd_name") / "multi.h5", tmp_path / "out.weights.h5"
    extract(source, target)
    assert compare(source, target).verdict == "equal"


def test_other_types_of_numbers_are_different_whatever_their_values(case: Case, tmp_path: Path) -> None:
    source, target = case("keras-2.2.4", "dense_plain") / "single.h5", tmp_path / "b.h5"
    shutil.copy(source, target)
    with h5py.File(target, "r+") as file:
        group = file["model_weights/dense_1/dense_1"]
        values = group["bias:0"][...]
        del group["bias:0"]
        group["bias:0"] = values.astype("f8")
    (tensor,) = [tensor for tensor in compare(source, target).tensors if not tensor.equal]
    assert (tensor.status, tensor.differing, tensor.dtype_b) == ("different", 0, "<f8")
    assert "float32 / float64" in invoke("compare", source, target).out


def test_numbers_are_compared_by_value_where_only_the_byte_order_differs(case: Case, tmp_path: Path) -> None:
    source, target = case("keras-2.2.4", "dense_plain") / "single.h5", tmp_path / "b.h5"
    shutil.copy(source, target)
    with h5py.File(target, "r+") as file:
        group = file["model_weights/dense_1/dense_1"]
        values = group["kernel:0"][...]
        del group["kernel:0"]
        group["kernel:0"] = values.astype(">f4")
    assert compare(source, target).verdict == "equal"


def test_long_lists_of_differences_are_cut_short_on_the_terminal(case: Case) -> None:
    files = (case("keras-2.2.4", "many_layers") / "single.h5", case("keras-2.2.4", "recurrent") / "single.h5")
    short, whole = invoke("compare", *files), invoke("compare", *files, "--all")
    assert "--all shows them" in short.out
    assert len(whole.out.splitlines()) > len(short.out.splitlines())


def test_lines_fit_the_terminal(case: Case) -> None:
    found = compare(
        case("keras-2.2.4", "conv_bn") / "single.h5", case("keras-2.2.4", "recurrent") / "single.h5"
    )
    lines = list(comparison_lines(found, width=80, ascii_only=True))
    table = lines[next(number for number, line in enumerate(lines) if not line.plain) + 1 :]
    assert all(line.width <= 80 for line in table if "in:" not in line.plain)
    assert all(line.plain.isascii() for line in lines)


def test_layers_whose_numbers_a_conversion_changes_are_equal_after_it(
    unpacked: dict[str, Path], tmp_path: Path
) -> None:
    converted = 0
    for era, folder in unpacked.items():
        for path in sorted((*folder.glob("*cudnn*.h5"), *folder.glob("*hard_sigmoid*.h5"))):
            for form in ("weights.h5", "keras"):
                target = tmp_path / f"{era}-{path.stem}.{form}"
                try:
                    extract(path, target)
                except RemapError:
                    continue
                found = compare(path, target)
                assert (path, found.verdict) == (path, "equal")
                converted += any(tensor.status == "converted" for tensor in found.tensors)
    assert converted > 10
