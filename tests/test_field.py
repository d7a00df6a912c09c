"""Models of third-party packages and of Keras's examples become the very files that the same Keras saved for them."""

from __future__ import annotations

import json
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from remap import RemapError, Undecided, check, extract
from tests.conftest import FIELD, field_cases, told
from tests.truth import differences, differently_ordered, flat_layers

Case = Callable[[str, str], Path]
CASES = field_cases()

# What is held in every way; in the releases beside them, which write as one of these, in the ways that differ most.
THOROUGH = {
    "keras-2.1.6", "keras-2.2.4", "keras-2.3.1", "tf.keras-1.15.5", "tf.keras-2.0.4", "tf.keras-2.3.4-eager",
}  # fmt: skip
IN_EVERY_WAY = [(era, name) for era, name in CASES if era in THOROUGH]

# What cannot be written as `.keras`, and why.
_EMBEDDING = "what class 'TokenEmbedding' does with masks is not known"
REFUSED = {
    "bert": _EMBEDDING,
    "bert_classifier": _EMBEDDING,
    "bert_lambda": _EMBEDDING,
    "dense_features": "Keras 3 has no such layer",
    "masked_documents": "the mask that layer '.*' uses would be different",
    "transformer": "what class 'EmbeddingRet' does with masks is not known",
    "xlnet": "what class '.*' does with masks is not known",
}
# The mask of each step is not given to the inner layer of TimeDistributed in Keras before 2.2.
UNMASKED_STEPS = {
    "masked_sentences", "masked_sentences_in_both_directions", "masked_sentence_model", "masked_steps",
}  # fmt: skip
# Masked steps of the fast LSTM and GRU of TensorFlow 2.0, which writes the version of releases that do otherwise.
MASKED_OUTPUTS = {"crf_tagger", "masked_sentences_in_both_directions", "self_attention", "tagger"}


def refused(era: str, name: str) -> str | None:
    """Give why a model is not written as `.keras`; None where it is."""
    if era.startswith(("keras-2.0", "keras-2.1")) and name in UNMASKED_STEPS:
        return "would be different in Keras 3"
    if era.startswith("tf.keras-1.12") and name in {*UNMASKED_STEPS, "masked_documents"}:
        return "may be different in Keras 3"  # it writes the version of releases that do as Keras before 2.2
    if era.startswith("tf.keras-2.0") and name in MASKED_OUTPUTS:
        return "depends on the version of TensorFlow"
    return REFUSED.get(name)


@pytest.mark.parametrize(("era", "name"), CASES)
def test_full_file_becomes_what_keras_saved(field: Case, tmp_path: Path, era: str, name: str) -> None:
    folder, out = field(era, name), tmp_path / "single.h5"
    if not (folder / "multi.h5").exists() or not (folder / "single.h5").exists():
        pytest.skip("this Keras cannot save the whole model")
    extract(folder / "multi.h5", out)
    # keras-gpt-2 compiles the template; the wrapper of it was not compiled where nothing was trained.
    compiled = told(folder).get("same_training_config") is False
    expected = ["training_config is there in one only"] if compiled else []
    assert differences(out, folder / "single.h5") == expected
    if era in THOROUGH:
        extract(folder / "multi.h5", out, weights_only=True, overwrite=True)
        assert differences(out, folder / "single_weights.h5") == []


@pytest.mark.parametrize(("era", "name"), CASES)
def test_weights_file_with_a_reference_model_becomes_what_keras_saved(
    field: Case, tmp_path: Path, era: str, name: str
) -> None:
    folder, out = field(era, name), tmp_path / "weights.h5"
    truth, fresh = folder / "single_weights.h5", folder / "fresh_weights.h5"
    for like in ("single.json", "single.h5", "single_weights.h5")[: 3 if era in THOROUGH else 1]:
        if (folder / like).exists():
            extract(folder / "multi_weights.h5", out, like=folder / like, keep_flags=True, overwrite=True)
            assert differences(out, truth) == [], like
    if not fresh.exists():
        return  # this Keras built the model once only
    extract(folder / "multi_weights.h5", out, like=fresh, overwrite=True)
    assert differently_ordered(out, truth, fresh) == []


@pytest.mark.parametrize(("era", "name"), IN_EVERY_WAY)
def test_names_alone_give_the_right_order_or_a_refusal(
    field: Case, tmp_path: Path, era: str, name: str
) -> None:
    folder, out = field(era, name), tmp_path / "weights.h5"
    truth = folder / "single_weights.h5"
    try:
        report = extract(folder / "multi_weights.h5", out)
    except Undecided:
        return
    if flat_layers(out) != flat_layers(truth):  # a nested model, which no name shows: Keras refuses the file
        assert any("Keras says so" in note for note in report.notes)
        return
    assert differences(out, truth, names=False, weightless=False) == []


@pytest.mark.parametrize(("era", "name"), IN_EVERY_WAY)
def test_the_true_file_is_never_said_not_to_load(field: Case, era: str, name: str) -> None:
    folder = field(era, name)
    for like in ("single.json", "single.h5", "single_weights.h5"):
        if (folder / like).exists():
            found = check(folder / "single_weights.h5", folder / like)
            assert found.verdict == "loads" or (found.verdict, like) == ("cannot tell", "single.json")


@pytest.mark.parametrize(("era", "name"), CASES)
def test_formats_of_keras_3_are_written_or_refused_by_name(
    field: Case, tmp_path: Path, era: str, name: str
) -> None:
    folder = field(era, name)
    whole = (folder / "multi.h5").exists()
    if not whole and not (folder / "single.json").exists():
        pytest.skip("this Keras cannot write the architecture")
    source = folder / ("multi.h5" if whole else "multi_weights.h5")
    like = None if whole else folder / "single.json"
    if era in THOROUGH:
        extract(source, tmp_path / "single.weights.h5", like=like)
    reason = refused(era, name)
    if reason is None:
        extract(source, tmp_path / "single.keras", like=like)
        return
    with pytest.raises(RemapError, match=reason) as refusal:
        extract(source, tmp_path / "single.keras", like=like)
    assert [remedy.value for remedy in refusal.value.remedies] == [".weights.h5"]


def test_what_was_recorded_is_what_is_listed() -> None:
    index = json.loads((FIELD / "cases.json").read_text())
    for era, listed in index.items():
        with tarfile.open(FIELD / f"{era}.txz") as archive:
            names = {member.name.partition("/")[0] for member in archive.getmembers()}
        assert names == set(listed["cases"])
        assert not names & set(listed["absent"])
