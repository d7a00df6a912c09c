"""Files of Keras 3 are read with the same checks as old ones, and hostile archives are refused with the reason."""

from __future__ import annotations

import io
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest

from remap import InputRefused, extract, inspect
from remap.hdf5.keras3_reader import open_keras3

Case = Callable[[str, str], Path]
Writer = Callable[[h5py.File], None]

WEIGHTS = "model.weights.h5"


@pytest.fixture(scope="module")
def members(case: Case, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """Give the members of a sound archive."""
    target = tmp_path_factory.mktemp("sound") / "sound.keras"
    extract(case("keras-2.2.4", "conv_bn") / "multi.h5", target)
    with zipfile.ZipFile(target) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def archived(path: Path, members: dict[str, bytes], method: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


def refusal(path: Path) -> str:
    with pytest.raises(InputRefused) as caught, open_keras3(path):
        pass
    return str(caught.value)


def weights_file(path: Path, write: Writer) -> Path:
    with h5py.File(path, "w") as file:
        file.create_group("vars").attrs["name"] = "model"
        file.create_group("layers/dense/vars")["0"] = np.ones((3, 2), np.float32)
        write(file)
    return path


def test_a_deflated_archive_says_the_same_as_a_stored_one(tmp_path: Path, members: dict[str, bytes]) -> None:
    stored = inspect(archived(tmp_path / "a.keras", members), stats=True)
    deflated = inspect(archived(tmp_path / "b.keras", members, zipfile.ZIP_DEFLATED), stats=True)
    assert stored.layers == deflated.layers
    assert stored.tensors > 10
    assert any(weight.stats for top in stored.layers for layer in top.walk() for weight in layer.weights)


def test_an_archive_is_inspected_like_an_old_file(
    tmp_path: Path, case: Case, members: dict[str, bytes]
) -> None:
    found = inspect(archived(tmp_path / "a.keras", members))
    old = inspect(case("keras-2.2.4", "conv_bn") / "single.h5")
    assert (found.kind, found.content, found.name) == ("single", "full model", old.name)
    assert (found.parameters, found.tensors, found.optimizer_tensors > 0) == (
        old.parameters,
        old.tensors,
        True,
    )
    shown = {layer.name: [weight.shape for weight in layer.weights] for layer in found.layers}
    assert shown == {layer.name: [weight.shape for weight in layer.weights] for layer in old.layers}


def test_a_weights_file_is_shown_by_the_names_in_it(tmp_path: Path, case: Case) -> None:
    target = tmp_path / "a.weights.h5"
    extract(case("keras-2.2.4", "nested_deep") / "multi.h5", target)
    found = inspect(target)
    assert (found.content, found.class_name, found.keras_version) == ("weights", None, "3")
    names = {layer.name for top in found.layers for layer in top.walk()}
    assert {"outer_a", "middle", "deep", "deep_bn"} <= names
    assert sum(layer.parameters for layer in found.layers) == found.parameters


def test_states_of_random_generators_are_no_weights(tmp_path: Path) -> None:
    def write(file: h5py.File) -> None:
        group = file.create_group("layers/dropout/seed_generator/vars")
        group.attrs["name"] = "seed_generator"
        group["0"] = np.zeros(2, np.uint32)

    found = inspect(weights_file(tmp_path / "a.weights.h5", write))
    assert found.tensors == 1
    assert any("random generators" in note for note in found.notes)


def test_variables_stand_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    def write(file: h5py.File) -> None:
        group = file.create_group("layers/own/vars")
        for number in range(12):
            group[str(number)] = np.float32(number)

    with open_keras3(weights_file(tmp_path / "a.weights.h5", write)) as opened:
        (own,) = (one for one in opened.objects if one.path == ("layers", "own"))
    assert [weight.name for weight in own.variables] == [str(number) for number in range(12)]


def test_two_members_of_one_name_are_refused(tmp_path: Path, members: dict[str, bytes]) -> None:
    path = tmp_path / "a.keras"
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
        with pytest.warns(UserWarning, match="Duplicate"):
            archive.writestr(WEIGHTS, b"")
    assert "two members have this name" in refusal(path)


@pytest.mark.parametrize("name", ["../config.json", "/etc/passwd", "a\\b", "c:x", "assets//x", "a/../b"])
def test_names_that_lead_out_of_the_archive_are_refused(
    tmp_path: Path, members: dict[str, bytes], name: str
) -> None:
    path = tmp_path / "a.keras"
    with zipfile.ZipFile(path, "w") as archive:
        for known, content in members.items():
            archive.writestr(known, content)
        entry = zipfile.ZipInfo("x")
        entry.filename = name
        archive.writestr(entry, b"")
    assert "leads out of the archive" in refusal(path)


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_other_methods_than_keras_reads_are_refused(
    tmp_path: Path, members: dict[str, bytes], method: int
) -> None:
    assert "another method" in refusal(archived(tmp_path / "a.keras", members, method))


def changed(path: Path, change: Callable[[bytearray, int], None], name: str = WEIGHTS) -> Path:
    """Change the entry of a member in the table of contents; `change` is given all bytes and where it begins."""
    content = bytearray(path.read_bytes())
    at = content.rindex(name.encode()) - 46
    assert content[at : at + 4] == b"PK\x01\x02"
    change(content, at)
    path.write_bytes(content)
    return path


def put(form: str, offset: int, value: int) -> Callable[[bytearray, int], None]:
    return lambda content, at: struct.pack_into(form, content, at + offset, value)


def test_encrypted_members_are_refused(tmp_path: Path, members: dict[str, bytes]) -> None:
    path = changed(archived(tmp_path / "a.keras", members), put("<H", 8, 1))
    assert "encrypted" in refusal(path)


def test_members_of_two_sizes_are_refused(tmp_path: Path, members: dict[str, bytes]) -> None:
    path = changed(archived(tmp_path / "a.keras", members), put("<L", 24, 1 << 30))
    assert "two sizes" in refusal(path)


def test_members_on_top_of_each_other_are_refused(tmp_path: Path, members: dict[str, bytes]) -> None:
    """The second member of the table stands inside the first, as in a bomb without nesting (D. Fifield, 2019)."""
    inner = io.BytesIO()
    with zipfile.ZipFile(inner, "w") as archive:
        archive.writestr(WEIGHTS, members[WEIGHTS])
    whole = {**members, "assets/x": inner.getvalue()}
    path = archived(tmp_path / "a.keras", {name: whole[name] for name in ("assets/x", *members)})
    start = path.read_bytes().index(b"PK\x03\x04", 4)
    path = changed(path, put("<L", 42, start))
    assert "shares its bytes" in refusal(path) or "Overlapped" in refusal(path)


def test_headers_that_contradict_the_table_are_refused(tmp_path: Path, members: dict[str, bytes]) -> None:
    path = archived(tmp_path / "a.keras", members)
    content = path.read_bytes()
    at = content.index(b"config.json")
    path.write_bytes(content[:at] + b"Config.json" + content[at + 11 :])
    assert "contradicts the table of contents" in refusal(path)


def test_a_bomb_is_not_unpacked(tmp_path: Path, members: dict[str, bytes]) -> None:
    path = archived(tmp_path / "a.keras", members, zipfile.ZIP_DEFLATED)
    assert "claims" in refusal(changed(path, put("<L", 24, 0xFFFFFFF0)))
    path = archived(tmp_path / "b.keras", members, zipfile.ZIP_DEFLATED)
    assert "cannot be unpacked" in refusal(changed(path, put("<L", 24, 1000)))


def test_damage_in_a_deflated_member_is_found(tmp_path: Path, members: dict[str, bytes]) -> None:
    path = archived(tmp_path / "a.keras", members, zipfile.ZIP_DEFLATED)
    content = bytearray(path.read_bytes())
    with zipfile.ZipFile(path) as archive:
        entry = archive.getinfo(WEIGHTS)
    content[entry.header_offset + entry.compress_size // 2] ^= 0xFF
    path.write_bytes(content)
    assert "cannot be unpacked" in refusal(path)


def test_archives_without_a_model_are_refused(tmp_path: Path, members: dict[str, bytes]) -> None:
    without = {name: content for name, content in members.items() if name != WEIGHTS}
    assert "has no model.weights.h5" in refusal(archived(tmp_path / "a.keras", without))
    assert "no .keras archive" in refusal(archived(tmp_path / "b.keras", {"x": b""}))
    (tmp_path / "c.keras").write_bytes(b"PK\x03\x04 config.json, and nothing more")
    assert "no .keras file" in refusal(tmp_path / "c.keras")


def _soft(file: h5py.File) -> None:
    file["layers/soft"] = h5py.SoftLink("/layers/dense")


def _external(file: h5py.File) -> None:
    file["layers/external"] = h5py.ExternalLink("other.h5", "/")


def _cycle(file: h5py.File) -> None:
    file["layers/dense/again"] = file["layers"]


def _shared(file: h5py.File) -> None:
    file["layers/dense/vars/1"] = file["layers/dense/vars/0"]


def _chunked(file: h5py.File) -> None:
    file["layers/dense/vars"].create_dataset("1", data=np.ones(9), chunks=(3,), compression="gzip")


def _virtual(file: h5py.File) -> None:
    layout = h5py.VirtualLayout((3,), "f4")
    layout[:] = h5py.VirtualSource("other.h5", "x", (3,))
    file["layers/dense/vars"].create_virtual_dataset("1", layout)


def _outside(file: h5py.File) -> None:
    file["layers/dense/stray"] = np.ones(3, np.float32)


def _inside(file: h5py.File) -> None:
    file.create_group("layers/dense/vars/more")


def _deep(file: h5py.File) -> None:
    file.create_group("/".join(["layers", *("a" * 60)]))


def _old(file: h5py.File) -> None:
    file.attrs["layer_names"] = [b"dense"]


def _text(file: h5py.File) -> None:
    file["layers/dense/vars/1"] = "text"


def _bfloat16(file: h5py.File) -> None:
    file["layers/dense/vars"].create_dataset("1", data=np.zeros(3, "V2")).attrs["dtype"] = "bfloat16"


@pytest.mark.parametrize(
    ("write", "words"),
    [
        (_soft, "soft link"),
        (_external, "link to another file"),
        (_cycle, "same group"),
        (_shared, "shares its bytes"),
        (_chunked, "in chunks"),
        (_virtual, "virtual"),
        (_outside, "outside a group of variables"),
        (_inside, "stands among variables"),
        (_deep, "deeper than any model"),
        (_old, "format of Keras 2"),
        (_text, "plain numbers"),
        (_bfloat16, "bfloat16 numbers, which h5remap does not read"),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_what_keras_3_never_writes_is_refused(tmp_path: Path, write: Writer, words: str) -> None:
    assert words in refusal(weights_file(tmp_path / "a.weights.h5", write))


def test_a_file_of_very_many_groups_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("remap.hdf5.checked_file.NAMES", 50)

    def write(file: h5py.File) -> None:
        for number in range(50):
            file.create_group(f"layers/x_{number}")

    assert "more than 50 names" in refusal(weights_file(tmp_path / "a.weights.h5", write))


def test_other_hdf5_files_are_refused(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_group("layers")
    assert "no group in it holds variables" in refusal(tmp_path / "a.h5")
