"""Output formats: chosen by the output's name, and described as Keras would save the file."""

from __future__ import annotations

import json
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest

from remap.batch import results as batch
from remap.checkpoint import Checkpoint, LayerGroup, Weight
from remap.conversion_plan import Plan, PlannedLayer, PlannedWeight
from remap.errors import InputRefused, OutputRefused, UsageRefused
from remap.formats import EXTENSIONS, FORMATS, format_of
from remap.formats.archive import Archive
from remap.formats.description import Attribute, FileDescription, Group
from remap.formats.keras2 import describe
from remap.formats.keras3 import describe_archive, describe_weights
from remap.keras3.tensors import Translation, VariableGroup
from remap.output_tensors import OutputTensor, constant, keep
from tests.handmade import identity

RENAME = "give the layers of the model other names"


def weight(name: str, group: str = "/a") -> Weight:
    return Weight(name=name, path=f"{group}/{name}", shape=(2,), dtype="<f4")


def plan_of(
    layers: dict[str, tuple[str, ...]], optimizer: tuple[str, ...] | None = None, config: str | None = None
) -> Plan:
    """Plan an output of layers with weights of these names."""
    return identity(
        Checkpoint(
            root="/",
            layers=tuple(
                LayerGroup(name=layer, weights=tuple(weight(name, f"/{layer}") for name in names))
                for layer, names in layers.items()
            ),
            backend="tensorflow",
            keras_version="2.2.4",
            model_config=config,
            optimizer=None if optimizer is None else tuple(weight(name, "/o") for name in optimizer),
        )
    )


class TestNames:
    """The name of the output chooses the format."""

    @pytest.mark.parametrize("name", ["x.h5", "x.hdf5", "x.keras", "x.weights.h5", ".h5", "a.keras.h5"])
    def test_the_longest_extension_that_fits_counts(self, name: str) -> None:
        endings = [extension for form in FORMATS for extension in form.extensions if name.endswith(extension)]
        assert max(endings, key=len) in format_of(name).extensions

    def test_batches_know_every_format(self) -> None:
        assert [f".{name}" for name in batch.FORMATS] == [form.extensions[0] for form in FORMATS]

    def test_every_format_is_described_from_one_thing(self) -> None:
        for form in FORMATS:
            assert (form.from_plan is None) != (form.from_translation is None)
            assert form.extensions[0] in EXTENSIONS

    @pytest.mark.parametrize(
        ("name", "what"),
        [
            ("x.ckpt", "unknown output extension '.ckpt'"),
            ("x.H5", "unknown output extension '.H5'"),
            ("x.Keras", "unknown output extension '.Keras'"),
            ("x.h5.txt", "unknown output extension '.txt'"),
            ("x.", "unknown output extension '.'"),
            ("x", "the output name has no extension"),
        ],
    )
    def test_other_names_are_refused_with_those_that_would_do(self, name: str, what: str) -> None:
        with pytest.raises(UsageRefused) as caught:
            format_of(name)
        assert caught.value.what == f"{what}; use .h5, .keras or .weights.h5"
        assert caught.value.where == name


class TestLegacy:
    """A .h5 file is what Keras 2 saves."""

    def test_a_weights_file_has_its_layers_at_the_root(self) -> None:
        root, dense = describe(plan_of({"dense": ("kernel:0", "bias:0")})).groups
        assert (root.path, dense.path) == ((), ("dense",))
        assert [(one.name, one.value, one.width) for one in root.attributes] == [
            ("backend", "tensorflow", 10),
            ("keras_version", "2.2.4", 5),
            ("layer_names", ("dense",), 5),
        ]
        assert dense.attributes == (Attribute(name="weight_names", value=("kernel:0", "bias:0"), width=8),)
        assert dense.tensors == tuple((name, keep(weight(name, "/dense"))) for name in ("kernel:0", "bias:0"))

    def test_a_full_model_has_its_layers_and_its_optimizer_in_groups(self) -> None:
        file = describe(plan_of({"dense": ("kernel:0",)}, ("m:0",), "{}"))
        assert [group.path for group in file.groups] == [
            (),
            ("model_weights",),
            ("model_weights", "dense"),
            ("optimizer_weights",),
        ]
        assert [one.name for one in file.groups[0].attributes] == ["model_config"]

    def test_layers_are_listed_in_order_and_created_before_what_lies_in_them(self) -> None:
        file = describe(plan_of({"block/conv": (), "block": ()}))
        assert file.groups[0].attributes[-1].value == ("block/conv", "block")
        assert [group.path for group in file.groups] == [(), ("block",), ("block/conv",)]

    @pytest.mark.parametrize("count", [0, 1, 1000, 1612, 1613, 3225, 5000])
    def test_long_lists_are_split_into_the_fewest_pieces_of_equal_length(self, count: int) -> None:
        names = tuple(f"{number:040}" for number in range(count))
        pieces = [
            one
            for one in describe(plan_of(dict.fromkeys(names, ()))).groups[0].attributes
            if one.name.startswith("layer_names")
        ]
        fewest = -(-count // (64512 // 40)) or 1
        assert len(pieces) == fewest
        assert [one.name for one in pieces] == (
            ["layer_names"] if fewest == 1 else [f"layer_names{number}" for number in range(fewest)]
        )
        lengths = [len(one.value) for one in pieces]
        assert max(lengths) - min(lengths) <= 1
        assert lengths == sorted(lengths, reverse=True)
        assert tuple(name for one in pieces for name in one.value) == names

    def test_refuses_to_split_the_list_of_the_optimizer(self) -> None:
        names = tuple(f"{number:0200}" for number in range(400))
        with pytest.raises(ValueError, match="more room than one attribute has"):
            describe(plan_of({}, names, "{}"))

    def test_refuses_state_of_training_in_a_weights_file(self) -> None:
        with pytest.raises(ValueError, match="holds no state of training"):
            describe(plan_of({}, ("m:0",)))
        with pytest.raises(ValueError, match="holds no state of training"):
            describe(replace(plan_of({}), training_config="{}"))

    @pytest.mark.parametrize("name", ["", ".", "a/../b", "/a", "a\n", "a/" * 70 + "b", "\ud800"])
    def test_refuses_names_that_are_no_paths(self, name: str) -> None:
        with pytest.raises(OutputRefused, match=r"does not lead to one place|cannot be stored") as caught:
            describe(plan_of({name: ()}))
        assert caught.value.hint == RENAME

    def test_refuses_a_tensor_where_a_layer_must_be(self) -> None:
        with pytest.raises(OutputRefused, match="a layer and a tensor in the output would have one name"):
            describe(plan_of({"a": ("b",), "a/b": ("b",)}))

    @pytest.mark.parametrize("second", ["b", "b/c"])
    def test_refuses_two_tensors_of_one_name(self, second: str) -> None:
        with pytest.raises(OutputRefused, match="would have one name"):
            describe(plan_of({"a": ("b/c", second, "b/c")}))

    def test_refuses_two_layers_of_one_name(self) -> None:
        one = PlannedLayer(name="a", weights=())
        with pytest.raises(OutputRefused, match="would have one name"):
            describe(replace(plan_of({}), layers=(one, one)))


def translation_of(*groups: VariableGroup) -> Translation:
    return Translation(config={"class_name": "Functional"}, groups=groups)


def kept(name: str = "a") -> OutputTensor:
    return keep(weight(name))


class TestKeras3:
    """`.weights.h5` and `.keras` are what Keras 3 saves."""

    def test_variables_are_numbered_in_a_group_of_their_object(self) -> None:
        file = describe_weights(
            translation_of(
                VariableGroup(path="", name="model"),
                VariableGroup(path="layers/dense", name="d", variables=(kept("a"), kept("b"))),
            )
        )
        assert file == FileDescription(
            groups=(
                Group(path=("vars",), attributes=(Attribute(name="name", value="model"),)),
                Group(
                    path=("layers/dense/vars",),
                    attributes=(Attribute(name="name", value="d"),),
                    tensors=(("0", kept("a")), ("1", kept("b"))),
                ),
            )
        )

    def test_an_archive_has_the_config_before_the_weights(self) -> None:
        file = describe_archive(translation_of())
        assert file.member == "model.weights.h5"
        assert [name for name, _ in file.members] == ["metadata.json", "config.json"]
        assert json.loads(file.members[1][1]) == {"class_name": "Functional"}

    def test_problems_of_the_config_are_refused_where_it_is_written(self) -> None:
        problems = (InputRefused("first"), InputRefused("second"))
        spoilt = replace(translation_of(), problems=problems)
        with pytest.raises(InputRefused, match="first"):
            describe_archive(spoilt)
        assert describe_weights(spoilt).groups == ()

    @pytest.mark.parametrize(
        ("groups", "words"),
        [
            ([VariableGroup(path="layers/a\nb", name="a")], "does not lead to one place"),
            ([VariableGroup(path="layers/..", name="a")], "does not lead to one place"),
            ([VariableGroup(path="layers/a", name="a\0b")], "cannot be stored"),
            ([VariableGroup(path="layers/a", name="a\ud800")], "cannot be stored"),
            ([VariableGroup(path="layers/a", name="a")] * 2, "two objects in the output"),
            (
                [
                    VariableGroup(path="layers/a", name="a", variables=(kept(),)),
                    VariableGroup(path="layers/a/vars/0", name="b", variables=(kept(),)),
                ],
                "two objects in the output",
            ),
            (
                [
                    VariableGroup(path="layers/a/vars/0", name="b", variables=(kept(),)),
                    VariableGroup(path="layers/a", name="a", variables=(kept(),)),
                ],
                "two objects in the output",
            ),
            (
                [
                    VariableGroup(path="layers/a/vars/b", name="b"),
                    VariableGroup(path="layers/a", name="a", variables=(kept(),)),
                ],
                "two objects in the output",
            ),
        ],
    )
    def test_names_that_cannot_stand_in_one_file_are_refused(
        self, groups: list[VariableGroup], words: str
    ) -> None:
        for write in (describe_weights, describe_archive):
            with pytest.raises(OutputRefused, match=words) as caught:
                write(translation_of(*groups))
            assert caught.value.where.isprintable()
            assert caught.value.hint == RENAME


class TestDescription:
    """A description that exists can be written."""

    def test_counts_what_is_in_each_group(self) -> None:
        tensor = kept()
        file = FileDescription(
            groups=(
                Group(path=(), attributes=(Attribute(name="a", value="b", width=1),)),
                Group(path=("a",), tensors=(("b/c", tensor), ("b/d", tensor), ("e", tensor))),
                Group(path=("a", "b"), tensors=(("f", tensor),)),
                Group(path=("g/h",)),
            )
        )
        assert file.counts == {(): (1, 2), ("a",): (0, 2), ("a", "b"): (0, 3), ("g/h",): (0, 0)}

    def test_a_tensor_is_copied_whole_or_computed(self) -> None:
        with pytest.raises(ValueError, match="not computed"):
            OutputTensor(shape=(2,), dtype="<f4")
        with pytest.raises(ValueError, match="not computed"):
            OutputTensor(shape=(1,), dtype="<f4", source=weight("a"))
        assert constant(0.5, "<f4").make() == 0.5
        assert (kept().size, constant(1, "<i8").size) == (8, 8)

    def test_layers_may_lie_in_the_groups_of_other_layers_tensors(self) -> None:
        layers = (
            PlannedLayer(name="a", weights=(PlannedWeight(name="b/k:0", source=weight("k")),)),
            PlannedLayer(name="a/b", weights=(PlannedWeight(name="k:1", source=weight("k")),)),
        )
        counts = describe(replace(plan_of({}), layers=layers)).counts
        assert counts == {(): (3, 1), ("a",): (1, 1), ("a/b",): (1, 2)}


class TestArchive:
    """A `.keras` archive is a zip archive that Python reads, of any size."""

    @pytest.mark.parametrize("size", [0, 1 << 20, (1 << 32) - 2, (1 << 32) - 1, 5 << 30])
    def test_the_member_begins_where_the_archive_says(self, tmp_path: Path, size: int) -> None:
        archive = Archive(members=(("config.json", b"{}"),), name="model.weights.h5", size=size)
        path = tmp_path / "model.keras"
        with path.open("wb") as file:
            file.write(archive.head(0))
            assert file.tell() == archive.start
            file.write(b"abc"[:size])
            file.seek(archive.start + size)  # leaves a hole
            file.write(archive.tail(0))
        with zipfile.ZipFile(path) as opened:
            assert [(one.filename, one.file_size) for one in opened.infolist()] == [
                ("config.json", 2),
                ("model.weights.h5", size),
            ]
            assert opened.read("config.json") == b"{}"
            with opened.open("model.weights.h5") as member:
                assert member.read(3) == b"abc"[:size]
