from __future__ import annotations

import hashlib
import json
import os
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import pytest

import remap
from remap import (
    InputRefused,
    NothingToExtract,
    OutputRefused,
    RemapError,
    Undecided,
    UsageRefused,
    check,
    extract,
    plan,
)
from remap.formats import FORMATS, Format, keras2
from remap.results import report_of
from tests.truth import differences

Case = Callable[[str, str], Path]


@pytest.fixture
def folder(case: Case) -> Path:
    return case("keras-2.2.4", "conv_bn")


@pytest.mark.parametrize("name", ["x.H5", "x", "x.Keras", "x.ckpt"])
def test_refuses_names_that_no_keras_opens(folder: Path, tmp_path: Path, name: str) -> None:
    for work in (extract, plan):
        with pytest.raises(UsageRefused, match=r"use \.h5, \.keras or \.weights\.h5"):
            work(folder / "multi.h5", tmp_path / name)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["", "there", "there.h5", "absent/", "absent.h5/"])
def test_refuses_a_directory_as_output(folder: Path, tmp_path: Path, name: str) -> None:
    for directory in ("there", "there.h5"):
        (tmp_path / directory).mkdir()
    for work in (extract, plan):
        with pytest.raises(OutputRefused, match="the output is a directory") as caught:
            work(folder / "multi.h5", f"{tmp_path}/{name}")
        assert caught.value.hint.endswith("ends in .h5, .keras or .weights.h5")


def test_refuses_to_be_told_two_things(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageRefused, match="exclude each other"):
        extract(folder / "multi_weights.h5", tmp_path / "o.h5", like=folder / "single.json", plain=True)


def test_refuses_to_replace_a_file_unless_told_to(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.h5"
    out.write_text("precious")
    with pytest.raises(OutputRefused):
        extract(folder / "multi.h5", out)
    assert out.read_text() == "precious"
    extract(folder / "multi.h5", out, overwrite=True)
    assert differences(out, folder / "single.h5") == []


@pytest.mark.parametrize("form", ["h5", "keras", "weights.h5"])
@pytest.mark.parametrize("link", ["same", "soft", "hard"])
def test_never_replaces_the_reference_model(folder: Path, tmp_path: Path, link: str, form: str) -> None:
    like, out = tmp_path / f"like.{form}", tmp_path / f"out.{form}"
    like.write_bytes((folder / "single.json").read_bytes())
    if link == "same":
        out = like
    elif link == "soft":
        out.symlink_to(like)
    else:
        out.hardlink_to(like)
    before = like.read_bytes()
    with pytest.raises(UsageRefused, match="the output is the reference model"):
        extract(folder / "multi_weights.h5", out, like=like, overwrite=True)
    with pytest.raises(UsageRefused, match="the output is the reference model"):
        plan(folder / "multi_weights.h5", out, like=like)
    assert out.read_bytes() == like.read_bytes() == before


def test_refuses_to_write_onto_its_input(folder: Path, tmp_path: Path) -> None:
    source = tmp_path / "multi.h5"
    source.write_bytes((folder / "multi.h5").read_bytes())
    with pytest.raises(UsageRefused, match="input"):
        extract(source, source, overwrite=True)
    os.link(source, tmp_path / "same.h5")
    with pytest.raises(UsageRefused, match="input"):
        extract(source, tmp_path / "same.h5", overwrite=True)
    with pytest.raises(UsageRefused, match="input"):
        plan(source, tmp_path / "same.h5")


def test_input_stays_as_it_was(folder: Path, tmp_path: Path) -> None:
    before = hashlib.sha256((folder / "multi.h5").read_bytes()).hexdigest()
    extract(folder / "multi.h5", tmp_path / "out.h5")
    assert hashlib.sha256((folder / "multi.h5").read_bytes()).hexdigest() == before


def test_same_input_gives_the_same_bytes(folder: Path, tmp_path: Path) -> None:
    for name in ("one.h5", "two.h5"):
        extract(folder / "multi.h5", tmp_path / name)
    assert (tmp_path / "one.h5").read_bytes() == (tmp_path / "two.h5").read_bytes()


def test_report_says_what_came_out_and_what_did_not(folder: Path, tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    report = extract(
        folder / "multi.h5", tmp_path / "out.h5", progress=lambda done, total: seen.append((done, total))
    )
    assert report.replicas == 4
    assert report.settled_by == "architecture"
    assert report.kind == "full model"
    assert report.size == (tmp_path / "out.h5").stat().st_size
    assert report.optimizer_tensors > 0
    assert any("lambda_1" in line for line in report.left_behind)
    assert report.to_json()["version"] == 1
    assert seen[-1][0] == seen[-1][1]


def test_plan_writes_nothing_and_says_the_same(folder: Path, tmp_path: Path) -> None:
    planned = plan(folder / "multi.h5", weights_only=True)
    report = extract(folder / "multi.h5", tmp_path / "out.h5", weights_only=True)
    assert len(planned.layers) == report.layers
    assert planned.model_config is None
    assert any("only weights were asked for" in line for line in planned.left_behind)


def test_a_format_without_a_model_is_asked_for_weights_only(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    form = Format(extensions=(".made-up",), has_model=False, from_plan=keras2.describe)
    monkeypatch.setattr("remap.formats.FORMATS", (*FORMATS, form))
    report = extract(folder / "multi.h5", tmp_path / "out.made-up")
    assert (report.kind, report.optimizer_tensors) == ("weights", 0)
    extract(folder / "multi.h5", tmp_path / "weights.h5", weights_only=True)
    assert (tmp_path / "out.made-up").read_bytes() == (tmp_path / "weights.h5").read_bytes()
    assert plan(folder / "multi.h5", tmp_path / "out.made-up").extension == ".made-up"


def test_training_state_of_a_whole_is_not_one_models(case: Case) -> None:
    source = case("keras-2.2.4", "gan") / "multi.h5"
    planned = plan(source, submodel="generator")
    assert planned.optimizer is None
    assert planned.training_config is None
    assert any("belong to the whole file" in line for line in planned.left_behind)
    assert any("weights of another model" in line for line in planned.left_behind)
    with pytest.raises(Undecided, match="models in this file: generator, discriminator"):
        plan(source, submodel="critic")


def test_like_file_of_another_model_is_refused_with_the_difference(case: Case, tmp_path: Path) -> None:
    weights = case("keras-2.2.4", "conv_bn") / "multi_weights.h5"
    with pytest.raises(Undecided, match=r"the checkpoint has \d+ weights, the architecture \d+"):
        extract(weights, tmp_path / "o.h5", like=case("keras-2.2.4", "dense_plain") / "single.json")
    full = case("keras-2.2.4", "conv_bn") / "multi.h5"
    with pytest.raises(Undecided, match="another model than the checkpoint's"):
        extract(full, tmp_path / "o.h5", like=case("keras-2.2.4", "dense_plain") / "single.h5")


def test_a_fitting_like_file_of_a_full_file_changes_nothing(folder: Path, tmp_path: Path) -> None:
    extract(folder / "multi.h5", tmp_path / "out.h5", like=folder / "single.h5")
    assert differences(tmp_path / "out.h5", folder / "single.h5") == []


def test_says_where_no_load_model_can_build_the_model(case: Case, tmp_path: Path) -> None:
    """Keras 2.2 and 2.3 lose the InputLayer that a user adds to a Sequential; only the wrapper keeps its shape."""
    multi = case("keras-2.2.4", "sequential_input") / "multi.h5"
    told = extract(multi, tmp_path / "out.h5").notes
    assert any("load_model cannot build the model" in note for note in told)
    for name, only in (("out.keras", False), ("weights.h5", True)):
        assert extract(multi, tmp_path / name, weights_only=only).notes == ()
    with zipfile.ZipFile(tmp_path / "out.keras") as archive:
        config = json.loads(archive.read("config.json"))["config"]
    assert config["build_input_shape"] == [None, 6]
    multi = case("tf.keras-2.3.4", "sequential_input") / "multi.h5"
    assert extract(multi, tmp_path / "later.h5").notes == ()


def test_long_optimizer_lists_get_names_that_old_keras_reads_back(case: Case, tmp_path: Path) -> None:
    source = case("keras-2.2.4", "long_names") / "multi.h5"
    extract(source, tmp_path / "out.h5")
    with h5py.File(source) as theirs, h5py.File(tmp_path / "out.h5") as ours:
        split = "weight_names" not in theirs["optimizer_weights"].attrs
        names = list(ours["optimizer_weights"].attrs["weight_names"])
    assert not split or names[:2] == [b"w0", b"w1"]


def test_values_of_the_output_are_those_of_the_wrapper(folder: Path, tmp_path: Path) -> None:
    remap.extract(folder / "multi.h5", tmp_path / "out.h5", weights_only=True)
    with h5py.File(folder / "multi.h5") as theirs, h5py.File(tmp_path / "out.h5") as ours:
        arrays: list[Any] = []
        ours.visititems(lambda _, item: arrays.append(item[()]) if isinstance(item, h5py.Dataset) else None)
        total = sum(float(array.astype("f8").sum()) for array in arrays)
        known: list[float] = []
        theirs["model_weights"].visititems(
            lambda _, item: (
                known.append(float(item[()].astype("f8").sum())) if isinstance(item, h5py.Dataset) else None
            )
        )
    assert total == pytest.approx(sum(known))


def test_the_name_of_the_output_chooses_the_format(case: Case, tmp_path: Path) -> None:
    source = case("keras-2.2.4", "conv_bn") / "multi.h5"
    report = extract(source, tmp_path / "single.keras")
    assert report.kind == "full model"
    with zipfile.ZipFile(tmp_path / "single.keras") as archive:
        assert sorted(archive.namelist()) == ["config.json", "metadata.json", "model.weights.h5"]
    assert extract(source, tmp_path / "single.weights.h5").kind == "weights"
    assert (tmp_path / "single.weights.h5").read_bytes().startswith(b"\x89HDF")


def test_a_single_model_is_converted_as_it_stands_and_says_so(case: Case, tmp_path: Path) -> None:
    folder = case("keras-2.2.4", "conv_bn")
    report = extract(folder / "single.h5", tmp_path / "single.keras")
    assert any("there was no wrapper" in note for note in report.notes)
    extract(folder / "multi.h5", tmp_path / "multi.keras")
    assert (tmp_path / "single.keras").read_bytes() == (tmp_path / "multi.keras").read_bytes()


def test_weights_files_give_the_same_with_a_like_file(case: Case, tmp_path: Path) -> None:
    folder = case("keras-2.2.4", "nested_frozen_layers")
    extract(folder / "multi.h5", tmp_path / "full.weights.h5")
    extract(folder / "multi_weights.h5", tmp_path / "multi.weights.h5", like=folder / "single.json")
    single = extract(
        folder / "single_weights.h5", tmp_path / "single.weights.h5", like=folder / "single.json"
    )
    assert single.settled_by == "reference"
    wanted = (tmp_path / "full.weights.h5").read_bytes()
    assert (tmp_path / "multi.weights.h5").read_bytes() == wanted
    assert (tmp_path / "single.weights.h5").read_bytes() == wanted


def test_a_single_model_that_consists_of_models_is_converted_too(case: Case, tmp_path: Path) -> None:
    folder = case("keras-2.2.4", "two_branches")
    extract(folder / "multi.h5", tmp_path / "multi.keras")
    extract(folder / "single.h5", tmp_path / "single.keras")
    assert (tmp_path / "single.keras").read_bytes() == (tmp_path / "multi.keras").read_bytes()
    extract(folder / "single.h5", tmp_path / "full.weights.h5")
    extract(folder / "single_weights.h5", tmp_path / "flat.weights.h5", like=folder / "single.json")
    assert (tmp_path / "full.weights.h5").read_bytes() == (tmp_path / "flat.weights.h5").read_bytes()
    with pytest.raises(Undecided, match="holds 2 models"):
        extract(folder / "single.h5", tmp_path / "single.h5")


INSIDE = (
    "inside_head",
    "inside_sequential",
    "inside_gan",
    "inside_wrapped_twice",
    "inside_two_io",
    "inside_deep",
)


@pytest.mark.parametrize("form", ["keras", "weights.h5"])
@pytest.mark.parametrize("name", INSIDE)
def test_a_model_with_wrappers_inside_gives_the_same_as_the_one_built_on_their_templates(
    case: Case, tmp_path: Path, name: str, form: str
) -> None:
    for era in ("keras-2.2.4", "tf.keras-2.3.4-eager"):
        for member in ("multi", "single"):
            extract(case(era, name) / f"{member}.h5", tmp_path / f"{member}.{form}", overwrite=True)
        multi, single = (tmp_path / f"{member}.{form}" for member in ("multi", "single"))
        assert multi.read_bytes() == single.read_bytes()


@pytest.mark.parametrize("name", INSIDE)
def test_weights_of_a_model_with_wrappers_inside_are_written_for_keras_3(
    case: Case, tmp_path: Path, name: str
) -> None:
    folder, weights, single = case("keras-2.2.4", name), tmp_path / "a.weights.h5", tmp_path / "b.weights.h5"
    extract(folder / "multi_weights.h5", weights, like=folder / "single.json")
    extract(folder / "single.h5", single)
    assert weights.read_bytes() == single.read_bytes()


@pytest.mark.parametrize("name", INSIDE)
def test_a_model_with_wrappers_inside_loads_by_order_as_it_is(case: Case, name: str) -> None:
    """Its groups have other names than the model's layers, and the same weights in the same order."""
    folder = case("keras-2.2.4", name)
    found = check(folder / "multi.h5", folder / "single.h5")
    assert (found.loads, found.multi_gpu) == ((False, True) if name == "inside_deep" else (True, False))
    assert found.by_name is not None
    assert any(step.saved is None for step in found.by_name.steps)


def test_names_alone_are_not_enough_for_a_format_with_architecture(case: Case, tmp_path: Path) -> None:
    folder = case("keras-2.2.4", "dense_plain")
    with pytest.raises(Undecided, match="need the architecture"):
        extract(folder / "multi_weights.h5", tmp_path / "o.keras")
    with pytest.raises(Undecided, match="need the architecture"):
        extract(folder / "single_weights.h5", tmp_path / "o.weights.h5")


def test_a_like_file_of_another_model_is_refused(case: Case, tmp_path: Path) -> None:
    weights = case("keras-2.2.4", "dense_plain") / "single_weights.h5"
    with pytest.raises(Undecided, match="does not fit the checkpoint"):
        extract(weights, tmp_path / "o.weights.h5", like=case("keras-2.2.4", "conv_bn") / "single.json")


def test_what_keras_3_has_not_is_refused_by_name(case: Case, tmp_path: Path) -> None:
    with pytest.raises(InputRefused, match=r"LocallyConnected|Lambda"):
        extract(case("keras-2.2.4", "many_layers") / "multi.h5", tmp_path / "o.keras")
    assert list(tmp_path.iterdir()) == []


def test_summary_counts_the_state_that_came_over(case: Case, tmp_path: Path) -> None:
    kept = extract(case("keras-2.2.4", "conv_bn") / "multi.h5", tmp_path / "kept.keras")
    assert kept.optimizer_tensors > 0
    # Weights that were multiplied to make up for another slope no longer fit their moments.
    anew = extract(case("keras-2.2.4", "recurrent") / "multi.h5", tmp_path / "anew.keras")
    assert anew.optimizer_tensors == 0
    assert any("optimizer state dropped" in note for note in anew.notes)


def outcome(work: Callable[[], Any]) -> tuple[str, ...]:
    """Tell what a call returns that a plan and a report share, or how it is refused."""
    try:
        found = work()
    except RemapError as error:
        return type(error).__name__, error.what, error.where, error.hint, repr(error.remedies)
    report = found if hasattr(found, "target") else report_of(found, source="", target=None, size=0)
    told = report.to_json()
    return tuple(repr(told[name]) for name in told if name not in ("source", "target", "size"))


@pytest.mark.parametrize("form", ["h5", "keras", "weights.h5"])
@pytest.mark.parametrize(
    ("name", "member"),
    [
        ("conv_bn", "multi.h5"),
        ("conv_bn", "multi_weights.h5"),
        ("conv_bn", "single.h5"),
        ("recurrent", "multi.h5"),
        ("many_layers", "multi.h5"),
        ("sequential_input", "multi.h5"),
        ("gan_multi", "multi.h5"),
        ("dense_plain", "multi_weights.h5"),
    ],
)
def test_a_plan_says_what_the_conversion_will_do(
    case: Case, tmp_path: Path, name: str, member: str, form: str
) -> None:
    """Whatever the conversion refuses before it writes, the plan for the same output refuses in the same words."""
    source, target = case("keras-2.2.4", name) / member, tmp_path / f"out.{form}"
    planned = outcome(lambda: plan(source, target))
    assert list(tmp_path.iterdir()) == []
    assert planned == outcome(lambda: extract(source, target))


def test_a_plan_for_no_output_is_one_for_a_h5_file(folder: Path, tmp_path: Path) -> None:
    assert plan(folder / "multi.h5") == plan(folder / "multi.h5", tmp_path / "out.h5")
    with pytest.raises(NothingToExtract):
        plan(folder / "single.h5")
    assert plan(folder / "single.h5", tmp_path / "out.keras").model_config is not None


def test_a_plan_for_an_output_that_exists_is_no_error(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "out.h5").write_text("precious")
    assert plan(folder / "multi.h5", tmp_path / "out.h5").layers
    assert (tmp_path / "out.h5").read_text() == "precious"
