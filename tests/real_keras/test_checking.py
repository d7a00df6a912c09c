"""What `check` says is what real Keras does with the same file, pass and fail alike."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path

import pytest

from remap import check
from tests.real_keras.verdicts import verdicts

Case = Callable[[str, str], Path]

ERA = "keras-2.2.4"
MODELS = """
    alternating_frozen bn_bare conv_bn dense_plain duplicate_outputs frozen_backbone lstm_plain nested
    nested_deep nested_frozen_layers nested_partly_frozen nested_sequential only_model recurrent
    relocation renamed sequential shared_layer siamese slash_names template_frozen
    time_distributed_model twin_nested two_branches two_io
""".split()
# What these Kerases cannot build from a file of Keras 2.2.4, so that the comparison does not shrink unseen:
# models inside models, stacks, bidirectional layers, names with slashes.
BEYOND = {
    "tf_keras": {"nested_deep"},
    "keras": set(
        """
        nested nested_deep nested_frozen_layers nested_partly_frozen only_model recurrent sequential siamese
        slash_names time_distributed_model twin_nested two_branches
        """.split()
    ),
}
STRANGERS = [("two_io", "single_weights.h5"), ("conv_bn", "single_weights.h5"), ("dense_plain", "single.h5")]


@pytest.mark.parametrize("keras", ["tf_keras", "keras"])
def test_verdicts_are_those_of_real_keras(case: Case, keras: str) -> None:
    if importlib.util.find_spec(keras) is None:
        pytest.skip(f"{keras} is not installed")
    strangers = [case(ERA, name) / member for name, member in STRANGERS]
    own = ("single.h5", "single_weights.h5", "fresh_weights.h5", "multi_weights.h5")
    tasks = [
        (case(ERA, name) / "single.h5", [*(case(ERA, name) / member for member in own), *strangers], False)
        for name in MODELS
    ]
    answers = verdicts(keras, tasks)
    beyond = {name for name, (refused, _) in zip(MODELS, answers, strict=True) if refused}
    assert beyond == BEYOND[keras]
    passed = refused = 0
    for (model, files, _), (_, said) in zip(tasks, answers, strict=True):
        for file, (by_order, by_name) in zip(files, said, strict=False):
            found = check(file, model)
            told = f"{file.parent.name}/{file.name} into {model.parent.name}"
            assert found.loading.loads == (not by_order), (told, by_order)
            assert found.by_name is not None
            assert found.by_name.loads == (not by_name), (told, by_name)
            passed += (not by_order) + (not by_name)
            refused += bool(by_order) + bool(by_name)
            require_same_words(found.words, by_order)
            require_same_words(found.by_name_words, by_name)
            loose = check(file, model.with_name("single.json"))
            assert loose.unknown or loose.loading.loads == found.loading.loads, told
            assert loose.by_name is not None
            assert loose.unknown or loose.by_name.loads == found.by_name.loads, told
            assert loose.loading.loads or not found.loading.loads, told
    assert passed > 50
    assert refused > 50


def require_same_words(ours: tuple[str, ...], theirs: str) -> None:
    """Hold counts to the letter; Keras has too many ways to say that shapes differ."""
    assert bool(ours) == bool(theirs)
    if "count mismatch" in theirs:
        assert any(words in theirs for words in ours[1:])
