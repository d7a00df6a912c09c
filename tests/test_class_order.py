"""A weights file of Keras 3 tells the order of each class of layers, which settles some checkpoints."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import h5py
import numpy as np
import pytest

from remap import Undecided, extract, plan
from remap.assignment.class_order import ClassOrder, ToldLayer, layers_by_class
from remap.checkpoint import LayerGroup, Weight
from remap.errors import GIVE_JSON, GIVE_KERAS
from remap.recognize import Template
from remap.reference_file import read_reference
from tests.truth import differences

Case = Callable[[str, str], Path]
Shapes = tuple[tuple[int, ...], ...]

DENSE = ((4, 4), (4,))


def order(
    told: Sequence[ToldLayer],
    *listed: str,
    shapes: dict[str, Shapes] | None = None,
    outputs: Sequence[str] = (),
) -> list[str] | None:
    """Settle a list of Dense layers, or of layers of other shapes."""
    weights = []
    for layer in listed:
        for leaf, shape in zip(("kernel", "bias"), (shapes or {}).get(layer, DENSE), strict=True):
            weights.append(Weight(name=f"{layer}/{leaf}:0", path=f"{layer}/{leaf}", shape=shape, dtype="<f4"))
    group = LayerGroup(name="model_1", weights=tuple(weights))
    template = Template(
        group=group, architecture=None, replicas=2, inputs=("input_1",), outputs=tuple(outputs)
    )
    found = layers_by_class(template, told)
    return None if found is None else [layer.name for layer in found]


def dense(*names: str | None, kind: str = "dense") -> list[ToldLayer]:
    return [ToldLayer(kind=kind, name=name, shapes=DENSE) for name in names]


def test_names_of_one_class_tell_which_layers_were_frozen() -> None:
    assert order(dense("a", "b", "c"), "a", "c", "b") == ["a", "b", "c"]
    assert order(dense("a", "b", "c"), "a", "b", "c") == ["a", "b", "c"]
    assert order(dense("c", "a", "b"), "a", "b", "c") == ["c", "a", "b"]
    assert order(dense("c", "b", "a"), "a", "b", "c") is None  # no list of two parts


def test_an_order_that_does_not_end_with_the_output_of_the_wrapper_is_refused() -> None:
    assert order(dense("c", "a", "b"), "a", "b", "c", outputs=("b",)) == ["c", "a", "b"]
    assert order(dense("c", "a", "b"), "a", "b", "c", outputs=("c",)) is None


def test_weights_of_one_name_are_refused() -> None:
    weights = tuple(Weight(name="a/w:0", path=f"a/{number}", shape=(4,), dtype="<f4") for number in (1, 2))
    group = LayerGroup(name="model_1", weights=weights)
    template = Template(group=group, architecture=None, replicas=2)
    assert layers_by_class(template, [ToldLayer(kind="odd", name="a", shapes=((4,), (4,)))]) is None


def test_both_directions_of_a_layer_are_its_weights_forward_first(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "like.weights.h5", "w") as file:
        for direction, size in (("backward", 5), ("forward", 3)):
            file[f"layers/bidirectional/{direction}_layer/cell/vars/0"] = np.zeros((size, size))
        file.create_group("layers/bidirectional/vars").attrs["name"] = "both"
    told = read_reference(tmp_path / "like.weights.h5")
    assert isinstance(told, ClassOrder)
    assert told.layers == (ToldLayer(kind="bidirectional", name="both", shapes=((3, 3), (5, 5))),)


def test_automatic_names_of_another_session_count_by_their_rank() -> None:
    told = dense("dense_7", "dense_8", "dense_12")
    assert order(told, "dense_1", "dense_3", "dense_2") == ["dense_7", "dense_8", "dense_12"]
    assert order(told, "dense_1", "fc", "dense_2") is None
    assert order(dense("dense", "dense_1"), "dense_1_1", "dense_2_1") is None


def test_layers_of_two_classes_that_might_be_exchanged_are_refused() -> None:
    told = [*dense("a"), *dense("b", kind="odd")]
    assert order(told, "a", "b") is None
    other = [*dense("a"), ToldLayer(kind="odd", name="b", shapes=((3, 3, 4), (4,)))]
    assert order(other, "a", "b", shapes={"b": ((3, 3, 4), (4,))}) == ["a", "b"]


def test_other_layers_are_refused() -> None:
    for told in (dense("a"), dense("a", "c"), dense("a", "b", "c"), dense("a", None)):
        assert order(told, "a", "b") is None
    assert order(dense("a", "b"), "a", "b", shapes={"b": ((4, 5), (5,))}) is None


def test_without_names_only_layers_of_different_shapes_are_known() -> None:
    shapes: dict[str, Shapes] = {"x": ((4, 8), (8,)), "y": ((8, 2), (2,))}
    told = [ToldLayer(kind="dense", name=None, shapes=own) for own in shapes.values()]
    assert order(told, "x", "y", shapes=shapes) == ["x", "y"]
    assert order(told, "y", "x", shapes=shapes) == ["x", "y"]
    assert order(dense(None, None), "x", "y") is None


@pytest.mark.parametrize(
    "name", ["conv_bn", "alternating_frozen", "shared_layer", "two_io", "frozen_backbone", "template_frozen"]
)
@pytest.mark.parametrize("era", ["keras-2.2.4", "tf.keras-2.3.4"])
def test_a_weights_file_of_keras_3_settles_a_model_without_nested_models(
    case: Case, tmp_path: Path, era: str, name: str
) -> None:
    folder = case(era, name)
    extract(folder / "multi.h5", tmp_path / "like.weights.h5")
    report = extract(folder / "multi_weights.h5", tmp_path / "out.h5", like=tmp_path / "like.weights.h5")
    assert differences(tmp_path / "out.h5", folder / "single_weights.h5", weightless=False) == []
    assert report.settled_by == "reference"
    assert sum("assumed, not verified" in note for note in report.notes) == 2


@pytest.mark.parametrize("name", ["nested", "siamese", "renamed", "time_distributed_model"])
def test_what_it_does_not_settle_is_refused(case: Case, tmp_path: Path, name: str) -> None:
    folder = case("keras-2.2.4", name)
    extract(folder / "multi.h5", tmp_path / "like.weights.h5")
    require_refusal(folder / "multi_weights.h5", tmp_path / "out.h5", tmp_path / "like.weights.h5")


def test_what_needs_an_architecture_or_has_one_is_refused(case: Case, tmp_path: Path) -> None:
    folder, like = case("keras-2.2.4", "conv_bn"), tmp_path / "like.weights.h5"
    extract(folder / "multi.h5", like)
    require_refusal(folder / "multi.h5", tmp_path / "out.h5", like)
    require_refusal(folder / "multi_weights.h5", tmp_path / "out.keras", like)


def test_objects_inside_a_layer_that_are_not_known_are_refused(case: Case, tmp_path: Path) -> None:
    folder, like = case("keras-2.2.4", "conv_bn"), tmp_path / "like.weights.h5"
    extract(folder / "multi.h5", like)
    with h5py.File(like, "r+") as file:
        file.move("layers/dense/vars", "layers/dense/inner/vars")
    require_refusal(folder / "multi_weights.h5", tmp_path / "out.h5", like)


def require_refusal(source: Path, target: Path, like: Path) -> None:
    with pytest.raises(Undecided, match="does not tell the order of the model's layers") as caught:
        plan(source, target, like=like)
    assert caught.value.remedies == (GIVE_JSON, GIVE_KERAS)
