from __future__ import annotations

import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from remap import InputRefused, Undecided, extract

Case = Callable[[str, str], Path]


def test_the_outputs_name_tells_the_format(case: Case, tmp_path: Path) -> None:
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
    report = extract(
        folder / "single_weights.h5", tmp_path / "single.weights.h5", like=folder / "single.json"
    )
    assert report.settled_by == "reference"
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


@pytest.mark.parametrize("form", ["keras", "weights.h5"])
def test_models_of_which_one_is_a_wrapper_are_not_taken_for_a_single_one(
    case: Case, tmp_path: Path, form: str
) -> None:
    with pytest.raises(Undecided, match="--submodel"):
        extract(case("keras-2.2.4", "gan_multi") / "multi.h5", tmp_path / f"out.{form}")


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
    assert any("starts anew" in note for note in anew.notes)
