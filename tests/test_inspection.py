"""What `inspect` tells of every kind of Keras file, held against what those who saved them wrote down."""

from __future__ import annotations

import json
import pickle
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import h5py
import numpy as np
import pytest

from remap import InputRefused, Inspection, inspect
from remap.results import InspectedLayer
from tests.conftest import all_cases, told
from tests.documented import require_documented
from tests.handmade import save_weights

Case = Callable[[str, str], Path]

CASES = all_cases()


def layer(inspection: Inspection, *path: str) -> InspectedLayer:
    layers = inspection.layers
    found = None
    for name in path:
        found = next(layer for layer in layers if layer.name == name)
        layers = found.layers
    assert found is not None
    return found


@pytest.mark.parametrize(("era", "name"), CASES)
def test_tells_a_wrapper_as_it_was_saved(case: Case, era: str, name: str) -> None:
    folder = case(era, name)
    meta = told(folder)
    for member in ("multi.h5", "multi_weights.h5"):
        if not (folder / member).exists():
            continue
        found = inspect(folder / member)
        if meta["kind"] == "wrapper in a model" and name != "inside_deep":
            assert found.kind == ("multi-gpu-inside" if member == "multi.h5" else found.kind)
            assert found.kind != "multi-gpu"
            assert bool(found.wrappers) == (member == "multi.h5")
            continue
        if name == "gan":
            assert found.kind == "several"
            continue
        assert found.kind == "multi-gpu"
        replicas = 2 if name == "inside_deep" else meta["replicas"]  # the others belong to wrappers inside
        assert found.replicas in (None, replicas)
        assert found.template in meta["inner"]  # type: ignore[operator]
        assert [model.name for model in found.models] == [found.template]
        assert found.keras_version
        assert found.backend == "tensorflow"
        if member == "multi.h5":
            assert found.content == "full model"
            assert found.replicas == replicas
            assert found.models[0].class_name == meta["inner_class"][found.template]  # type: ignore[index]


@pytest.mark.parametrize(
    ("era", "name"), [case for case in CASES if case[0] in ("keras-2.1.6", "keras-2.2.4", "tf.keras-2.3.4")]
)
def test_every_tensor_stands_with_its_layer(case: Case, era: str, name: str) -> None:
    for path in sorted(case(era, name).rglob("*.h5")):
        found = inspect(path)
        with h5py.File(path) as file:
            stored = sorted(tensors(file.get("model_weights", file)))
        parts = [part for top in found.layers for part in top.walk()]
        listed = Counter(weight.path for part in parts for weight in part.weights)
        assert sorted(listed) == stored, path
        for part in parts:
            if any(listed[weight.path] > 1 for weight in part.weights):
                assert "shared" in part.flags
        assert found.tensors == len(stored) == sum(top.tensors for top in found.layers)
        assert found.parameters == sum(top.parameters for top in found.layers)


def tensors(group: h5py.Group) -> Iterator[str]:
    for name, item in group.items():
        if isinstance(item, h5py.Dataset):
            yield item.name
        elif name != "optimizer_weights":
            yield from tensors(item)


@pytest.mark.parametrize("member", ["single.h5", "single_weights.h5"])
def test_a_single_model_is_told_as_one(case: Case, member: str) -> None:
    for name in ("conv_bn", "sequential", "recurrent", "nested"):
        found = inspect(case("keras-2.2.4", name) / member)
        assert (found.kind, found.template, found.replicas) == ("single", None, None)
        assert found.content == ("full model" if member == "single.h5" else "weights")


def test_a_template_lists_its_layers_in_load_order(case: Case) -> None:
    folder = case("keras-2.2.4", "nested")
    found = inspect(folder / "multi.h5")
    with h5py.File(folder / "single.h5") as file:
        names = [name.decode() for name in file["model_weights"].attrs["layer_names"]]
        inner = [name.decode() for name in file["model_weights/backbone"].attrs["weight_names"]]
    assert [part.name for part in found.models[0].layers] == names
    backbone = layer(found, "model_1", "backbone")
    assert backbone.flags == ("nested",)
    weights = [weight.name for part in backbone.layers for weight in part.weights]
    assert sorted(weights) == sorted(inner)
    assert [part.name for part in backbone.layers][:3] == ["backbone_image", "c1", "b1"]


def test_roles_are_those_of_the_wrapper(case: Case) -> None:
    folder = case("keras-2.2.4", "two_io")
    for member in ("multi.h5", "multi_weights.h5"):
        roles = {part.name: part.role for part in inspect(folder / member).layers}
        assert roles == {
            "image": "input", "facts": "input", "model_1": "model", "shape": "merge", "colour": "merge",
            "lambda_1": "slice", "lambda_2": "slice", "lambda_3": "slice", "lambda_4": "slice",
        }  # fmt: skip


FLAGS = [
    ("alternating_frozen", "frozen"),
    ("frozen_backbone", "frozen"),
    ("nested", "nested"),
    ("shared_layer", "shared"),
    ("siamese", "shared"),
    ("custom_both", "custom"),
    ("own_lambda", "code"),
    ("long_names", "split names"),
]


@pytest.mark.parametrize(("name", "flag"), FLAGS)
def test_flags_what_is_out_of_the_ordinary(case: Case, name: str, flag: str) -> None:
    found = inspect(case("keras-2.2.4", name) / "multi.h5")
    (model,) = found.models
    assert any(flag in part.flags for part in model.walk())


def test_a_plain_model_has_no_flags(case: Case) -> None:
    (model,) = inspect(case("keras-2.2.4", "conv_bn") / "multi.h5").models
    assert not any(part.flags for part in model.walk())


def test_a_cudnn_layer_is_flagged(tmp_path: Path) -> None:
    path = tmp_path / "cudnn.h5"
    cudnn = {"class_name": "CuDNNLSTM", "config": {"name": "cu", "units": 2, "trainable": True}}
    config = {"class_name": "Sequential", "config": [cudnn]}
    with h5py.File(path, "w") as file:
        file.attrs["model_config"] = json.dumps(config).encode()
        root = file.create_group("model_weights")
        root.attrs["layer_names"] = np.array([b"cu"])
        group = root.create_group("cu")
        group.attrs["weight_names"] = np.array([b"cu/kernel:0"])
        group["cu/kernel:0"] = np.zeros((3, 8), "<f4")
    assert layer(inspect(path), "cu").flags == ("cudnn",)


def test_what_names_leave_open_is_said(case: Case) -> None:
    found = inspect(case("keras-2.2.4", "two_io") / "multi_weights.h5")
    assert found.settled_by is None
    assert found.models[0].grouped
    assert [part.name for part in found.models[0].layers] == ["look", "read", "shape", "colour"]
    assert found.question
    assert [remedy.option for remedy in found.remedies] == ["like", "plain"]


def test_a_file_without_weights_is_no_error(tmp_path: Path) -> None:
    found = inspect(save_weights(tmp_path / "empty.h5", {"input_1": {}, "flatten_1": {}}))
    assert (found.kind, found.tensors, [part.name for part in found.layers]) == (
        "empty", 0, ["input_1", "flatten_1"]
    )  # fmt: skip


def test_reads_no_tensor_unless_asked(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    def reading(*_: object) -> None:
        raise AssertionError

    monkeypatch.setattr("remap.stats.tensor_chunks", reading)
    path = case("keras-2.2.4", "conv_bn") / "multi.h5"
    assert inspect(path).kind == "multi-gpu"
    with pytest.raises(AssertionError):
        inspect(path, stats=True)


def test_stats_are_numpys(case: Case) -> None:
    path = case("keras-2.2.4", "conv_bn") / "multi.h5"
    seen: list[tuple[int, int]] = []
    found = inspect(path, stats=True, progress=lambda done, total: seen.append((done, total)))
    with h5py.File(path) as file:
        for part in found.models[0].walk():
            for weight in part.weights:
                value = file[weight.path][()]
                stats = weight.stats
                assert stats is not None
                assert (stats.minimum, stats.maximum) == (value.min(), value.max())
                assert stats.mean == pytest.approx(value.mean(dtype="f8"))
    assert seen[-1] == (found.parameters * 4, found.parameters * 4)


def test_json_is_as_documented(case: Case) -> None:
    for name in ("conv_bn", "gan", "custom_both", "nested"):
        for path in case("keras-2.2.4", name).glob("*.h5"):
            document = inspect(path, stats=True).to_json()
            require_documented(document)
            assert json.loads(json.dumps(document, allow_nan=False)) == document


def test_an_inspection_can_be_sent_to_another_process(case: Case) -> None:
    found = inspect(case("keras-2.2.4", "conv_bn") / "multi.h5", stats=True)
    assert pickle.loads(pickle.dumps(found)) == found  # noqa: S301


def test_refuses_what_is_no_keras_file(tmp_path: Path) -> None:
    path = tmp_path / "not.h5"
    path.write_bytes(b"PK\x03\x04model.weights.h5")
    with pytest.raises(InputRefused):
        inspect(path)
    with h5py.File(tmp_path / "broken.h5", "w") as file:
        file.attrs["model_config"] = b"[1]"
        root = file.create_group("model_weights")
        root.attrs["layer_names"] = np.array([b"a"])
        root.create_group("a").attrs["weight_names"] = np.array([])
    with pytest.raises(InputRefused):
        inspect(tmp_path / "broken.h5")
