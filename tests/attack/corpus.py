"""Files malicious: every abuse we know of, at every position where it can stand.

Each begins as a real checkpoint that converts, so that nothing but the abuse can be the reason to refuse it.
"""

from __future__ import annotations

import functools
import lzma
import struct
import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import h5py
import numpy as np
from h5py import h5d, h5g, h5s, h5t

from remap.hdf5.object_headers import ATTRIBUTE, read_header
from remap.hdf5.source import Source

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Harm = Callable[[h5py.File, "Spot"], None]

__all__ = ["ATTACKS", "BASES", "Attack", "base", "make_canary", "unpack"]

CASE = Path(__file__).resolve().parents[2] / "fixtures" / "keras-2.2.4" / "conv_bn.tar.xz"


@dataclass(frozen=True, slots=True, kw_only=True)
class Base:
    """A real file and the places in it where something can be put."""

    member: str
    groups: dict[str, str]
    leaves: dict[str, str]
    lists: dict[str, tuple[str, str]]
    texts: dict[str, tuple[str, str]]


BASES = {
    "full": Base(
        member="multi.h5",
        groups={
            "root": "/model_weights",
            "wrapper": "/model_weights/model_1",
            "weightless": "/model_weights/lambda_1",
            "middle": "/model_weights/model_1/block1_conv",
            "optimizer": "/optimizer_weights",
            "optimizer-middle": "/optimizer_weights/training/Adam",
        },
        leaves={
            "leaf": "/model_weights/model_1/block1_conv/kernel:0",
            "optimizer-leaf": "/optimizer_weights/training/Adam/Variable:0",
        },
        lists={
            "layers": ("/model_weights", "layer_names"),
            "weights": ("/model_weights/model_1", "weight_names"),
            "optimizer": ("/optimizer_weights", "weight_names"),
        },
        texts={
            "version": ("/model_weights", "keras_version"),
            "backend": ("/model_weights", "backend"),
            "file-version": ("/", "keras_version"),
            "config": ("/", "model_config"),
            "training": ("/", "training_config"),
        },
    ),
    "weights": Base(
        member="multi_weights.h5",
        groups={"wrapper": "/model_1", "middle": "/model_1/block1_conv"},
        leaves={"leaf": "/model_1/block1_conv/kernel:0"},
        lists={"layers": ("/", "layer_names"), "weights": ("/model_1", "weight_names")},
        texts={"version": ("/", "keras_version")},
    ),
    "like": Base(
        member="single_weights.h5",
        groups={"layer": "/block1_conv", "middle": "/block1_conv/block1_conv"},
        leaves={"leaf": "/block1_conv/block1_conv/kernel:0"},
        lists={"layers": ("/", "layer_names"), "weights": ("/block1_conv", "weight_names")},
        texts={"version": ("/", "keras_version")},
    ),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Spot:
    """Where harm is done: in which file, made from which real one, at which object or attribute.

    `canary` is a directory with files that nobody may touch.
    """

    target: Path
    canary: Path
    base: str
    path: str
    attribute: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Attack:
    """A harmful file: the refusal must say `what` and where, `place`."""

    name: str
    base: str
    what: str
    place: str
    harm: Callable[[Spot], None]
    path: str = "/"
    attribute: str = ""

    def make(self, target: Path, canary: Path) -> None:
        """Write the file."""
        target.write_bytes(base(self.base))
        self.harm(
            Spot(target=target, canary=canary, base=self.base, path=self.path, attribute=self.attribute)
        )


def base(name: str) -> bytes:
    """Give the bytes of the real file that attacks of a base are made from."""
    return unpack(BASES[name].member)


@functools.cache
def unpack(member: str) -> bytes:
    """Give the bytes of a member of the real case."""
    with lzma.open(CASE) as packed, tarfile.open(fileobj=packed) as archive:
        content = archive.extractfile(member)
        assert content is not None
        return content.read()


def make_canary(directory: Path) -> None:
    """Put files into a directory that harmful files point at: whole checkpoints and raw bytes."""
    directory.mkdir()
    for name in BASES:
        (directory / f"{name}.h5").write_bytes(base(name))
    (directory / "raw.bin").write_bytes(b"CANARY!!" * 1024)


# Links and kinds, wherever a group or a tensor can be.


def _moved(file: h5py.File, path: str) -> str:
    file.move(path, "/elsewhere")
    return "/elsewhere"


def _soft(file: h5py.File, spot: Spot) -> None:
    file[spot.path] = h5py.SoftLink(_moved(file, spot.path))


def _soft_loop(file: h5py.File, spot: Spot) -> None:
    _moved(file, spot.path)
    file[spot.path] = h5py.SoftLink(spot.path)


def _external(file: h5py.File, spot: Spot) -> None:
    del file[spot.path]
    file[spot.path] = h5py.ExternalLink(spot.canary / f"{spot.base}.h5", spot.path)


def _external_missing(file: h5py.File, spot: Spot) -> None:
    del file[spot.path]
    file[spot.path] = h5py.ExternalLink(spot.canary / "missing.h5", spot.path)


def _external_self(file: h5py.File, spot: Spot) -> None:
    file[spot.path] = h5py.ExternalLink(file.filename, _moved(file, spot.path))


def _named_type(file: h5py.File, spot: Spot) -> None:
    del file[spot.path]
    file[spot.path] = np.dtype("<f4")


def _dataset_for_group(file: h5py.File, spot: Spot) -> None:
    del file[spot.path]
    file[spot.path] = np.arange(3.0)


def _group_for_dataset(file: h5py.File, spot: Spot) -> None:
    del file[spot.path]
    file.create_group(spot.path)


LINKS: dict[str, tuple[str, Harm]] = {
    "soft-link": ("a soft link stands where", _soft),
    "soft-link-loop": ("a soft link stands where", _soft_loop),
    "external-link": ("a link to another file stands where", _external),
    "external-link-missing": ("a link to another file stands where", _external_missing),
    "external-link-to-itself": ("a link to another file stands where", _external_self),
    "named-type": ("HDF5 cannot read this", _named_type),
}
GROUPS: dict[str, tuple[str, Harm]] = {
    **LINKS,
    "dataset-for-group": ("HDF5 cannot read this", _dataset_for_group),
}


# Storage and types, wherever a tensor can be.


def _leaf(**options: object) -> Harm:
    def harm(file: h5py.File, spot: Spot) -> None:
        value = file[spot.path][()]
        del file[spot.path]
        file.create_dataset(spot.path, **{"data": value, **options})

    return harm


def _external_storage(file: h5py.File, spot: Spot) -> None:
    shape = file[spot.path].shape
    del file[spot.path]
    file.create_dataset(spot.path, shape, "<f4", external=[(spot.canary / "raw.bin", 0, h5py.h5f.UNLIMITED)])


def _virtual(source: str, *, unlimited: bool = False) -> Harm:
    def harm(file: h5py.File, spot: Spot) -> None:
        old = file[spot.path]
        shape = old.shape
        layout = h5py.VirtualLayout(
            shape=shape, dtype="<f4", maxshape=(None, *shape[1:]) if unlimited else None
        )
        name = spot.canary / source.format(spot.base)
        given = h5py.VirtualSource(
            name, spot.path, shape=shape, maxshape=(None, *shape[1:]) if unlimited else None
        )
        if unlimited:
            layout[h5s_unlimited(shape)] = given[h5s_unlimited(shape)]
        else:
            layout[...] = given
        del file[spot.path]
        file.create_virtual_dataset(spot.path, layout)

    return harm


def h5s_unlimited(shape: tuple[int, ...]) -> tuple[slice, ...]:
    """Select everything, without an end along the first axis."""
    return (slice(0, h5s.UNLIMITED, 1), *(slice(None) for _ in shape[1:]))


def _compact(file: h5py.File, spot: Spot) -> None:
    value = file[spot.path][()]
    del file[spot.path]
    options = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    options.set_layout(h5d.COMPACT)
    _low_level(file, spot.path, h5t.IEEE_F32LE, value.shape, options).write(h5s.ALL, h5s.ALL, value)


def _unknown_filter(file: h5py.File, spot: Spot) -> None:
    value = file[spot.path][()]
    del file[spot.path]
    options = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    options.set_chunk(value.shape)
    options.set_filter(32_042, h5py.h5z.FLAG_OPTIONAL, (1, 2, 3))
    _low_level(file, spot.path, h5t.IEEE_F32LE, value.shape, options)


def _unwritten(shape: tuple[int, ...] | None) -> Harm:
    def harm(file: h5py.File, spot: Spot) -> None:
        given = shape or file[spot.path].shape
        del file[spot.path]
        file.create_dataset(spot.path, given, "<f4")

    return harm


def _alias(file: h5py.File, spot: Spot) -> None:
    parent, _, name = spot.path.rpartition("/")
    other = next(other for other in file[parent] if other != name)
    del file[spot.path]
    file[spot.path] = file[parent][other]


def _typed(kind: h5t.TypeID) -> Harm:
    def harm(file: h5py.File, spot: Spot) -> None:
        shape = file[spot.path].shape
        del file[spot.path]
        options = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        options.set_alloc_time(h5d.ALLOC_TIME_EARLY)
        _low_level(file, spot.path, kind, shape, options)

    return harm


def _low_level(
    file: h5py.File, path: str, kind: h5t.TypeID, shape: tuple[int, ...], options: h5py.h5p.PropDCID
) -> h5d.DatasetID:
    parent, _, name = path.rpartition("/")
    return h5d.create(file[parent].id, name.encode(), kind, h5s.create_simple(shape), options)


def _null(file: h5py.File, spot: Spot) -> None:
    del file[spot.path]
    file[spot.path] = h5py.Empty("<f4")


def _brain_float() -> h5t.TypeID:
    kind = h5t.IEEE_F32LE.copy()
    kind.set_fields(15, 7, 8, 0, 7)
    kind.set_size(2)
    kind.set_ebias(127)
    return kind


def _odd_integer() -> h5t.TypeID:
    kind = h5t.STD_I32LE.copy()
    kind.set_precision(20)
    return kind


_PLAIN = "this tensor does not hold plain numbers"
LEAVES: dict[str, tuple[str, Harm]] = {
    **LINKS,
    "group-for-dataset": ("HDF5 cannot read this", _group_for_dataset),
    "external-storage": ("this tensor is stored in another file", _external_storage),
    "virtual": (r"stored in other files \(virtual\)", _virtual("{}.h5")),
    "virtual-unlimited": (r"stored in other files \(virtual\)", _virtual("{}.h5", unlimited=True)),
    "virtual-missing": (r"stored in other files \(virtual\)", _virtual("missing.h5")),
    "virtual-itself": (r"stored in other files \(virtual\)", _virtual(".")),
    "chunked": ("stored in chunks", _leaf(chunks=True)),
    "gzip": ("stored in chunks", _leaf(compression="gzip")),
    "gzip-bomb": ("stored in chunks", _leaf(data=np.zeros(1 << 22, "<f4"), chunks=(1 << 20,), compression=9)),
    "huge-chunked": ("stored in chunks", _leaf(data=None, shape=(1 << 40,), dtype="<f4", chunks=(1 << 20,))),
    "resizable": ("stored in chunks", _leaf(maxshape=(None,) * 4)),
    "unknown-filter": ("stored in chunks", _unknown_filter),
    "compact": ("stored in its header", _compact),
    "unwritten": ("created but never written", _unwritten(None)),
    "huge-unwritten": ("created but never written", _unwritten((1 << 20, 1 << 20, 1 << 20))),
    "alias": ("this tensor shares its bytes with", _alias),
    "no-shape": ("this tensor has no shape", _null),
    "type-text": (_PLAIN, _typed(h5t.C_S1.copy())),
    "type-variable-text": (_PLAIN, _typed(h5t.py_create(h5py.string_dtype(), logical=True))),
    "type-variable-list": (_PLAIN, _typed(h5t.py_create(h5py.vlen_dtype("<f4"), logical=True))),
    "type-reference": (_PLAIN, _typed(h5t.STD_REF_OBJ.copy())),
    "type-region-reference": (_PLAIN, _typed(h5t.STD_REF_DSETREG.copy())),
    "type-compound": (_PLAIN, _typed(h5t.py_create(np.dtype([("a", "<f4"), ("b", "<f4")])))),
    "type-complex": (_PLAIN, _typed(h5t.py_create(np.dtype("<c8")))),
    "type-opaque": (_PLAIN, _typed(h5t.create(h5t.OPAQUE, 3))),
    "type-bfloat16": ("this tensor holds bfloat16 numbers", _typed(h5t.create(h5t.OPAQUE, 2))),
    "type-array": (_PLAIN, _typed(h5t.array_create(h5t.IEEE_F32LE, (4,)))),
    "type-enumeration": (_PLAIN, _typed(h5t.py_create(h5py.enum_dtype({"A": 0}, "i1"), logical=True))),
    "type-bitfield": (_PLAIN, _typed(h5t.STD_B32LE.copy())),
    "type-brain-float": (_PLAIN, _typed(_brain_float())),
    "type-odd-integer": (_PLAIN, _typed(_odd_integer())),
    "type-long-double": (_PLAIN, _typed(h5t.NATIVE_LDOUBLE.copy())),
}


# Attributes.


def _replaced(value: object) -> Harm:
    def harm(file: h5py.File, spot: Spot) -> None:
        del file[spot.path].attrs[spot.attribute]
        file[spot.path].attrs[spot.attribute] = value

    return harm


def _variable_numbers(file: h5py.File, spot: Spot) -> None:
    del file[spot.path].attrs[spot.attribute]
    value = np.empty(2, dtype=object)
    value[:] = [np.arange(3, dtype="u1")] * 2
    file[spot.path].attrs.create(spot.attribute, value, dtype=h5py.vlen_dtype("u1"))


def _first(name: bytes) -> Harm:
    """Put a bad name in the place of the first one."""

    def harm(file: h5py.File, spot: Spot) -> None:
        names = [bytes(old) for old in file[spot.path].attrs[spot.attribute]]
        del file[spot.path].attrs[spot.attribute]
        file[spot.path].attrs[spot.attribute] = np.array([name, *names[1:]])

    return harm


def _twice(file: h5py.File, spot: Spot) -> None:
    names = [bytes(old) for old in file[spot.path].attrs[spot.attribute]]
    del file[spot.path].attrs[spot.attribute]
    file[spot.path].attrs[spot.attribute] = np.array([*names, names[-1]])


def _empty_piece(file: h5py.File, spot: Spot) -> None:
    names = file[spot.path].attrs[spot.attribute]
    del file[spot.path].attrs[spot.attribute]
    file[spot.path].attrs[f"{spot.attribute}0"] = names
    file[spot.path].attrs[f"{spot.attribute}1"] = np.array([])


_NAME = "the name .* does not lead to one place"
LISTS: dict[str, tuple[str, Harm]] = {
    "number": ("this attribute is not text", _replaced(np.arange(4))),
    "variable-numbers": ("this attribute is not text", _variable_numbers),
    "no-content": ("this attribute has no content", _replaced(h5py.Empty("S1"))),
    "text-for-list": ("this attribute is not a list", _replaced(np.bytes_(b"input_1"))),
    "table": ("this attribute is not a list", _replaced(np.array([[b"a", b"b"]]))),
    "no-unicode": ("this attribute's text is not UTF-8", _first(b"\xff\xfe")),
    "twice": ("listed twice", _twice),
    "empty-piece": ("piece 2 of this list has 0 names", _empty_piece),
    "name-empty": (_NAME, _first(b"")),
    "name-dot": (_NAME, _first(b".")),
    "name-dots": (_NAME, _first(b"..")),
    "name-dots-inside": (_NAME, _first(b"model_1/../model_1")),
    "name-absolute": (_NAME, _first(b"/model_weights")),
    "name-slash-at-end": (_NAME, _first(b"model_1/")),
    "name-two-slashes": (_NAME, _first(b"model_1//kernel")),
    "name-escape": (_NAME, _first(b"\x1b[2Jmodel_1")),
    "name-newline": (_NAME, _first(b"model_1\nrm -rf")),
    "name-right-to-left": (_NAME, _first("model\u202e1".encode())),
    "name-zero": (_NAME, _first(b"a\0b")),
    "name-deep": (_NAME, _first(b"/".join([b"a"] * 65))),
    "name-unknown": ("the file lists this, but does not hold", _first(b"no_such_thing")),
}
TEXTS: dict[str, tuple[str, Harm]] = {
    "number": ("this attribute is not text", _replaced(2.24)),
    "no-content": ("this attribute has no content", _replaced(h5py.Empty("S1"))),
    "list-for-text": ("this attribute is a list", _replaced(np.array([b"2.2.4"]))),
    "empty-list-for-text": ("this attribute is a list", _replaced(np.array([]))),
    "no-unicode": ("this attribute's text is not UTF-8", _replaced(np.bytes_(b"\xff\xfe\xfd"))),
}


def _bomb(spot: Spot) -> None:
    """Let every name of a list be the same string of a mebibyte."""
    with h5py.File(spot.target, "r+") as file:
        group = file[spot.path]
        del group.attrs[spot.attribute]
        strings = np.array(["x" * (1 << 20)] + ["y"] * 3000, dtype=object)
        group.attrs.create(spot.attribute, strings, dtype=h5py.string_dtype("ascii"))
        header = h5py.h5o.get_info(group.id).addr
    source = Source.open(spot.target)
    (references,) = [
        message.content[-16 * 3001 :]
        for message in read_header(source, header, source.size).messages
        if message.kind == ATTRIBUTE and spot.attribute.encode() in message.content
    ]
    source.close()
    _patch(spot.target, references, references[:16] * 3001)


def _patch(target: Path, old: bytes, new: bytes) -> None:
    data = target.read_bytes()
    assert data.count(old) == 1
    target.write_bytes(data.replace(old, new))


# Bytes of the file itself.


def _cut(share: float) -> Callable[[Spot], None]:
    def harm(spot: Spot) -> None:
        data = spot.target.read_bytes()
        spot.target.write_bytes(data[: int(len(data) * share)])

    return harm


def _prefixed(spot: Spot) -> None:
    spot.target.write_bytes(bytes(512) + spot.target.read_bytes())


def _heap(change: bytes, at: int) -> Callable[[Spot], None]:
    """Damage the heap in which long texts lie: `change` at byte `at` of it."""

    def harm(spot: Spot) -> None:
        data = bytearray(spot.target.read_bytes())
        place = data.rindex(b"GCOL") + at
        data[place : place + len(change)] = change
        spot.target.write_bytes(data)

    return harm


def _overlap(spot: Spot) -> None:
    """Let one tensor begin in the middle of another one."""
    with h5py.File(spot.target) as file:
        group = file["model_weights/model_1/block1_conv"]
        kernel, bias = group["kernel:0"].id.get_offset(), group["bias:0"].id.get_offset()
    _patch(spot.target, struct.pack("<QQ", bias, 32), struct.pack("<QQ", kernel + 8, 32))


def _outside(spot: Spot) -> None:
    with h5py.File(spot.target) as file:
        bias = file["model_weights/model_1/block1_conv/bias:0"].id.get_offset()
    _patch(spot.target, struct.pack("<QQ", bias, 32), struct.pack("<QQ", spot.target.stat().st_size - 16, 32))


def _nested(spot: Spot) -> None:
    """Let a tree of 5,000 levels stand where nobody has to go."""
    with h5py.File(spot.target, "r+") as file:
        group = file.create_group("deep").id
        for _ in range(5000):
            group = h5g.create(group, b"a")
        del file["model_weights/model_1/block1_conv/kernel:0"]


def _own_weights(spot: Spot) -> None:
    with h5py.File(spot.target, "r+") as file:
        group = file.create_group("model_weights/top_level_model_weights")
        group.attrs["weight_names"] = np.array([b"w:0"])
        group["w:0"] = np.arange(3.0)


FILES: dict[str, tuple[str, str, Callable[[Spot], None]]] = {
    "cut-in-half": ("the file is cut short", "/", _cut(0.5)),
    "cut-to-nothing": ("the file is empty", "", _cut(0)),
    "cut-in-superblock": ("the file ends before", "", _cut(0.001)),
    "prefixed": ("HDF5 with other data before it", "", _prefixed),
    "heap-signature": ("there is no global heap where", "attribute", _heap(b"BAD!", 0)),
    "heap-size": ("there is no global heap where", "attribute", _heap(b"\xff" * 8, 8)),
    "heap-size-past-end": ("points past the end", "attribute", _heap((1 << 20).to_bytes(8, "little"), 8)),
    "heap-object-size": (
        "the global heap of its strings contradicts itself",
        "attribute",
        _heap(b"\xff" * 8, 24),
    ),
    "heap-object-number": ("is not where it should be", "attribute", _heap(b"\xfe\xff", 16)),
    "overlap": ("this tensor shares its bytes with", "/model_weights/model_1/block1_conv", _overlap),
    "outside": (
        "this tensor ends at byte|invalid dataset size",
        "/model_weights/model_1/block1_conv/bias:0",
        _outside,
    ),
    "deep-tree": ("does not hold 'kernel:0'", "/model_weights/model_1/block1_conv/kernel:0", _nested),
    "own-weights": ("the model has weights of its own", "top_level_model_weights", _own_weights),
}


def _inside(harm: Harm) -> Callable[[Spot], None]:
    def make(spot: Spot) -> None:
        with h5py.File(spot.target, "r+") as file:
            harm(file, spot)

    return make


def _attacks() -> Iterator[Attack]:
    for base_name, spots in BASES.items():
        for spot, path in spots.groups.items():
            for kind, (what, harm) in GROUPS.items():
                name = f"{base_name}-{spot}-{kind}"
                yield Attack(name=name, base=base_name, what=what, place=path, harm=_inside(harm), path=path)
        for spot, path in spots.leaves.items():
            for kind, (what, harm) in LEAVES.items():
                name = f"{base_name}-{spot}-{kind}"
                place = path.rpartition("/")[0]
                yield Attack(name=name, base=base_name, what=what, place=place, harm=_inside(harm), path=path)
        for known, word, places in ((LISTS, "list", spots.lists), (TEXTS, "text", spots.texts)):
            for spot, (path, attribute) in places.items():
                for kind, (what, harm) in known.items():
                    yield Attack(
                        name=f"{base_name}-{spot}-{word}-{kind}",
                        base=base_name,
                        what=what,
                        place="/" if word == "list" else f"{path} (attribute {attribute})",
                        harm=_inside(harm),
                        path=path,
                        attribute=attribute,
                    )
        for spot, (path, attribute) in spots.lists.items():
            yield Attack(
                name=f"{base_name}-{spot}-list-bomb",
                base=base_name,
                what="its strings claim 3,146,776,576 bytes",
                place=f"{path} (attribute {attribute})",
                harm=_bomb,
                path=path,
                attribute=attribute,
            )
    for kind, (what, place, change) in FILES.items():
        yield Attack(name=f"full-file-{kind}", base="full", what=what, place=place, harm=change)


ATTACKS = tuple(_attacks())
