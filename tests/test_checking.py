"""What `check` says of files and models."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from numpy.typing import NDArray

from remap import Check, InputRefused, Undecided, check, extract
from remap.console.check import check_lines
from tests.conftest import FIXTURES
from tests.documented import require_documented
from tests.handmade import save_weights
from tests.loader_files import write_files
from tests.paper import entry, stack

Case = Callable[[str, str], Path]

ERA = "keras-2.2.4"


def test_words_of_old_keras_are_those_people_search_for(case: Case) -> None:
    folder = case(ERA, "nested")
    assert check(folder / "multi_weights.h5", folder / "single.json").words == (
        "You are trying to load a weight file containing 1 layers into a model with 5 layers.",
        "Layer count mismatch when loading weights from file. Model expected 5 layers, found 1 saved layers.",
    )
    old, new = check(folder / "multi_weights.h5", folder / "single.json").by_name_words
    assert (
        old == 'Layer #4 (named "predictions") expects 2 weight(s), but the saved weights have 0 element(s).'
    )
    assert new.startswith(
        "Weight count mismatch for layer #4 (named predictions). Layer expects 2 weight(s)."
    )


def test_a_kernel_in_the_wrong_place_has_axes_that_do_not_match(case: Case) -> None:
    frozen, thawed = (case(ERA, "nested_partly_frozen") / name for name in ("single.h5", "fresh_weights.h5"))
    assert "axes don't match array" in check(thawed, frozen).words


def test_a_multi_gpu_file_is_told_as_one(case: Case) -> None:
    folder = case(ERA, "conv_bn")
    for name, expected in (("multi.h5", True), ("multi_weights.h5", True), ("single.h5", False)):
        found = check(folder / name, folder / "single.json")
        assert (found.multi_gpu, found.loads) == (expected, not expected)
        require_documented(found.to_json())


def dense(*names: str) -> dict[str, dict[str, NDArray[np.generic]]]:
    return {name: {f"{name}/kernel:0": np.ones((3, 3), "<f4")} for name in names}


@pytest.mark.parametrize(
    ("names", "warning"),
    [
        (("a", "b", "c"), None),
        (("b", "a", "c"), "2 layers would get the weights of a layer of another name that the model has too"),
        (("x", "y", "c"), "2 layers have other names in the file and equal shapes (a, b)"),
        (("v", "w", "x", "y", "z"), "5 layers have other names in the file and equal shapes (a, b, c …)"),
    ],
)
def test_an_order_that_keras_would_not_question_is_warned_of(
    tmp_path: Path, names: tuple[str, ...], warning: str | None
) -> None:
    model = save_weights(tmp_path / "model.h5", dense(*"abcde"[: len(names)]))
    found = check(save_weights(tmp_path / "file.h5", dense(*names)), model)
    crossed = names[:2] == ("b", "a")
    assert found.verdict == ("crossed" if crossed else "loads")
    assert found.loading.loads
    assert check(tmp_path / "file.h5", model, by_order=True).loads
    assert len(found.warnings) == (warning is not None)
    assert (warning or "") in "".join(found.warnings)


def test_missing_and_extra_layers_are_told(tmp_path: Path) -> None:
    model = save_weights(tmp_path / "model.h5", dense("a", "b"))
    more = check(save_weights(tmp_path / "more.h5", dense("a", "b", "c")), model)
    assert [step.expected is None for step in more.loading.steps] == [False, False, True]
    fewer = check(save_weights(tmp_path / "fewer.h5", dense("b")), model)
    assert [step.saved is None for step in fewer.loading.steps] == [False, True]
    assert fewer.by_name is not None
    assert fewer.by_name.loads
    assert not fewer.loads


def test_layers_of_custom_classes_are_named(case: Case) -> None:
    folder = case(ERA, "custom_both")
    found = check(folder / "single_weights.h5", folder / "single.json")
    assert found.loads
    assert "were not compared" in found.warnings[-1]


def test_a_multi_gpu_file_describes_no_single_model(case: Case) -> None:
    folder = case(ERA, "conv_bn")
    with pytest.raises(Undecided):
        check(folder / "single.h5", folder / "multi_weights.h5")


def inside(*names: str) -> dict[str, dict[str, NDArray[np.generic]]]:
    """Make a nested model of layers of one shape."""
    return {"inner": {f"{name}/kernel:0": np.ones((2, 2), "<f4") for name in names}}


@pytest.mark.parametrize(
    ("names", "crossed"),
    [
        (("a", "b", "c"), False),
        (("b", "c", "a"), True),
        (("b_1", "c_1", "a_1"), True),  # built for a second time in one session of TensorFlow 1
        (("x", "y", "z"), False),
    ],
)
@pytest.mark.parametrize("form", ["weights", "json"])
def test_layers_inside_a_nested_model_are_compared_by_name(
    tmp_path: Path, form: str, names: tuple[str, ...], crossed: bool
) -> None:
    file = save_weights(tmp_path / "file.h5", inside(*names))
    model = save_weights(tmp_path / "model.h5", inside("a", "b", "c"))
    if form == "json":
        model = tmp_path / "model.json"
        model.write_text(
            json.dumps(
                stack(stack(*(entry(name, "Dense", units=2, use_bias=False) for name in "abc"), name="inner"))
            )
        )
    found = check(file, model)
    assert found.loading.loads
    assert found.verdict == ("crossed" if crossed else "loads")
    verdict = next(check_lines(found, width=80, ascii_only=True)).plain
    assert verdict.startswith("Loads: ") != crossed
    assert (
        any("would get the weights of a layer of another name" in said for said in found.warnings) == crossed
    )


def test_numbers_of_another_session_are_no_wrong_order(tmp_path: Path) -> None:
    for later in (1, 5):
        ours, theirs = ([f"dense_{number + first}" for number in range(3)] for first in (1, 1 + later))
        nested, plain = (
            check(
                save_weights(tmp_path / "file.h5", made(*ours)),
                save_weights(tmp_path / "model.h5", made(*theirs)),
            )
            for made in (inside, dense)
        )
        assert nested.loads
        assert plain.loads


@pytest.mark.parametrize(("writer", "crossed"), [("keras 3", "ba"), ("tf_keras", "ab"), ("unknown", "")])
def test_a_model_that_is_frozen_as_a_whole_is_loaded_as_its_keras_lists_it(
    tmp_path: Path, writer: str, crossed: str
) -> None:
    """Keras 3 lists the weights layer by layer, tf_keras the trainable ones first."""
    start = [entry("start", "InputLayer", batch_shape=[None, 2])] if writer == "keras 3" else []
    layers = [entry(name, "Dense", units=2, use_bias=False, trainable=name == "b") for name in "ab"]
    inner = stack(*start, *layers, name="inner")
    inner["config"]["trainable"] = False
    version = {"keras_version": "2.21.0"} if writer == "tf_keras" else {}
    model = tmp_path / "model.json"
    model.write_text(json.dumps({**stack(inner), "registered_name": "Sequential", **version}))
    for names in ("ab", "ba"):
        file = save_weights(tmp_path / "file.h5", inside(*names))
        if writer == "unknown":
            with pytest.raises(Undecided, match="does not tell whether Keras 2 or Keras 3 wrote it"):
                check(file, model)
        else:
            assert check(file, model).verdict == ("crossed" if names == crossed else "loads")


def encoder(path: Path, *order: str) -> Path:
    """Save a nested model with layers of equal shapes, in the order of some trainable flags."""
    inside = {f"{name}/kernel:0": np.ones((3, 3), "<f4") for name in order}
    return save_weights(path, {"enc": inside} | dense("z"))


@pytest.mark.parametrize("form", ["file", "json"])
def test_a_nested_model_in_the_order_of_other_flags_is_crossed(tmp_path: Path, form: str) -> None:
    names = ("e0", "e1", "e2", "e3")
    like = encoder(tmp_path / "like.h5", *names)
    if form == "json":
        like = tmp_path / "like.json"
        layers = [entry(name, "Dense", units=3, use_bias=False) for name in names]
        like.write_text(
            json.dumps(stack(stack(*layers, name="enc"), entry("z", "Dense", units=3, use_bias=False)))
        )
    assert check(encoder(tmp_path / "same.h5", *names), like).loads
    found = check(encoder(tmp_path / "other.h5", "e1", "e3", "e0", "e2"), like)
    assert (found.verdict, found.loading.crossed) == ("crossed", (("e0", "e1"),))
    assert found.loading.loads
    assert "e0 those of e1" in found.warnings[0]
    assert check(tmp_path / "other.h5", like, by_order=True).loads
    require_documented(found.to_json())


def test_a_custom_class_decides_where_the_file_does_not_tell_its_weights(tmp_path: Path) -> None:
    like = tmp_path / "like.json"
    like.write_text(json.dumps(stack(entry("odd", "Odd"), entry("a", "Dense", units=3, use_bias=False))))
    told = check(save_weights(tmp_path / "told.h5", {"odd": {}, **dense("a")}), like)
    assert (told.verdict, told.loading.undecided) == ("loads", ())
    untold = check(save_weights(tmp_path / "untold.h5", dense("a")), like)
    assert (untold.verdict, untold.loads, untold.loading.undecided) == ("cannot tell", False, ("Odd",))
    assert "custom classes: Odd" in untold.warnings[-1]
    require_documented(untold.to_json())
    refused = check(save_weights(tmp_path / "more.h5", dense("a", "b", "c")), like)
    assert refused.verdict == "does not load"


def answers(found: Check) -> list[str]:
    """Give the answers of Keras 2, tf_keras, Keras 3 and its load_model."""
    require_documented(found.to_json())
    return [one.answer for one in found.loaders]


@pytest.fixture(scope="module")
def formats(case: Case, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a folder with one model in every format, under right names and wrong ones."""
    folder = tmp_path_factory.mktemp("formats")
    write_files(case(ERA, "conv_bn"), folder)
    return folder


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("single.h5", "yes yes yes yes"),
        ("single_weights.h5", "yes yes yes no"),
        ("single.keras", "no yes yes yes"),
        ("single.weights.h5", "no yes yes no"),
        ("old.weights.h5", "yes no no no"),
        ("old.hdf", "yes yes no no"),
        ("full.bin", "yes yes no no"),
        ("old.keras", "yes yes no no"),
        ("new.h5", "no no no no"),
        ("zip.h5", "no no no no"),
    ],
)
@pytest.mark.parametrize("like", ["single.json", "single.h5", "single.keras"])
def test_each_loader_goes_by_the_format_and_the_name(
    formats: Path, name: str, like: str, expected: str
) -> None:
    found = check(formats / name, formats / like)
    assert answers(found) == expected.split()
    assert found.loads == ("yes" in expected)
    refused = [one for one in found.loaders if one.answer == "no"]
    assert all(one.reason and (one.hint or one.remedies) for one in refused)


RECORDED = json.loads((FIXTURES / "loaders.json").read_text())


@pytest.mark.parametrize("era", RECORDED)
def test_the_answers_are_those_that_each_release_gave(formats: Path, era: str) -> None:
    number = 2 if era.startswith("keras-3") else 1 if era.startswith("tf_keras") else 0
    assert len(RECORDED[era]) == 12
    for name, said in RECORDED[era].items():
        found = check(formats / name, formats / "single.h5").loaders[number]
        assert (name, found.answer) == (name, "no" if said else "yes")
        if name.startswith("multi") and not number:
            assert said == f"ValueError: {found.reason}"
        elif name.startswith("multi"):
            assert found.reason in said


def test_a_weights_file_of_keras_3_describes_the_objects_of_a_model(
    formats: Path, case: Case, tmp_path: Path
) -> None:
    like = formats / "single.weights.h5"
    assert answers(check(formats / "single.keras", like)) == ["no", "cannot tell", "yes", "yes"]
    extract(case(ERA, "nested") / "multi.h5", tmp_path / "other.weights.h5")
    assert check(tmp_path / "other.weights.h5", like).verdict == "does not load"
    with pytest.raises(Undecided, match="does not tell the order of the model's layers"):
        check(formats / "single.h5", like)


def test_without_a_model_the_file_describes_itself(formats: Path, case: Case) -> None:
    for name in ("single.h5", "single.keras"):
        found = check(formats / name)
        assert (found.like, found.verdict) == (None, "loads")
        require_documented(found.to_json())
    assert check(formats / "single.keras").loaders[3].reason == "in Keras 3.5 and later"
    assert check(formats / "single.h5").loaders[3].reason == ""
    wrapped = check(case(ERA, "conv_bn") / "multi.h5")
    assert answers(wrapped) == ["no"] * 4
    assert "multi-GPU wrapper" in wrapped.loaders[3].reason
    for name in ("single_weights.h5", "single.weights.h5"):
        with pytest.raises(Undecided, match="the file has no architecture"):
            check(formats / name)


def test_the_format_of_keras_2_does_not_tell_where_keras_3_looks(formats: Path) -> None:
    with pytest.raises(Undecided, match="does not tell the classes"):
        check(formats / "single.keras", formats / "single_weights.h5")


def keras3_file(path: Path, **shapes: tuple[int, ...]) -> Path:
    """Save a weights file of Keras 3 with Dense layers without biases, called as told."""
    with h5py.File(path, "w") as file:
        file.create_group("vars").attrs["name"] = "model"
        for number, (name, shape) in enumerate(shapes.items()):
            group = file.create_group(f"layers/dense_{number}/vars" if number else "layers/dense/vars")
            group.attrs["name"] = name
            group["0"] = np.ones(shape, np.float32)
    return path


@pytest.mark.parametrize(
    ("shapes", "verdict", "words"),
    [
        ({"a": (3, 3), "b": (3, 3)}, "loads", ""),
        ({"b": (3, 3), "a": (3, 3)}, "crossed", "a would get the weights of b"),
        ({"dense_4": (3, 3), "dense_5": (3, 3)}, "loads", ""),
        ({"a": (3, 3)}, "does not load", "Layer 'b' expected 1 variables, but received 0 variables"),
        ({"a": (3, 3), "b": (3, 4)}, "does not load", "variable.shape=(?, 3), Received: value.shape=(3, 4)"),
        ({"a": (3, 3), "b": (3, 3), "c": (9,)}, "loads", "1 objects of the file are ignored"),
    ],
)
def test_keras_3_finds_weights_by_path(
    tmp_path: Path, shapes: dict[str, tuple[int, ...]], verdict: str, words: str
) -> None:
    layers = [entry(name, "Dense", units=3, use_bias=False) for name in "ab"]
    like = tmp_path / "model.json"
    like.write_text(json.dumps(stack(*layers)))
    found = check(keras3_file(tmp_path / "a.weights.h5", **shapes), like)
    assert found.verdict == verdict
    assert words in found.loaders[2].reason
    assert bool(found.loaders[2].reason) == bool(words)
    require_documented(found.to_json())
    if verdict == "crossed":
        assert check(tmp_path / "a.weights.h5", like, by_order=True).loads
    shown = "\n".join(line.plain for line in check_lines(found, width=100, ascii_only=True))
    assert ("ignored" in shown) == ("c" in shapes)


def test_a_custom_class_decides_in_keras_3_too(tmp_path: Path) -> None:
    like = tmp_path / "model.json"
    like.write_text(json.dumps(stack(entry("a", "Dense", units=3, use_bias=False), entry("odd", "Odd"))))
    found = check(keras3_file(tmp_path / "a.weights.h5", a=(3, 3)), like)
    assert (found.verdict, found.loading.undecided) == ("cannot tell", ("Odd",))
    assert [one.answer for one in found.loaders[1:3]] == ["cannot tell"] * 2
    assert check(keras3_file(tmp_path / "b.weights.h5", a=(4, 4)), like).verdict == "does not load"


def test_layers_that_keras_3_stores_otherwise_are_told(case: Case, unpacked: dict[str, Path]) -> None:
    layers = unpacked[ERA]
    cudnn = check(layers / "cudnnlstm.h5")
    assert (cudnn.loaders[0].answer, cudnn.loaders[2].answer) == ("yes", "no")
    assert "CuDNNLSTM" in cudnn.loaders[2].reason
    local = check(layers / "locally_connected1d.h5")
    assert (local.loaders[0].answer, local.loaders[2].answer) == ("yes", "cannot tell")
    steep = check(case(ERA, "lstm_plain") / "single.h5")
    assert (steep.loaders[2].answer, "hard_sigmoid" in steep.loaders[2].reason) == ("yes", True)


def rewritten(source: Path, target: Path, **members: Any) -> Path:
    """Copy an archive with other JSON in it."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w") as new:
        for name in old.namelist():
            stem = name.partition(".")[0]
            content = old.read(name)
            if name.endswith(".json") and stem in members:
                content = json.dumps(members[stem](json.loads(content))).encode()
            new.writestr(name, content)
    return target


def test_a_model_of_a_class_of_its_own_needs_another_description(formats: Path, tmp_path: Path) -> None:
    mine = {"module": "mine", "class_name": "Mine", "config": {"units": 3}, "registered_name": "mine>Mine"}
    file = rewritten(formats / "single.keras", tmp_path / "mine.keras", config=lambda _: mine)
    with pytest.raises(Undecided, match="of a class of your own"):
        check(file)
    assert answers(check(file, formats / "single.keras")) == ["no", "yes", "yes", "cannot tell"]
    assert answers(check(formats / "single.keras", file)) == ["no", "cannot tell", "yes", "yes"]
    with pytest.raises(Undecided, match="does not tell the order"):
        check(formats / "single.h5", file)


def test_what_keras_3_opens_only_in_part_is_told(formats: Path, case: Case, tmp_path: Path) -> None:
    old = rewritten(
        formats / "single.keras",
        tmp_path / "a.keras",
        metadata=lambda told: {**told, "keras_version": "2.13.1"},
    )
    assert check(old).loaders[3].reason == "Keras 2.13.1 wrote it, of whose files Keras 3 opens a part"
    extract(case(ERA, "dense_plain") / "multi.h5", tmp_path / "other.keras")
    with zipfile.ZipFile(tmp_path / "other.keras") as other:
        config = json.loads(other.read("config.json"))
    mixed = check(rewritten(formats / "single.keras", tmp_path / "b.keras", config=lambda _: config))
    assert answers(mixed) == ["no", "no", "no", "no"]
    assert "its weights, which are not those of its architecture" in mixed.loaders[3].reason


@pytest.mark.parametrize("coded", [True, False])
def test_functions_of_the_users_own_are_told(case: Case, tmp_path: Path, coded: bool) -> None:
    extract(case(ERA, "own_lambda") / "multi.h5", tmp_path / "a.keras")

    def with_code(config: Any) -> Any:
        for layer in config["config"]["layers"]:
            if layer["class_name"] == "Lambda" and coded:
                layer["config"]["function"] = {"class_name": "__lambda__", "config": {"code": "4wAAAA=="}}
        return config

    (verdict,) = check(rewritten(tmp_path / "a.keras", tmp_path / "b.keras", config=with_code)).loaders[3:]
    assert verdict.answer == ("no" if coded else "yes")
    assert ("safe_mode=False" if coded else "custom_objects={") in verdict.reason


@pytest.mark.parametrize(
    ("name", "version", "since"),
    [
        ("conv_bn", "3.0.5", "3.0"),
        ("conv_bn", "3.15.1", "3.15"),
        ("shared_layer", "3.5.0", "3.7"),
        ("shared_layer", "3.10.0", "3.10"),
        ("conv_bn", "", ""),
        ("conv_bn", "3", ""),
    ],
)
def test_the_oldest_release_that_surely_opens_an_archive_is_told(
    case: Case, tmp_path: Path, name: str, version: str, since: str
) -> None:
    extract(case(ERA, name) / "multi.h5", tmp_path / "a.keras")
    file = rewritten(
        tmp_path / "a.keras", tmp_path / "b.keras", metadata=lambda _: {"keras_version": version}
    )
    found = check(file).loaders[3]
    if version == "3":
        assert found.answer == "cannot tell"
    else:
        assert (found.answer, found.reason) == ("yes", f"in Keras {since} and later" if since else "")


def test_a_model_that_is_not_there_is_told(formats: Path) -> None:
    with pytest.raises(InputRefused, match="there is no such reference model"):
        check(formats / "single.h5", formats / "nothing.keras")


@pytest.mark.parametrize("name", ["conv_bn", "nested", "recurrent", "sequential"])
def test_shapes_are_known_from_every_file_with_weights(case: Case, tmp_path: Path, name: str) -> None:
    source = case(ERA, name) / "single.h5"
    extract(case(ERA, name) / "multi.h5", tmp_path / "a.keras")
    extract(case(ERA, name) / "multi.h5", tmp_path / "a.weights.h5")
    for like in ("a.keras", "a.weights.h5"):
        for file in ("a.keras", "a.weights.h5"):
            found = check(tmp_path / file, tmp_path / like)
            assert (found.verdict, found.unknown) == ("loads", 0)
    assert check(source, tmp_path / "a.keras").loads
    assert check(tmp_path / "a.keras", source).loads
