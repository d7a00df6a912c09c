from __future__ import annotations

import hashlib
import importlib
import json
import os
import zipfile
from collections.abc import Callable
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import Any

import h5py
import pytest

import remap
from remap import OutputRefused, Undecided, UsageRefused, extract, plan
from remap.checkpoint import Checkpoint
from remap.conversion import _require_loadable
from remap.conversion_plan import Plan
from remap.hdf5.file_image import Layout
from tests.truth import differences

Case = Callable[[str, str], Path]


@pytest.fixture
def folder(case: Case) -> Path:
    return case("keras-2.2.4", "conv_bn")


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("x.H5", "lower case"),
        ("x", "lower case"),
        ("x.Keras", "call it x.h5"),
    ],
)
def test_refuses_names_that_keras_would_misread(folder: Path, tmp_path: Path, name: str, reason: str) -> None:
    with pytest.raises(UsageRefused, match=reason):
        extract(folder / "multi.h5", tmp_path / name)
    assert list(tmp_path.iterdir()) == []


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
    assert out.read_bytes() == like.read_bytes() == before


def test_refuses_to_write_onto_its_input(folder: Path, tmp_path: Path) -> None:
    source = tmp_path / "multi.h5"
    source.write_bytes((folder / "multi.h5").read_bytes())
    with pytest.raises(UsageRefused, match="input"):
        extract(source, source, overwrite=True)
    os.link(source, tmp_path / "same.h5")
    with pytest.raises(UsageRefused, match="input"):
        extract(source, tmp_path / "same.h5", overwrite=True)


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


@pytest.mark.parametrize("era", ["keras-2.2.4", "tf.keras-2.3.4"])
def test_swapping_two_tensors_of_equal_shape_is_seen(
    case: Case, tmp_path: Path, era: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Let what was drawn give two tensors each other's places, and see the verification stop the output."""
    module = importlib.import_module("remap.hdf5.output")
    lay_out = module.lay_out

    def swapping(plan: Plan) -> Layout:
        layout: Layout = lay_out(plan)
        for one, other in combinations(layout.places, 2):
            if one.source.shape == other.source.shape and one.source.parameters > 1:
                swapped = {one: replace(one, offset=other.offset), other: replace(other, offset=one.offset)}
                return replace(layout, places=tuple(swapped.get(place, place) for place in layout.places))
        raise AssertionError("no two tensors of equal shape")

    monkeypatch.setattr(module, "lay_out", swapping)
    with pytest.raises(OutputRefused, match="reads back from elsewhere"):
        extract(case(era, "alternating_frozen") / "multi.h5", tmp_path / "out.h5")
    assert list(tmp_path.iterdir()) == []


def test_what_would_not_load_is_not_published(folder: Path) -> None:
    with pytest.raises(OutputRefused, match="Keras would not load"):
        _require_loadable(Checkpoint(root="/", layers=()), plan(folder / "multi.h5"))


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
