"""However the layers of a made-up model are settled, the answer is the file that Keras would have saved, or none.

Keras would have saved it as `architectures` says, which knows nothing of the package.
"""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Iterable
from dataclasses import replace

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from remap.assignment.class_order import ClassOrder, ClassRequest, ToldLayer
from remap.assignment.loading import FileLayer, ModelLayer, load_by_order
from remap.assignment.reference import Reference, Request, reference_from_json
from remap.checkpoint import Checkpoint, LayerGroup, Weight
from remap.conversion_plan import Plan, PlannedLayer
from remap.errors import RemapError
from remap.planning import compose, compose_for_keras3
from tests.property.architectures import (
    Flags,
    Made,
    MadeLayer,
    config_of,
    flat_list,
    groups_of,
    make,
    reference_flags,
)

Answer = list[tuple[str, list[str]]]

WAYS = (
    "config",
    "json",
    "new json",
    "kept json",
    "flat file",
    "new file",
    "kept file",
    "names",
    "plain",
    "classes",
)
# Whose flags the answer follows: those of the reference model, or the checkpoint's where these are kept.
FLAGS: dict[str, Flags] = {"json": "config", "new json": "none", "new file": "none"}


def weight_of(layer: MadeLayer, index: int, *, where: str) -> Weight:
    name, shape = layer.weight(index)
    return Weight(name=name, path=f"{where}/{id(layer)}/{index}", shape=shape, dtype="<f4")


def checkpoint_of(made: Made, *, full: bool) -> Checkpoint:
    """Wrap the template for two replicas, as `multi_gpu_model` does."""
    own = tuple(weight_of(layer, index, where="") for layer, index in flat_list(made))
    children = made.template.children or []
    joined = ["merged"] if full else [child.name for child in children[-made.outputs :]]
    model = "sequential_1" if made.given and not full else "model_1"
    given = f"{made.given}_input" if made.given and not full else "input_1"
    groups = {given: (), "lambda_1": (), "lambda_2": (), model: own, **dict.fromkeys(joined, ())}
    layers = tuple(LayerGroup(name=name, weights=weights) for name, weights in groups.items())
    config = json.dumps(wrapper_config(made)) if full else None
    return Checkpoint(root="/", layers=layers, keras_version="2.2.4", model_config=config)


def wrapper_config(made: Made) -> dict[str, object]:
    def entry(name: str, kind: str, config: dict[str, object], nodes: list[object]) -> dict[str, object]:
        return {"name": name, "class_name": kind, "config": {"name": name, **config}, "inbound_nodes": nodes}

    slices = [
        entry(name, "Lambda", {"arguments": {"i": part, "parts": 2}}, [[["input_1", 0, 0, {}]]])
        for part, name in enumerate(("lambda_1", "lambda_2"))
    ]
    inner: dict[str, object] = {"name": "model_1", **config_of(made.template)}
    inner["inbound_nodes"] = [[["lambda_1", 0, 0, {}]], [["lambda_2", 0, 0, {}]]]
    merge = entry("merged", "Concatenate", {"axis": 0}, [[["model_1", 1, 0, {}], ["model_1", 2, 0, {}]]])
    layers = [entry("input_1", "InputLayer", {}, []), *slices, inner, merge]
    ends = {"input_layers": [["input_1", 0, 0]], "output_layers": [["merged", 0, 0]]}
    return {"class_name": "Model", "config": {"name": "model_2", "layers": layers, **ends}}


def like_for(made: Made, way: str) -> Reference | None:
    if "json" in way:
        flags = way == "json"
        return reference_from_json(json.dumps(config_of(made.template, flags=flags)), where="like.json")
    if "file" in way:
        with reference_flags(made, "saved" if way == "flat file" else "none"):
            groups = tuple(
                LayerGroup(name=name, weights=tuple(weight_of(*weight, where="like") for weight in weights))
                for name, weights in groups_of(made)
            )
        return Reference(where="like.h5", groups=groups)
    return None


def told_by_classes(made: Made) -> ClassOrder | None:
    """List the layers by class, as a weights file of Keras 3 does; None for a model with nested models."""
    children = [
        child for child in made.template.children or [] if child.children or child.trains + child.rests
    ]
    if any(child.children is not None for child in children):
        return None
    layers = (
        ToldLayer(
            kind=child.class_name,
            name=child.name,
            shapes=tuple(shape for _, shape in child.trains + child.rests),
        )
        for child in sorted(children, key=lambda child: child.class_name)
    )
    return ClassOrder(where="like.weights.h5", layers=tuple(layers))


def planned_by_classes(made: Made) -> Plan | None:
    told, checkpoint = told_by_classes(made), checkpoint_of(made, full=False)
    if told is None:
        return None
    request = ClassRequest(told=told, request=Request())
    try:
        plan = compose(checkpoint, request.settle(checkpoint, keras3=False))
    except RemapError:
        return None
    return replace(plan, notes=(*plan.notes, *request.notes))


def planned(made: Made, way: str) -> Plan | None:
    """Plan the extraction; None for a refusal."""
    if way == "classes":
        return planned_by_classes(made)
    try:
        return compose(
            checkpoint_of(made, full=way == "config"),
            Request(
                like=like_for(made, way),
                plain=way == "plain",
                order="saved" if way.startswith("kept") else "reference",
            ),
        )
    except RemapError:
        return None


def answer(plan: Plan) -> Answer:
    """Give the layers of a plan with the paths of their weights."""
    return [(layer.name, [w.source.path for w in layer.weights]) for layer in plan.layers if layer.weights]


def truth(made: Made, way: str) -> Answer:
    with reference_flags(made, FLAGS.get(way, "saved")):
        return [
            (name, [weight_of(*weight, where="").path for weight in weights])
            for name, weights in groups_of(made)
            if weights
        ]


def shapes(made: Made, answered: Answer) -> list[list[tuple[int, ...]]]:
    known = {weight_of(*weight, where="").path: weight[0].weight(weight[1])[1] for weight in flat_list(made)}
    return [[known[path] for path in paths] for _, paths in answered]


def require_right(made: Made, way: str) -> bool:
    """Require a right answer or none; tell whether there was one."""
    if way == "plain" and not made.plain:
        return False  # the word given would not be true
    plan = planned(made, way)
    if plan is None:
        return False
    if way in {"names", "plain"} or (way == "classes" and not made.swapped):
        require_no_silent_load(made, plan)
        return True
    if made.swapped and any(
        "names of the weights settled" in note or "assumed" in note for note in plan.notes
    ):
        return True  # two layers bear each other's names, and the plan says that it believed names
    answered = answer(plan)
    expected = truth(made, way)
    assert answered == expected
    return True


def require_no_silent_load(made: Made, plan: Plan) -> None:
    """Require that Keras refuses a file whose layers are not those of the model.

    Names of layers are not known here, and layers of a nested model are not counted as one. Of two branches automatic
    numbers do not tell which is listed first: the plan says that it goes by them.
    """
    answered, expected = answer(plan), truth(made, "names")
    files = [
        FileLayer(name=name, shapes=tuple(own))
        for (name, _), own in zip(answered, shapes(made, answered), strict=True)
    ]
    model = [
        ModelLayer(name=name, shapes=tuple(own))
        for (name, _), own in zip(expected, shapes(made, expected), strict=True)
    ]
    if load_by_order(files, model).loads and not (
        made.branched and any("equal shapes" in note for note in plan.notes)
    ):
        assert [paths for _, paths in answered] == [paths for _, paths in expected]


@pytest.mark.parametrize("way", WAYS)
@settings(max_examples=150, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_answer_is_what_keras_saved_or_a_refusal(way: str, seed: int) -> None:
    require_right(make(random.Random(seed)), way)


# The share of made-up models that may be refused: of those of every kind, and of common ones.
REFUSED = {
    "config": (0.15, 0.0),
    "json": (0.25, 0.0),
    "new json": (0.55, 0.0),
    "kept json": (0.55, 0.0),
    "flat file": (0.35, 0.0),
    "new file": (0.35, 0.0),
    "kept file": (0.35, 0.0),
    "names": (0.75, 0.10),
    "plain": (0.50, 0.15),
    "classes": (0.90, 0.10),
}


@pytest.mark.parametrize("way", WAYS)
def test_refuses_no_more_than_it_must(way: str, capsys: pytest.CaptureFixture[str]) -> None:
    told: Counter[str] = Counter()
    for common in (False, True):
        for seed in range(200):
            made = make(random.Random(seed), common=common)
            if way == "plain" and not made.plain:
                continue
            told[f"{common} answered" if require_right(made, way) else f"{common} refused"] += 1
    shares = [
        told[f"{common} refused"] / (told[f"{common} refused"] + told[f"{common} answered"])
        for common in (False, True)
    ]
    with capsys.disabled():
        print(f"\n{way}: refused {shares[0]:.1%} of all kinds, {shares[1]:.1%} of common ones")  # noqa: T201
    assert shares[0] <= REFUSED[way][0]
    assert shares[1] <= REFUSED[way][1]


KERAS_3_WAYS = ("config", "json", "new json", "single config", "single json", "single new json")


def single_file_of(made: Made, *, full: bool) -> Checkpoint:
    """Save the template itself, as Keras does."""
    layers = tuple(
        LayerGroup(name=name, weights=tuple(weight_of(*weight, where="") for weight in weights))
        for name, weights in groups_of(made)
    )
    config = json.dumps(config_of(made.template)) if full else None
    return Checkpoint(root="/", layers=layers, keras_version="2.2.4", model_config=config)


def owned(layers: Iterable[PlannedLayer], above: tuple[str, ...] = ()) -> dict[tuple[str, ...], list[str]]:
    """Give the weights of the layers that are no models, by their paths."""
    found: dict[tuple[str, ...], list[str]] = {}
    for layer in layers:
        path = (*above, layer.name)
        if layer.children:
            found |= owned(layer.children, path)
        elif layer.weights:
            found[path] = [weight.source.path for weight in layer.weights]
    return found


def truly_owned(layer: MadeLayer, above: tuple[str, ...] = ()) -> dict[tuple[str, ...], list[str]]:
    found: dict[tuple[str, ...], list[str]] = {}
    for child in layer.children or ():
        path = (*above, child.name)
        found |= truly_owned(child, path)
        if child.children is None and child.trains + child.rests:
            indices = range(len(child.trains) + len(child.rests))
            found[path] = [weight_of(child, index, where="").path for index in indices]
    return found


@pytest.mark.parametrize("way", KERAS_3_WAYS)
@settings(max_examples=100, deadline=None)
@given(seed=st.integers(0, 2**32))
@example(seed=187)  # a model that was built again, with two layers of one name
@example(seed=2512)  # the same, where the list of a nested model has one of them only
@example(seed=47637)  # custom layers whose weights have no scope
@example(seed=8168)  # layers of one name in a scope that is around all of them
def test_every_layer_of_a_plan_for_keras_3_has_its_own_weights(way: str, seed: int) -> None:
    require_own_weights(make(random.Random(seed)), way)


def require_own_weights(made: Made, way: str) -> bool:
    """Require a right plan or none; tell whether there was one."""
    full = way.endswith("config")
    like = like_for(made, way.removeprefix("single "))
    checkpoint = single_file_of(made, full=full) if "single" in way else checkpoint_of(made, full=full)
    try:
        plan = compose_for_keras3(checkpoint, Request(like=like))
    except RemapError:
        return False
    told = any("names of the weights settled" in note or "assumed" in note for note in plan.notes)
    if not (made.swapped and ("single" in way or told)):
        assert owned(plan.layers) == truly_owned(made.template)
    return True


@pytest.mark.parametrize("way", KERAS_3_WAYS)
def test_refuses_no_more_for_keras_3_than_it_must(way: str) -> None:
    answers = [require_own_weights(make(random.Random(seed)), way) for seed in range(100)]
    assert sum(answers) >= 60
