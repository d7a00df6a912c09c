"""The declarations of layer classes: sound in themselves, and strict with what a file says of a layer."""

from __future__ import annotations

import copy
import json
import re
from collections import Counter
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from remap import layers as catalogue
from remap.architecture import parse_model
from remap.assignment.expected import expected_model, iter_layers
from remap.checkpoint import Weight
from remap.conversion_plan import PlannedLayer, PlannedWeight
from remap.errors import InputRefused, RemapError
from remap.keras3.conversion import translate
from remap.keras3.tensors import Translation
from remap.layers import CATALOGUE
from remap.layers.declaration import ANYTHING, Keras3, Removed, Setting, Writer
from tests.conftest import FIXTURES
from tests.test_layers import ERAS, zoo

WRITERS = ["2.1.6", "2.1.6-tf", "2.2.4-tf", "2.4.0"]
WRONG: list[Any] = [
    None,
    "text",
    -1,
    10**15,
    10**30,
    2.5,
    float("nan"),
    True,
    [],
    [None],
    [1, 2, 3, 4],
    {},
    {"class_name": 5},
    {"class_name": "__tuple__", "items": [1, "a"]},
    {"class_name": "LSTMCell", "config": {}},
    {"type": "ndarray", "value": 5},
]
Shapes = list[list[Any]]


def forms(declared: Any) -> list[Keras3]:
    """Give every way in which a class is written for Keras 3."""
    if declared.keras3 is None or isinstance(declared.keras3, Removed):
        return []
    if isinstance(declared.keras3, Keras3):
        return [declared.keras3]
    settings = [
        Setting(floatx="float32", writer=Writer(version), masks=masks)
        for version in WRITERS
        for masks in (False, True)
    ]
    return [declared.keras3(setting) for setting in settings]


def test_every_class_is_declared_once() -> None:
    names = Counter(declared.name for family in catalogue._FAMILIES for declared in family.LAYERS)
    assert [name for name, count in names.items() if count > 1] == []


def test_no_declaration_says_two_things_of_an_argument() -> None:
    for name, declared in CATALOGUE.items():
        for form in forms(declared):
            said = Counter([*form.keeps.split(), *form.renamed, *form.dropped])
            said.update(
                key for key, values in form.dropped.items() if key in form.limits and values is not ANYTHING
            )
            assert [key for key, count in said.items() if count > 1] == [], name
            known = {*form.keeps.split(), *form.renamed, *form.dropped}
            assert {*form.limits, *form.notes_if_absent, *form.single} <= known, name


def test_changes_and_folds_name_weights_that_the_class_has() -> None:
    config = {"units": 2, "filters": 2, "kernel_size": [1, 1, 1], "input_dim": 2, "output_dim": 2}
    for name, declared in CATALOGUE.items():
        for form in forms(declared):
            leaves = {change.leaf for change in form.changes}
            leaves |= {leaf for fold in form.folds.values() for leaf in fold.leaves}
            if leaves:
                rank = int((re.search(r"(\d)D", name) or [0, 2])[1])
                entry = {"class_name": name, "config": {**config, "kernel_size": [1] * rank}}
                (layer,) = parse_model(stack([entry]), where=name).children or ()
                owned = declared.weights(layer.config)
                assert owned is not None
                assert leaves <= {slot.leaf for slot in owned.slots}, name


def stack(layers: list[dict[str, Any]]) -> str:
    return json.dumps({"class_name": "Sequential", "config": {"name": "model", "layers": layers}})


def planned(name: str, shapes: Shapes) -> PlannedLayer:
    weights = [
        Weight(name=one, path=f"{name}/{number}", shape=tuple(shape), dtype=np.dtype(dtype).str)
        for number, (one, shape, dtype) in enumerate(shapes)
    ]
    return PlannedLayer(
        name=name, weights=tuple(PlannedWeight(name=weight.name, source=weight) for weight in weights)
    )


def written(class_name: str, config: dict[str, Any], shapes: Shapes, version: str = "2.2.4") -> Translation:
    """Write a layer behind a mask for Keras 3, and compute its weights."""
    masking = {"class_name": "Masking", "config": {"name": "masking", "batch_input_shape": [None, 4, 3]}}
    config = {**config, "name": "layer"}
    model = parse_model(stack([masking, {"class_name": class_name, "config": config}]), where="the test")
    expected_model(model)
    translation = translate(model, [planned("layer", shapes)], keras_version=version)
    for _, variable in translation.variables:
        if variable.source is not None:
            made = variable.make(np.zeros(variable.source.shape, variable.source.dtype))
            assert made.shape == variable.shape
    json.dumps(translation.config)
    return translation


def damaged(config: Any) -> Iterator[Any]:
    """Replace each value of a config, however deep, by some of other types, and leave each key out."""
    for key in config if isinstance(config, dict) else range(len(config)):
        for wrong in WRONG:
            other = copy.copy(config)
            other[key] = wrong
            yield other
        if isinstance(config, dict):
            yield {left: value for left, value in config.items() if left != key}
        if isinstance(config[key], dict | list):
            for inner in damaged(config[key]):
                other = copy.copy(config)
                other[key] = inner
                yield other


@pytest.mark.parametrize("era", [ERAS[0], ERAS[-1]])
def test_a_config_of_wrong_types_is_refused_or_harmless(era: str) -> None:
    """Nothing but a RemapError comes of it; each class is damaged once, by all wrong values."""
    seen = set()
    refused = tried = 0
    for number, entry in enumerate(zoo(era).values()):
        if entry["class_name"] in seen or "layers" in entry["config"]:
            continue
        seen.add(entry["class_name"])
        shapes = [*entry["trainable"], *entry["non_trainable"]]
        for config in damaged(entry["config"]):
            tried += 1
            try:
                written(entry["class_name"], config, shapes, WRITERS[number % len(WRITERS)])
            except RemapError:
                refused += 1
    assert 0 < refused < tried
    assert tried > 5000


def test_a_weight_of_another_shape_than_the_config_says_is_refused() -> None:
    cudnn = {"units": 2, "return_sequences": False}
    sound: Shapes = [["kernel:0", [3, 8], "<f4"], ["recurrent:0", [2, 8], "<f4"], ["bias:0", [16], "<f4"]]
    assert written("CuDNNLSTM", cudnn, sound).variables[0][1].shape == (3, 8)
    for number, shape in ((0, [3, 7]), (1, [2, 6]), (1, [8]), (2, [8]), (2, [15])):
        wrong = [*sound[:number], [sound[number][0], shape, "<f4"], *sound[number + 1 :]]
        with pytest.raises(InputRefused, match=re.escape(f"of shape {tuple(shape)}, where such a layer has")):
            written("CuDNNLSTM", cudnn, wrong)


@pytest.mark.parametrize(
    ("class_name", "config"),
    [
        ("Dense", {"units": 3, "activation": "relu", "brand_new": 1}),
        ("Lambda", {"function": "double", "function_type": "function", "mask": ["code", None, None]}),
        ("InputLayer", {"batch_input_shape": [None, 4, 3], "ragged": True}),
        ("TimeDistributed", {"layer": {"class_name": "Flatten", "config": {}}, "brand_new": 1}),
        ("Bidirectional", {"layer": {"class_name": "Flatten", "config": {}}, "num_constants": 1}),
    ],
)
def test_an_argument_that_the_class_does_not_have_is_refused(class_name: str, config: dict[str, Any]) -> None:
    shapes: Shapes = [["kernel:0", [3, 3], "<f4"], ["bias:0", [3], "<f4"]] if "units" in config else []
    problems = written(class_name, config, shapes).problems
    words = "does not know of this class|of Keras 3 does not have"
    assert any(re.search(words, problem.what) for problem in problems)


@pytest.mark.parametrize(
    ("class_name", "config"),
    [
        ("Attention", {"step_dim": 5}),
        ("LayerNormalization", {"epsilon": 1e-6}),
        ("Conv1DTranspose", {"pad": "same"}),
        ("Highway", {"units": 4}),
    ],
)
def test_a_custom_class_that_has_the_name_of_a_built_in_one_is_unknown(
    class_name: str, config: dict[str, Any]
) -> None:
    """Many such classes were written before Keras had one; their weights are not those of Keras's class."""
    entry = {"class_name": class_name, "config": {"name": "own", **config}}
    model = parse_model(
        stack([{"class_name": "Dense", "config": {"name": "d", "units": 2}}, entry]), where="test"
    )
    assert [layer.custom for layer in iter_layers(expected_model(model))] == [False, True]
    assert any(f"custom_objects={{'{class_name}'" in note for note in written(class_name, config, []).notes)


def test_page_says_of_every_class_what_becomes_of_it_in_keras_3() -> None:
    """Of all that keep their name, their arguments and the meaning of these it says so together."""
    page = (FIXTURES.parent / "docs" / "compatibility.md").read_text()
    page = page.partition("## Opening in Keras 3")[2]
    special = {
        name
        for name, declared in CATALOGUE.items()
        if isinstance(declared.keras3, Removed)
        or any(form.name != name or form.limits or form.changes or form.renamed for form in forms(declared))
    }
    assert {name for name in special if not re.search(rf"\b{name}\b", page)} == set()


@pytest.mark.parametrize("declared", CATALOGUE.values(), ids=lambda declared: declared.name)
def test_arguments_that_identify_a_class_have_the_same_name_in_keras_3(declared: Any) -> None:
    """The class of a layer in a file of Keras 3 would be unknown otherwise."""
    for form in forms(declared):
        assert set(declared.always_written.split()).isdisjoint(form.renamed)
