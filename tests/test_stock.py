"""The networks of `keras.applications` as reference models, held to what releases of Keras saved."""

from __future__ import annotations

import pkgutil
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import remap
from remap import InputRefused, Undecided, UsageRefused
from remap.architecture import parse_model
from remap.assignment.expected import expected_model, iter_layers
from remap.assignment.reference import Request
from remap.checkpoint import Checkpoint
from remap.planning import compose
from remap.reference_file import names_network, read_reference
from remap.stock import recognition
from remap.stock.choice import StockModel, StockRequest, read_stock
from remap.stock.network import NETWORKS, Arguments, Network, parse, text_of
from remap.stock.templates import architecture, forms
from tests.networks import RELEASES, Saved, planned, saved
from tests.truth import differences

Case = Callable[[str, str], Path]

ERAS = ("keras-2.0.9", "keras-2.2.4", "keras-2.3.1", "tf.keras-1.15.5", "tf.keras-2.3.4-eager")
THIN = "mobilenet,alpha=0.1,classes=5,input_shape=32x32x3"
"""The network of the recorded case ``application``."""


def stock(text: str) -> StockModel:
    found = read_stock(text)
    assert found is not None
    return found


def settled(text: str, checkpoint: Checkpoint, *, keras3: bool = False) -> Request:
    return StockRequest(stock=stock(text), request=Request()).settle(checkpoint, keras3=keras3)


def sample() -> list[Saved]:
    """Choose of the recorded files each network once, and each release once at least."""
    found: dict[object, Saved] = {}
    for release in RELEASES:
        cases = sorted(saved(release), key=lambda case: len(str(case.truth)))
        for case in cases[:2]:
            found[release, case.like] = case
        for case in cases:
            found.setdefault(case.network, case)
    return list(found.values())


@pytest.mark.parametrize("case", sample(), ids=lambda case: f"{case.checkpoint.keras_version}-{case.like}")
def test_a_network_by_its_name_gives_the_file_that_keras_saved(case: Saved) -> None:
    plan = compose(case.checkpoint, settled(case.like, case.checkpoint))
    assert planned(plan.layers) == case.truth


@pytest.mark.parametrize(
    "case", sample()[::3], ids=lambda case: f"{case.checkpoint.keras_version}-{case.like}"
)
def test_a_recorded_network_is_recognized(case: Saved) -> None:
    found = recognition.recognized(case.checkpoint, remap.recognize.recognize(case.checkpoint, None).template)
    assert found is not None
    plan = compose(case.checkpoint, settled(text_of(found), case.checkpoint))
    assert planned(plan.layers) == case.truth


@pytest.mark.parametrize("network", NETWORKS)
def test_every_architecture_has_the_weights_by_which_it_is_recognized(network: str) -> None:
    counts = recognition._counts()[network]
    for form in forms(network):
        for include_top, numbers in zip((True, False), counts, strict=True):
            wanted = Network(name=network, arguments=Arguments(include_top=include_top))
            model = parse_model(architecture(form, wanted), where=network)
            assert sum(len(layer.slots) for layer in iter_layers(expected_model(model))) in numbers


@pytest.mark.parametrize(
    ("text", "network", "arguments"),
    [
        ("resnet50", "ResNet50", Arguments()),
        ("ResNet50", "ResNet50", Arguments()),
        ("mobilenet_v2,alpha=0.5,classes=7", "MobileNetV2", Arguments(alpha=0.5, classes=7)),
        ("VGG16,include_top=False,pooling=avg", "VGG16", Arguments(include_top=False, pooling="avg")),
        ("vgg19,include_top=true,pooling=None", "VGG19", Arguments()),
        ("inception_v3,input_shape=Nonex99x1", "InceptionV3", Arguments(input_shape=(None, 99, 1))),
        ("mobilenet,depth_multiplier=2,dropout=.5", "MobileNet", Arguments(depth_multiplier=2, dropout=0.5)),
        ("xception,classifier_activation=None", "Xception", Arguments(classifier_activation="linear")),
        ("xception,keras_applications=1.0.8", "Xception", Arguments(keras_applications="1.0.8")),
    ],
)
def test_a_network_is_named_in_any_case_with_the_arguments_of_keras(
    text: str, network: str, arguments: Arguments
) -> None:
    found = parse(text)
    assert found == Network(name=network, arguments=arguments)
    assert parse(text_of(found)) == found


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("resnet50,alpha=0.5", "no option 'alpha'"),
        ("mobilenet,alpha=0", "'0' is no value of alpha"),
        ("mobilenet,alpha=nan", "'nan' is no value of alpha"),
        ("resnet50,classes=0", "'0' is no value of classes"),
        ("resnet50,classes=1e3", "'1e3' is no value of classes"),
        ("resnet50,classes", "'' is no value of classes"),
        ("resnet50,include_top=no", "'no' is no value of include_top"),
        ("resnet50,pooling=sum", "'sum' is no value of pooling"),
        ("resnet50,input_shape=224", "'224' is no value of input_shape"),
        ("resnet50,input_shape=axbx3", "'axbx3' is no value of input_shape"),
        ("mobilenet,dropout=-1", "'-1' is no value of dropout"),
        ("xception,classifier_activation=@{x}", "is no value of classifier_activation"),
        ("xception,keras_applications=new", "'new' is no value of keras_applications"),
        ("xception,keras_applications=9.9.9", "no release of Keras"),
    ],
)
def test_options_that_no_network_has_are_refused(text: str, message: str) -> None:
    with pytest.raises(UsageRefused, match=message):
        read_reference(text)


def test_a_file_counts_before_a_network_of_the_same_name(
    case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert isinstance(read_reference("resnet50"), StockModel)
    assert names_network("resnet50")
    shutil.copy(case("keras-2.2.4", "conv_bn") / "single.json", "resnet50")
    assert not isinstance(read_reference("resnet50"), StockModel)
    assert not names_network("resnet50")


def test_a_missing_file_brings_networks_of_nearly_its_name_to_mind() -> None:
    with pytest.raises(InputRefused) as caught:
        read_reference("resnet-5O?alpha=1")
    assert "ResNet50" in caught.value.hint
    with pytest.raises(InputRefused) as caught:
        read_reference("model.json")
    assert caught.value.hint == "check the path"


@pytest.mark.parametrize("era", ERAS)
def test_a_name_serves_where_json_does(case: Case, tmp_path: Path, era: str) -> None:
    folder = case(era, "application")
    remap.extract(folder / "multi_weights.h5", tmp_path / "out.h5", like=THIN)
    assert differences(tmp_path / "out.h5", folder / "single_weights.h5", weightless=False) == []
    assert remap.check(tmp_path / "out.h5", THIN).loads
    assert not remap.check(folder / "multi_weights.h5", THIN).loads


@pytest.mark.parametrize("era", ERAS)
def test_a_refusal_suggests_the_network_and_the_suggestion_works(
    case: Case, tmp_path: Path, era: str
) -> None:
    for name in ("multi_weights.h5", "single_weights.h5"):
        source = case(era, "application") / name
        with pytest.raises(Undecided) as caught:
            remap.extract(source, tmp_path / "out.keras")
        remedy = caught.value.remedies[0]
        assert (remedy.option, remedy.value) == ("like", "MobileNet,classes=5,alpha=0.1")
        assert remedy.when == "the model is keras.applications.MobileNet(classes=5, alpha=0.1)"
        assert "MobileNet(classes=5, alpha=0.1)" in remap.inspect(source).notes[-1]
    assert remap.inspect(case(era, "application") / "multi_weights.h5").remedies[0] == remedy


def test_releases_that_compute_differently_are_not_guessed_for_a_whole_model(
    case: Case, tmp_path: Path
) -> None:
    source = case("keras-2.2.4", "application") / "multi_weights.h5"
    with pytest.raises(Undecided, match="different ways") as caught:
        remap.extract(source, tmp_path / "out.keras", like=THIN)
    values = [remedy.value for remedy in caught.value.remedies]
    assert values[-1] == "model.json"
    for value in values[:-1]:
        assert remap.extract(source, tmp_path / "out.keras", like=str(value), overwrite=True).tensors == 137


def altered(checkpoint: Checkpoint, **changes: Any) -> Checkpoint:
    return replace(checkpoint, **changes)


def automatic() -> Saved:
    """Give a network all of whose convolutions have names that Keras numbered."""
    return next(case for case in saved("keras-2.2.4+1.0.8") if case.network == "InceptionV3")


def test_a_version_between_two_that_are_known_is_like_both() -> None:
    case = automatic()
    between = altered(case.checkpoint, keras_version="2.2.3")
    assert planned(compose(between, settled(case.like, between)).layers) == case.truth
    later = altered(case.checkpoint, keras_version="2.9.9-tf")
    names = [name for name, _ in planned(compose(later, settled(case.like, later)).layers)]  # type: ignore[attr-defined]
    assert "conv2d" in names


def test_without_names_and_version_releases_that_differ_are_refused() -> None:
    case = automatic()
    unknown = altered(case.checkpoint, keras_version=None)
    with pytest.raises(Undecided, match="different ways"):
        settled(case.like, unknown)


def test_another_network_is_refused_with_the_reason() -> None:
    case = automatic()
    with pytest.raises(Undecided, match="does not fit the checkpoint"):
        settled("resnet50", case.checkpoint)
    with pytest.raises(Undecided, match="does not fit the checkpoint"):
        settled(f"{case.like},classes=6", case.checkpoint)


def test_a_changed_network_is_not_recognized() -> None:
    case = automatic()
    groups = [group for group in case.checkpoint.layers if group.weights]
    last = groups[0].weights[-1]
    changed = replace(groups[0], weights=(*groups[0].weights[:-1], replace(last, shape=(9, 9))))
    template = remap.recognize.recognize(case.checkpoint, None).template
    assert template is not None
    assert recognition.recognized(case.checkpoint, replace(template, group=changed)) is None


@pytest.mark.parametrize("shape", [(), (0, 7), (2048, 10**9), (2048, 5, 1, 1)])
def test_shapes_that_no_network_has_are_not_recognized(shape: tuple[int, ...]) -> None:
    case = automatic()
    group = next(group for group in case.checkpoint.layers if group.weights)
    weights = tuple(
        replace(weight, shape=shape) if weight.name.startswith("predictions/kernel") else weight
        for weight in group.weights
    )
    template = remap.recognize.recognize(case.checkpoint, None).template
    assert template is not None
    changed = replace(template, group=replace(group, weights=weights))
    assert recognition.recognized(case.checkpoint, changed) is None


def test_no_architecture_is_read_where_none_is_needed(
    case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> bytes:
        raise AssertionError

    monkeypatch.setattr(pkgutil, "get_data", refuse)
    folder = case("keras-2.2.4", "conv_bn")
    remap.extract(folder / "multi_weights.h5", tmp_path / "out.h5", like=folder / "single.json")
    remap.inspect(folder / "multi.h5")


def test_many_files_take_a_network_by_name(case: Case, tmp_path: Path) -> None:
    source = case("tf.keras-2.3.4-eager", "application") / "multi_weights.h5"
    for number in range(2):
        shutil.copy(source, tmp_path / f"{number}.h5")
    for resume in (False, True):
        results = list(
            remap.extract_many([tmp_path], tmp_path / "out", recursive=True, like=THIN, resume=resume, jobs=1)
        )
        assert {result.status for result in results} == {"already done" if resume else "written"}
