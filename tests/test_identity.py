"""Every real multi-GPU checkpoint becomes the very file that the same Keras saved for the inner model."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from remap import InputRefused, NothingToExtract, Undecided, extract, inspect
from tests.conftest import all_cases
from tests.truth import differences, differently_ordered, flat_arrays, flat_layers

Case = Callable[[str, str], Path]

ERAS_OF_CASES = {era for era, _ in all_cases()}
WRAPPED = [(era, name) for era, name in all_cases() if not name.startswith("gan")]
INSIDE = [(era, name) for era, name in WRAPPED if name.startswith("inside")]

# What no architecture can settle, each with the reason.
UNDECIDED = {
    # A custom layer without weights stands beside one whose only weight bears no layer's name.
    "custom_odd_name": {"tf.keras-1.12.3"},
}
# A stack inside a stack: JSON of Keras up to 2.2.2 does not say what the inner one is called.
NAMELESS = {
    ("keras-2.0.9", "nested_sequential"),
    ("keras-2.1.6", "nested_sequential"),
    ("keras-2.1.6", "inside_sequential"),
}


def undecided(era: str, name: str) -> bool:
    return era in UNDECIDED.get(name, ())


def wrapper_weights(folder: Path) -> Path:
    source = folder / "multi_weights.h5"
    if not source.exists():
        pytest.skip("this Keras cannot save the weights of that wrapper")
    return source


@pytest.mark.parametrize(("era", "name"), WRAPPED)
def test_full_file_becomes_what_keras_saved_for_the_inner_model(
    case: Case, tmp_path: Path, era: str, name: str
) -> None:
    folder = case(era, name)
    source, out = folder / "multi.h5", tmp_path / "single.h5"
    if not source.exists():
        pytest.skip("this Keras cannot save a whole wrapper")
    if undecided(era, name):
        with pytest.raises(Undecided):
            extract(source, out)
        return
    extract(source, out)
    assert differences(out, folder / "single.h5") == []
    extract(source, tmp_path / "weights.h5", weights_only=True)
    assert differences(tmp_path / "weights.h5", folder / "single_weights.h5") == []


# JSON of these Kerases does not say that a model in a nested model was frozen as a whole: the order for the model that
# the JSON builds is not the saved one.
FLAG_LOST = {
    (era, name)
    for era in ERAS_OF_CASES
    for name in ("nested_deep", "inside_template")
    if not era.startswith(("tf.keras-1.15", "tf.keras-2"))
}


@pytest.mark.parametrize("like", ["single.json", "single.h5", "single_weights.h5"])
@pytest.mark.parametrize(("era", "name"), WRAPPED)
def test_weights_file_with_a_reference_model_becomes_what_keras_saved(
    case: Case, tmp_path: Path, era: str, name: str, like: str
) -> None:
    folder = case(era, name)
    out = tmp_path / "weights.h5"
    if not (folder / like).exists():
        pytest.skip("this Keras cannot save that file of the inner model")
    if like == "single.json" and (undecided(era, name) or (era, name) in NAMELESS):
        with pytest.raises(Undecided):
            extract(wrapper_weights(folder), out, like=folder / like)
        return
    report = extract(wrapper_weights(folder), out, like=folder / like)
    if like == "single.json" and (era, name) in FLAG_LOST:
        assert report.flags == "reference"
        assert differences(out, folder / "single_weights.h5") != []
        if name == "nested_deep":  # in which nothing else was frozen
            fresh = folder / "fresh_weights.h5"
            assert differently_ordered(out, folder / "single_weights.h5", fresh) == []
        extract(wrapper_weights(folder), out, like=folder / like, keep_flags=True, overwrite=True)
    assert differences(out, folder / "single_weights.h5") == []


FROZEN_INSIDE = {
    "nested_deep", "relocation_nested", "time_distributed_model", "inside_head", "inside_sequential", "inside_gan",
    "inside_deep", "inside_template",
}  # fmt: skip


@pytest.mark.parametrize(("era", "name"), WRAPPED)
def test_weights_are_in_the_order_that_a_new_unfrozen_model_saves(
    case: Case, tmp_path: Path, era: str, name: str
) -> None:
    """Only a custom layer whose weights bear no layer's name leaves more than one answer."""
    folder = case(era, name)
    fresh, truth = folder / "fresh_weights.h5", folder / "single_weights.h5"
    out, kept = tmp_path / "weights.h5", tmp_path / "kept.h5"
    try:
        report = extract(wrapper_weights(folder), out, like=fresh)
        extract(wrapper_weights(folder), kept, like=fresh, keep_flags=True)
    except Undecided:
        assert undecided(era, name) or name == "shared_across"
        return
    assert differences(kept, truth) == []
    assert differently_ordered(out, truth, fresh) == []
    assert (report.flags == "saved") == (differences(out, truth) == [])
    if "frozen" not in name and name not in FROZEN_INSIDE:
        assert report.flags == "saved"


@pytest.mark.parametrize("name", ["nested_frozen_layers", "nested_partly_frozen"])
@pytest.mark.parametrize("era", ["keras-2.2.4", "tf.keras-2.3.4"])
def test_full_file_for_a_model_of_other_flags_becomes_weights_in_its_order(
    case: Case, tmp_path: Path, era: str, name: str
) -> None:
    folder = case(era, name)
    fresh, out = folder / "fresh_weights.h5", tmp_path / "weights.h5"
    report = extract(folder / "multi.h5", out, like=fresh)
    assert (report.kind, report.flags) == ("weights", "reference")
    assert any("trainable flags are not those of the reference model" in left for left in report.left_behind)
    assert differently_ordered(out, folder / "single_weights.h5", fresh) == []
    assert report.frozen
    kept = extract(folder / "multi.h5", out, like=fresh, keep_flags=True, overwrite=True)
    assert kept.kind == "full model"
    assert differences(out, folder / "single.h5") == []


# What the names cannot show: layers in models of their own, which Keras then counts as one. It refuses the file.
HIDDEN_MODELS = {
    "nested", "nested_partly_frozen", "only_model", "relocation_nested", "siamese", "twin_nested",
    "two_branches", "time_distributed_model", "deferred", "shared_across", "inside_deep", "inside_template",
}  # fmt: skip
# What was frozen and renamed, so that the word `plain` is not true and nothing shows it.
LIES = {"renamed"}


@pytest.mark.parametrize("plain", [False, True])
@pytest.mark.parametrize(("era", "name"), WRAPPED)
def test_names_alone_give_the_right_order_or_a_refusal(
    case: Case, tmp_path: Path, era: str, name: str, plain: bool
) -> None:
    folder = case(era, name)
    out = tmp_path / "weights.h5"
    try:
        extract(wrapper_weights(folder), out, plain=plain)
    except (
        Undecided,
        NothingToExtract,
    ):  # the second for a wrapper inside, which only a reference model shows
        return
    if plain and name in LIES:
        return
    truth = folder / "single_weights.h5"
    if name in HIDDEN_MODELS and flat_layers(out) != flat_layers(truth):
        return
    assert differences(out, truth, names=False, weightless=False) == []


@pytest.mark.parametrize(
    ("era", "name"),
    [
        (era, name)
        for era, name in WRAPPED
        if name in {"dense_plain", "lstm_plain", "dense_bn_plain", "application", "recurrent_plain"}
    ],
)
def test_common_files_need_no_flag(case: Case, tmp_path: Path, era: str, name: str) -> None:
    folder = case(era, name)
    if era == "keras-2.0.9" and name in {"dense_plain", "lstm_plain"}:
        # Its wrapper does not say which layer gives the output: a second branch of equal layers may have been frozen.
        with pytest.raises(Undecided, match="plain=True"):
            extract(wrapper_weights(folder), tmp_path / "weights.h5")
        return
    extract(wrapper_weights(folder), tmp_path / "weights.h5")
    assert len(flat_arrays(tmp_path / "weights.h5")) == len(flat_arrays(folder / "single_weights.h5"))


@pytest.mark.parametrize(("era", "name"), [c for c in all_cases() if c[1].startswith("gan")])
def test_several_models_are_listed_and_each_comes_out_by_name(
    case: Case, tmp_path: Path, era: str, name: str
) -> None:
    folder = case(era, name)
    source = folder / "multi.h5"
    if not source.exists():
        pytest.skip("this Keras cannot save a whole wrapper")
    if name == "gan":
        with pytest.raises(Undecided, match="submodel="):
            extract(source, tmp_path / "out.h5")
    else:
        assert any("was replaced" in note for note in extract(source, tmp_path / "out.h5").notes)
    for inner in (path for path in folder.iterdir() if path.is_dir()):
        submodel = inner.name
        extract(source, tmp_path / f"{submodel}.h5", submodel=submodel, weights_only=True)
        assert differences(tmp_path / f"{submodel}.h5", inner / "single_weights.h5") == []


def parts_of(folder: Path) -> list[Path]:
    """List the folders with what Keras saved for nested models of a case."""
    return sorted(path for path in folder.iterdir() if path.is_dir())


@pytest.mark.parametrize(("era", "name"), INSIDE)
def test_each_nested_model_becomes_what_keras_saved_for_it_alone(
    case: Case, tmp_path: Path, era: str, name: str
) -> None:
    folder, out = case(era, name), tmp_path / "out.h5"
    source = folder / "multi.h5"
    if not source.exists():
        pytest.skip("this Keras cannot save a whole wrapper")
    paths = {path.rpartition("/")[2]: path for path in inspect(source).submodels}
    for part in parts_of(folder):
        for submodel in {part.name, *([paths[part.name]] if part.name in paths else [])}:
            extract(source, out, submodel=submodel, overwrite=True)
            assert differences(out, part / "single.h5") == []
            extract(source, out, submodel=submodel, weights_only=True, overwrite=True)
            assert differences(out, part / "single_weights.h5") == []


@pytest.mark.parametrize(("era", "name"), INSIDE)
def test_a_nested_model_is_written_in_the_order_that_its_own_reference_model_loads(
    case: Case, tmp_path: Path, era: str, name: str
) -> None:
    folder, out = case(era, name), tmp_path / "out.h5"
    if not (folder / "multi.h5").exists():
        pytest.skip("this Keras cannot save a whole wrapper")
    for part in parts_of(folder):
        fresh, truth = part / "fresh_weights.h5", part / "single_weights.h5"
        report = extract(folder / "multi.h5", out, submodel=part.name, like=fresh, overwrite=True)
        assert differently_ordered(out, truth, fresh) == []
        assert (report.flags == "saved") == (differences(out, truth) == [] or report.kind == "full model")


@pytest.mark.parametrize("member", ["single.h5", "single.json"])
@pytest.mark.parametrize(("era", "name"), INSIDE)
def test_a_reference_model_of_the_whole_tells_its_nested_models_in_a_weights_file(
    case: Case, tmp_path: Path, era: str, name: str, member: str
) -> None:
    folder, out = case(era, name), tmp_path / "out.h5"
    for part in parts_of(folder):
        if (era, name) in NAMELESS and member == "single.json":
            with pytest.raises(Undecided):
                extract(wrapper_weights(folder), out, like=folder / member, submodel=part.name)
            continue
        options = {"like": folder / member, "submodel": part.name, "overwrite": True}
        extract(wrapper_weights(folder), out, keep_flags=True, **options)  # type: ignore[arg-type]
        assert differences(out, part / "single_weights.h5") == []
        extract(folder / "single_weights.h5", out, keep_flags=True, **options)  # type: ignore[arg-type]
        assert differences(out, part / "single_weights.h5") == []


@pytest.mark.parametrize(("era", "name"), INSIDE)
def test_a_single_model_gives_its_nested_models(case: Case, tmp_path: Path, era: str, name: str) -> None:
    folder, out = case(era, name), tmp_path / "out.h5"
    if not (folder / "single.h5").exists():
        pytest.skip("this Keras cannot save that file of the inner model")
    for part in parts_of(folder):
        extract(folder / "single.h5", out, submodel=part.name, overwrite=True)
        if (part / "single.h5").exists():
            assert differences(out, part / "single.h5") == []


@pytest.mark.parametrize("name", ["single.h5", "single_weights.h5"])
@pytest.mark.parametrize("era", ["keras-2.2.4", "tf.keras-2.3.4"])
def test_single_model_is_left_alone(case: Case, tmp_path: Path, era: str, name: str) -> None:
    with pytest.raises(NothingToExtract):
        extract(case(era, "conv_bn") / name, tmp_path / "out.h5")


def test_a_multi_gpu_file_is_no_like_file(case: Case, tmp_path: Path) -> None:
    weights = case("keras-2.2.4", "conv_bn") / "multi_weights.h5"
    with pytest.raises(Undecided, match="multi-GPU checkpoint itself"):
        extract(weights, tmp_path / "out.h5", like=weights)


def test_a_text_file_is_no_like_file(case: Case, tmp_path: Path) -> None:
    note = tmp_path / "model.json"
    note.write_text("{not json")
    with pytest.raises(InputRefused, match="not valid JSON"):
        extract(case("keras-2.2.4", "conv_bn") / "multi_weights.h5", tmp_path / "out.h5", like=note)
