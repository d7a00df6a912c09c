"""Make valid but unusual HDF5, and edit it, and see that h5py reads from the output what it reads from the input.

    python -m tests.attack.differential --files 20000 --seed 1
    python -m tests.attack.differential --only 1:4711            # one file again, by seed and number

The files are made through h5py's low-level interface, and through libhdf5 itself where h5py does not offer a property.
Most are then edited: messages of object headers moved, copied and changed, structures changed byte by byte, each given
its right checksum again. Each is read by h5remap and written again with nothing changed; the judge of what both files
hold is h5py, in the groups and by the rules of each way that Keras has to read a file, with one file open at a time, and
with both open together. Files are handled in children, for libhdf5
may loop for ever or crash on what is made here; a file on which the child dies is given to the command line, which
must refuse it.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import os
import random
import resource
import signal
import subprocess
import sys
import tempfile
import traceback
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np
from h5py import h5a, h5d, h5f, h5g, h5p, h5s, h5t

from remap import RemapError
from remap.hdf5.output import publish
from remap.hdf5.reader import open_checkpoint
from tests.attack.metadata import edit, headers, lookup3, signed, structures
from tests.handmade import unchanged

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from remap.hdf5.object_headers import Header, Message

__all__ = ["campaign", "differences", "make"]

BATCH = 100
DEADLINE = 10
MEMORY = 4 << 30
_LAYERS = ("input_1", "lambda_1", "model_1", "model_2", "predictions")


def make(path: Path, chance: random.Random) -> None:
    """Write a file that Keras's format allows, built as Keras never builds one."""
    for attempt in range(20):
        try:
            _Maker(path, chance, plain=attempt >= 10).make()
        except (OSError, RuntimeError, ValueError, KeyError, TypeError):
            continue  # not every choice goes with every other, or fits into short addresses
        return
    raise AssertionError("no file could be made")


class _Maker:
    """One file being made."""

    def __init__(self, path: Path, chance: random.Random, *, plain: bool) -> None:
        self._path = path
        self._chance = chance
        self._plain = plain
        self._strange = chance.random() < 0.15 and not plain
        self._doubtful = chance.random() < 0.25 and not plain
        self._variable = chance.choice([0.0, 0.0, 0.5])
        self._library = _libhdf5()

    def make(self) -> None:
        with contextlib.suppress(FileNotFoundError):
            self._path.unlink()
        chance = self._chance
        with contextlib.closing(h5py.File(self._create())) as file:
            full = chance.random() < 0.3
            root = h5py.Group(self._group(file.id, b"model_weights")) if full else file
            if full:
                for name in ("backend", "keras_version", "model_config", "training_config"):
                    self._text(file, name, "{}" * chance.choice([1, 3, 400]) if "config" in name else "2.2.4")
                optimizer = h5py.Group(self._group(file.id, b"optimizer_weights"))
                self._layer(optimizer, ["Adam/iterations:0", "m:0"])
            self._fillers(root, "before")
            layers = list(_LAYERS[: chance.randrange(1, 6)])
            self._names(root, "layer_names", layers)
            if self._doubtful and chance.random() < 0.3:
                other = root["/"] if full else h5py.Group(self._group(file.id, b"model_weights"))
                self._names(other, "layer_names", layers[::-1])
            self._text(root, "backend", "tensorflow")
            self._text(root, "keras_version", "2.2.4")
            for layer in layers:
                group = h5py.Group(self._group(root.id, layer.encode()))
                names = [f"dense_{number}/{leaf}:0" for number in range(4) for leaf in ("kernel", "bias")]
                self._layer(group, names[: chance.choice([0, 1, 2, 4, 8])])
                if self._doubtful and chance.random() < 0.1:
                    self._doubt(root, layer)
            self._fillers(root, "after")
        if chance.random() < 0.3:
            self._reopen()

    def _create(self) -> Any:
        chance = self._chance
        creation, access = h5p.create(h5p.FILE_CREATE), h5p.create(h5p.FILE_ACCESS)
        bounds = [h5f.LIBVER_EARLIEST, h5f.LIBVER_V18, h5f.LIBVER_V110, h5f.LIBVER_V112, h5f.LIBVER_LATEST]
        low = chance.choice([0, 0, *range(len(bounds))])
        access.set_libver_bounds(bounds[low], bounds[chance.randrange(max(low, 1), len(bounds))])
        if not self._plain:
            if chance.random() < 0.15:
                creation.set_sizes(chance.choice([2, 4, 8, 16]), chance.choice([2, 4, 8, 16]))
            if chance.random() < 0.05:
                creation.set_userblock(chance.choice([512, 1024]))
            if chance.random() < 0.2:
                strategies = (
                    h5f.FSPACE_STRATEGY_PAGE,
                    h5f.FSPACE_STRATEGY_FSM_AGGR,
                    h5f.FSPACE_STRATEGY_NONE,
                )
                creation.set_file_space_strategy(
                    chance.choice(strategies), chance.random() < 0.5, chance.choice([1, 64])
                )
                creation.set_file_space_page_size(chance.choice([512, 4096]))
            if chance.random() < 0.2:
                self._library.H5Pset_sym_k(creation.id, chance.choice([1, 2, 40]), chance.choice([1, 2, 40]))
            if chance.random() < 0.15:
                self._library.H5Pset_shared_mesg_nindexes(creation.id, 1)
                kinds = chance.choice([0x10, 0x02, 0x08, 0x1F])
                self._library.H5Pset_shared_mesg_index(creation.id, 0, kinds, chance.choice([1, 40]))
            if chance.random() < 0.1:
                access.set_meta_block_size(chance.choice([0, 512, 1 << 16]))
            if chance.random() < 0.1:
                access.set_alignment(1, chance.choice([16, 512]))
        self._object(creation)
        return h5f.create(os.fsencode(self._path), h5f.ACC_TRUNC, creation, access)

    def _object(self, options: Any) -> None:
        """Choose how an object keeps its attributes and the links in it."""
        chance = self._chance
        options.set_obj_track_times(chance.random() < 0.3)
        if chance.random() < 0.3:
            options.set_attr_creation_order(chance.choice([0, 1, 3]))
        if chance.random() < 0.1:
            options.set_attr_phase_change(*chance.choice([(0, 0), (1, 0), (3, 2), (8, 6), (50, 10)]))
        if hasattr(options, "set_link_creation_order") and chance.random() < 0.3:
            options.set_link_creation_order(chance.choice([0, 1, 3]))
            compact, dense = chance.choice([(0, 0), (2, 1), (30, 10)])
            self._library.H5Pset_link_phase_change(options.id, compact, dense)

    def _group(self, parent: Any, name: bytes) -> Any:
        options = h5p.create(h5p.GROUP_CREATE)
        self._object(options)
        group = h5g.create(parent, name, gcpl=options)
        if self._chance.random() < 0.05:
            h5py.h5o.set_comment(group, b"a comment")
        return group

    def _layer(self, group: h5py.Group, names: list[str]) -> None:
        chance = self._chance
        self._fillers(group, "before")
        self._names(group, "weight_names", names)
        self._fillers(group, "after")
        order = list(names)
        chance.shuffle(order)
        for name in order:
            parent = group.id
            for part in name.split("/")[:-1]:
                if not parent.links.exists(part.encode()):
                    self._group(parent, part.encode())
                parent = h5g.open(parent, part.encode())
            self._tensor(parent, name.split("/")[-1].encode())
        if names and self._doubtful and chance.random() < 0.3:
            self._doubt(group, chance.choice(names))

    def _doubt(self, group: h5py.Group, name: str) -> None:
        """Give an object in a group a second name, or its name to something else too, or a list a second form."""
        chance = self._chance
        listed = "weight_names" if ":" in name else "layer_names"
        which = chance.randrange(6)
        if which == 0:
            group.attrs[name] = np.arange(16, dtype="<f4").reshape(4, 4)
        elif which == 1:
            group.attrs[name] = np.zeros(1, [("weight_names", "S3"), ("w:0", "<f4")])
        elif which == 2:
            group[listed] = np.array([name.encode()])
        elif which == 3:
            group.attrs[f"{listed}{chance.choice([0, 1, 2])}"] = np.array([name.encode()])
        elif which == 4:
            above, _, last = name.rpartition("/")
            (group[above] if above else group)["alias"] = group[name]
            self._list(group, f"{listed}2", [f"{above}/alias".lstrip("/"), last])
        else:
            thing = name.split("/")[0]
            del group[thing]
            group[thing] = group.file[
                chance.choice(["/", group.name, f"{group.name}/{next(iter(group), '')}"])
            ]

    def _tensor(self, parent: Any, name: bytes) -> None:
        chance = self._chance
        options = h5p.create(h5p.DATASET_CREATE)
        self._object(options)
        options.set_alloc_time(chance.choice([h5d.ALLOC_TIME_EARLY, h5d.ALLOC_TIME_LATE]))
        if chance.random() < 0.3:
            options.set_fill_time(
                chance.choice([h5d.FILL_TIME_NEVER, h5d.FILL_TIME_ALLOC, h5d.FILL_TIME_IFSET])
            )
        shape = chance.choice([(4, 4), (4, 4), (4,), (4,), (), (2, 3, 1), (16,), (3, 0)])
        kind = h5t.py_create(np.dtype(chance.choice(["<f4"] * 6 + ["<f8", "<f2", ">f4", "<i8", "|u1"])))
        if self._strange and chance.random() < 0.15:
            kind = _strange_type(chance)
        if chance.random() < 0.2:
            with contextlib.suppress(TypeError, ValueError):
                options.set_fill_value(np.array(7, kind.dtype))
        if self._strange and chance.random() < 0.08:
            options.set_layout(chance.choice([h5d.COMPACT, h5d.CHUNKED]))
            if shape and 0 not in shape:
                options.set_chunk(shape)
        if chance.random() < 0.03:
            kind = kind.copy()
            kind.commit(parent, b"type of " + name)
        space = h5s.create_simple(shape) if shape else h5s.create(h5s.SCALAR)
        dataset = h5d.create(parent, name, kind, space, options)
        if chance.random() < 0.97 or not self._strange:
            size = dataset.get_storage_size() or kind.get_size() * int(np.prod(shape, dtype=int))
            if size:
                raw = np.frombuffer(chance.randbytes(size), f"V{kind.get_size()}").reshape(shape)
                dataset.write(h5s.ALL, h5s.ALL, np.ascontiguousarray(raw), mtype=kind)
        if chance.random() < 0.15:
            self._fillers(h5py.Dataset(dataset), "of a tensor")

    def _names(self, group: h5py.Group, attribute: str, names: list[str]) -> None:
        chance = self._chance
        if not names:
            group.attrs[attribute] = np.array([])
            return
        if chance.random() < 0.15 and len(names) > 1:
            half = len(names) // 2
            self._list(group, f"{attribute}0", names[:half])
            self._list(group, f"{attribute}1", names[half:])
        else:
            self._list(group, attribute, names)

    def _list(self, group: h5py.Group, attribute: str, names: list[str]) -> None:
        if self._chance.random() < self._variable:
            group.attrs.create(attribute, np.array(names, dtype=object), dtype=self._text_type())
        elif self._chance.random() < 0.1:
            size = max(map(len, names)) + self._chance.choice([0, 1, 20])
            kind = h5py.string_dtype(self._chance.choice(["ascii", "utf-8"]), size)
            group.attrs.create(attribute, [name.encode() for name in names], dtype=kind)
        else:
            group.attrs[attribute] = np.array([name.encode() for name in names])

    def _text(self, group: h5py.Group, attribute: str, text: str) -> None:
        if self._chance.random() < self._variable:
            group.attrs.create(attribute, text, dtype=self._text_type())
            return
        kind = h5t.C_S1.copy()
        kind.set_size(len(text) + self._chance.choice([0, 1, 5]))
        kind.set_strpad(self._chance.choice([h5t.STR_NULLPAD, h5t.STR_NULLPAD, h5t.STR_NULLTERM]))
        kind.set_cset(self._chance.choice([h5t.CSET_ASCII, h5t.CSET_ASCII, h5t.CSET_UTF8]))
        value = h5a.create(group.id, attribute.encode(), kind, h5s.create(h5s.SCALAR))
        padded = text.encode().ljust(kind.get_size(), self._chance.choice([b"\0", b"\0", b"x"]))
        value.write(np.array(padded, dtype=f"S{kind.get_size()}"), mtype=kind)

    def _text_type(self) -> Any:
        return h5py.string_dtype(self._chance.choice(["ascii", "utf-8"]))

    def _fillers(self, thing: Any, name: str) -> None:
        """Add attributes that nobody asks for, and take some away, so that room for others is left between."""
        chance = self._chance
        for number in range(chance.choice([0, 0, 0, 1, 3, 12])):
            filler = f"{name} {number}"
            value = chance.choice([np.uint64(chance.randrange(4096)), np.arange(40), "text", b"bytes", 2.5])
            thing.attrs[filler] = value
            if chance.random() < 0.3:
                del thing.attrs[filler]

    def _reopen(self) -> None:
        """Change the file again, by another version of the format."""
        chance = self._chance
        libver = chance.choice([None, "earliest", "latest", ("earliest", "v108")])
        with h5py.File(self._path, "r+", libver=libver) as file:
            for path in ("model_1", "model_weights/model_1", "/"):
                if path in file:
                    self._fillers(file[path], f"later {chance.randrange(1000)}")
                    for name in ("weight_names", "layer_names"):
                        if name in file[path].attrs and chance.random() < 0.3:
                            value = file[path].attrs[name]
                            del file[path].attrs[name]
                            file[path].attrs[name] = value


def _strange_type(chance: random.Random) -> Any:
    """Make a type that is nearly one that Keras writes."""
    kind = chance.choice([h5t.IEEE_F32LE, h5t.STD_I32LE, h5t.STD_U16LE, h5t.IEEE_F64BE]).copy()
    which = chance.randrange(7)
    if which == 0:
        kind.set_precision(kind.get_size() * 8 - 1)
    elif which == 1:
        kind.set_size(kind.get_size() * 2)
    elif which == 2:
        kind.set_pad(h5t.PAD_ONE, h5t.PAD_ZERO)
    elif which == 3:
        kind.set_order(h5t.ORDER_BE)
    elif which == 4:
        kind = h5t.enum_create(h5t.STD_I8LE)
        kind.enum_insert(b"FALSE", chance.choice([0, 1]))
        kind.enum_insert(b"TRUE", chance.choice([2, 3]))
    elif which == 5:
        kind = h5t.array_create(kind, (2,))
    elif isinstance(kind, h5t.TypeFloatID):
        kind.set_ebias(kind.get_ebias() - 1)
    return kind


def _libhdf5() -> Any:
    """Give the library that h5py uses, for what h5py does not offer."""
    maps = Path("/proc/self/maps")
    path = next(line.split()[-1] for line in maps.read_text().splitlines() if "libhdf5-" in line)
    library = ctypes.CDLL(path)
    for name, kinds in {
        "H5Pset_sym_k": (ctypes.c_uint, ctypes.c_uint),
        "H5Pset_link_phase_change": (ctypes.c_uint, ctypes.c_uint),
        "H5Pset_shared_mesg_nindexes": (ctypes.c_uint,),
        "H5Pset_shared_mesg_index": (ctypes.c_uint, ctypes.c_uint, ctypes.c_uint),
    }.items():
        getattr(library, name).argtypes = [ctypes.c_int64, *kinds]
    return library


# Edits.


def spoil(path: Path, chance: random.Random) -> None:
    """Edit the metadata of a file once or a few times."""
    for _ in range(chance.choice([1, 1, 1, 2, 4])):
        data = bytearray(path.read_bytes())
        chance.choice(_EDITS)(path, data, chance)
        path.write_bytes(data)


def _objects(path: Path) -> list[int]:
    """List where the headers of the objects in a file begin, without going into what the edits may have made."""
    found: list[int] = []
    with contextlib.suppress(OSError, RuntimeError, KeyError, ValueError), h5py.File(path) as file:
        found.append(int(h5py.h5o.get_info(file.id).addr))

        def see(name: bytes) -> None:
            with contextlib.suppress(OSError, RuntimeError, KeyError, ValueError):
                found.append(int(h5py.h5o.get_info(file.id, name).addr))

        file.id.links.visit(see)
    return found


def _header(path: Path, chance: random.Random) -> tuple[int, Header] | None:
    known = headers(path, _objects(path))
    return chance.choice(sorted(known.items())) if known else None


def _whole(address: int, header: Header) -> int:
    return address + header.size + (4 if header.new else 0)


def _message(path: Path, data: bytearray, chance: random.Random) -> None:
    """Change a message of an object header: its kind, flags, size or content; or put another in its place."""
    found = _header(path, chance)
    if found is None:
        return
    address, header = found
    first = [message for message in header.messages if address < message.offset < address + header.size]
    if not first:
        return
    message = chance.choice(first)
    width = 4 if header.new else 8
    other = chance.choice(header.messages)

    def change() -> None:
        which = chance.randrange(6)
        head = message.offset - width
        if which == 0:
            data[head] = chance.choice([0, 1, 3, 5, 8, 0x0C, 0x0D, 0x10, 0x11, 0x12, 0x15, 0x16, 0x30])
        elif which == 1:
            data[head + (3 if header.new else 4)] ^= 1 << chance.randrange(8)
        elif which == 2 and message.content:
            data[message.offset + chance.randrange(len(message.content))] = chance.randrange(256)
        elif which == 3 and len(other.content) == len(message.content):
            data[message.offset : message.offset + len(other.content)] = other.content
            data[head] = other.kind
        elif which == 4 and len(message.content) >= 8:
            place = message.offset + chance.randrange(len(message.content) - 7)
            data[place : place + 8] = chance.choice([0, 1, 96, address, len(data), 1 << 62]).to_bytes(
                8, "little"
            )
        elif which == 5:
            _swap(data, first, chance, width)

    edit(data, address, _whole(address, header), change)


def _swap(data: bytearray, messages: list[Message], chance: random.Random, width: int) -> None:
    """Let two messages that follow each other change places."""
    number = chance.randrange(len(messages))
    one, other = messages[number], messages[(number + 1) % len(messages)]
    start = one.offset - width
    if other.offset - width == one.offset + len(one.content):
        end = other.offset + len(other.content)
        data[start:end] = data[other.offset - width : end] + data[start : one.offset + len(one.content)]


def _continue(path: Path, data: bytearray, chance: random.Random) -> None:
    """Move a message of a header into a continuation behind the file, perhaps with a copy of another beside it."""
    found = _header(path, chance)
    if found is None:
        return
    address, header = found
    large = [
        message
        for message in header.messages
        if len(message.content) >= 24 and address < message.offset < address + header.size
    ]
    if not large:
        return
    message = chance.choice(large)
    width = message.offset - _head_of(data, message, header)
    moved = data[message.offset - width : message.offset + len(message.content)]
    if chance.random() < 0.4:
        other = chance.choice(header.messages)
        moved += data[other.offset - width : other.offset + len(other.content)]
    block = bytearray(b"OCHK" + moved + bytes(4) if header.new else moved)
    if header.new:
        _sign(block)
    where = len(data)
    data += block

    def change() -> None:
        rest = len(message.content) - 16
        data[message.offset : message.offset + 16] = where.to_bytes(8, "little") + len(block).to_bytes(
            8, "little"
        )
        start = message.offset - width
        _write_head(data, start, 0x10, 16, width)
        if rest >= width:
            _write_head(data, message.offset + 16, 0, rest - width, width)
        elif not header.new:
            _write_head(data, start, 0x10, len(message.content), width)

    edit(data, address, _whole(address, header), change)
    _grow(data)


def _head_of(data: bytearray, message: Message, header: Header) -> int:
    """Say where the head of a message begins: it may bear the order in which it was made."""
    if not header.new:
        return message.offset - 8
    plain = message.offset - 4
    size = int.from_bytes(data[plain + 1 : plain + 3], "little")
    return plain if data[plain] == message.kind and size == len(message.content) else plain - 2


def _write_head(data: bytearray, start: int, kind: int, size: int, width: int) -> None:
    if width == 8:
        data[start : start + 8] = kind.to_bytes(2, "little") + size.to_bytes(2, "little") + bytes(4)
    else:
        data[start : start + width] = bytes([kind]) + size.to_bytes(2, "little") + bytes(width - 3)


def _sign(block: bytearray) -> None:
    """Give a block its checksum."""
    block[-4:] = lookup3(bytes(block[:-4])).to_bytes(4, "little")


def _grow(data: bytearray) -> None:
    """Tell the superblock where the file ends now."""
    if data[8] >= 2 and data[9] == 8:

        def change() -> None:
            data[28:36] = len(data).to_bytes(8, "little")

        edit(data, 0, 48, change)
    elif data[8] < 2 and data[13] == 8:
        place = 40 if data[8] == 0 else 44
        data[place : place + 8] = len(data).to_bytes(8, "little")


def _structure(_: Path, data: bytearray, chance: random.Random) -> None:
    """Change a byte of any structure that has a signature."""
    found = structures(data)
    old = [at for mark in (b"TREE", b"SNOD", b"HEAP", b"GCOL") for at in _places(data, mark)]
    if not found and not old:
        return
    start = chance.choice(found + old)
    end = signed(data, start) if start in found else None
    place = start + chance.randrange(4, 64)
    if end is None and place >= len(data):
        return

    def change() -> None:
        at = chance.randrange(start + 4, end - 4) if end else place
        data[at] = chance.choice([0, 1, 255, data[at] ^ (1 << chance.randrange(8))])

    if end:
        edit(data, start, end, change)
    else:
        change()


def _places(data: bytearray, mark: bytes) -> Iterator[int]:
    at = data.find(mark)
    while at >= 0:
        yield at
        at = data.find(mark, at + 1)


def _heap(_: Path, data: bytearray, chance: random.Random) -> None:
    """Change an object of a global heap, or the entries of a group."""
    marks = list(_places(data, b"GCOL")) or list(_places(data, b"SNOD"))
    if not marks:
        return
    start = chance.choice(marks) + chance.choice([8, 16, 18, 24, 32, 40, 48, 56, 64])
    if start + 8 <= len(data):
        value = chance.choice([0, 1, 2, 3, 4, 16, 4096, 1 << 20, 1 << 40, chance.randrange(len(data))])
        width = chance.choice([2, 8])
        data[start : start + width] = value.to_bytes(8, "little")[:width]


def _superblock(_: Path, data: bytearray, chance: random.Random) -> None:
    """Change a field of the superblock, or add bytes behind the file."""
    if chance.random() < 0.3:
        data += chance.randbytes(chance.choice([1, 100, 5000]))
        return
    end = 48 if data[8] >= 2 else 96

    def change() -> None:
        place = chance.randrange(8, end - 8)
        if chance.random() < 0.5:
            data[place] = chance.choice([0, 1, 2, 3, 4, 8, 255])
        else:
            number = chance.choice([0, len(data) - 8, len(data) // 2, len(data) + 100, 512])
            place = chance.choice([12, 20, 24, 28, 32, 36, 40, 44])
            data[place : place + 8] = number.to_bytes(8, "little")

    edit(data, 0, end, change)


def _address(path: Path, data: bytearray, chance: random.Random) -> None:
    """Let the address of a tensor be another: that of another tensor, or a place nearby or far away."""
    offsets: list[int] = []

    def see(_: str, thing: Any) -> None:
        if isinstance(thing, h5py.Dataset) and (offset := thing.id.get_offset()):
            offsets.append(offset)

    with contextlib.suppress(Exception), h5py.File(path) as file:
        file.visititems(see)
    if not offsets:
        return
    old = chance.choice(offsets)
    new = chance.choice(
        [chance.choice(offsets), old + 8, old - 16, 0, len(data) - 16, chance.randrange(len(data))]
    )
    known = headers(path, _objects(path))
    for address, header in sorted(known.items()):
        for message in header.messages:
            place = message.content.find(old.to_bytes(8, "little"))
            if place >= 0 and message.kind in (8, 0x0C):
                at = message.offset + place

                def change(at: int = at) -> None:
                    data[at : at + 8] = max(0, new).to_bytes(8, "little")

                edit(data, address, _whole(address, header), change)
                if chance.random() < 0.8:
                    return


def _transplant(path: Path, data: bytearray, chance: random.Random) -> None:
    """Let a message of one object be that of another: two objects then share a heap, a tree or a tensor's bytes."""
    known = headers(path, _objects(path))
    groups: dict[tuple[int, int], list[tuple[int, Message]]] = {}
    for address, header in known.items():
        for message in header.messages:
            if address < message.offset < address + header.size and message.kind:
                groups.setdefault((message.kind, len(message.content)), []).append((address, message))
    several = [group for group in groups.values() if len(group) > 1]
    if not several:
        return
    (address, message), (_, other) = chance.sample(chance.choice(several), 2)

    def change() -> None:
        data[message.offset : message.offset + len(other.content)] = other.content

    edit(data, address, _whole(address, known[address]), change)


def _prefix(path: Path, data: bytearray, chance: random.Random) -> None:
    """Change what a header says of itself: its number of messages, references and bytes, or its flags."""
    found = _header(path, chance)
    if found is None:
        return
    address, header = found

    def change() -> None:
        place = address + chance.choice([5, 6, 7] if header.new else [2, 4, 8, 8, 12])
        data[place] = chance.choice([0, 1, data[place] + 1, data[place] - 1, data[place] + 8, 64]) & 255

    edit(data, address, _whole(address, header), change)


def _embed(path: Path, data: bytearray, chance: random.Random) -> None:
    """Copy a header to another place, such as a tensor's bytes, perhaps with another address, and lead a link to it."""
    found = _header(path, chance)
    links = [
        at + 8 + 40 * number + 8
        for at in _places(data, b"SNOD")
        for number in range(int.from_bytes(data[at + 6 : at + 8], "little"))
    ]
    links = [at for at in links if at + 8 <= len(data)]
    if found is None or not links:
        return
    address, header = found
    copy = data[address : _whole(address, header)]
    offsets = [
        other.content[2:10]
        for one in headers(path, _objects(path)).values()
        for other in one.messages
        if other.kind == 8 and len(other.content) >= 18
    ]
    where = chance.choice([len(data), *(int.from_bytes(offset, "little") for offset in offsets)])
    if where > len(data):
        return
    for message in header.messages:
        if message.kind == 8 and offsets and len(message.content) >= 18 and not header.new:
            at = message.offset - address + 2
            if at + 8 <= len(copy) and chance.random() < 0.7:
                copy[at : at + 8] = chance.choice(offsets)
    data[where : where + len(copy)] = copy
    pointing = [at for at in links if data[at : at + 8] == address.to_bytes(8, "little")]
    at = chance.choice(pointing or links)
    data[at : at + 8] = where.to_bytes(8, "little")
    _grow(data)


_EDITS = (
    _message,
    _message,
    _message,
    _continue,
    _structure,
    _heap,
    _superblock,
    _address,
    _transplant,
    _transplant,
    _prefix,
    _embed,
)


# The judgement.


def differences(source: Path, target: Path) -> str:
    """Convert a file with nothing changed and compare by h5py alone; say how it ended.

    Raises AssertionError when h5py reads anything else from the output than from the input.
    """
    target.unlink(missing_ok=True)
    try:
        with open_checkpoint(source) as opened:
            given = opened.checkpoint
            full = given.model_config is not None
            if not full:  # then the state of training is left behind
                given = replace(given, training_config=None, optimizer=None)
            publish(unchanged(given), opened, target, overwrite=False)
    except RemapError as error:
        refusal = str(error)
        if target.exists() or not refusal.isprintable():
            raise AssertionError(f"refused, but something was left or would be: {refusal!r}") from error
        return "refused"
    with h5py.File(source) as file:
        before = read_all(file, full=full)
    with h5py.File(target) as file:
        after = read_all(file, full=full)
    _require_equal(before, after)
    with h5py.File(target) as second, h5py.File(source) as first:
        _require_equal(read_all(first, full=full), read_all(second, full=full))
    return "converted"


def read_all(file: h5py.File, *, full: bool) -> dict[str, object]:
    """Give what each way of Keras to read a file gives: `load_weights`, and `load_model` of two generations.

    A full file without `model_weights` is one that no `load_model` reads: there only the texts are compared with it.
    """
    nested = "model_weights" in file
    weights = "model_weights" if nested and "layer_names" not in file.attrs else "/"
    ways = [("load_weights", weights, False)]
    if full:
        model = "model_weights" if nested else weights
        ways += [("load_model", model, False), ("load_model by H5Dict", model, True)]
    return {
        f"{way}: {place}": value
        for way, root, attributes_first in ways
        for place, value in read(file, root, full=full, attributes_first=attributes_first).items()
    }


def _require_equal(before: dict[str, object], after: dict[str, object]) -> None:
    assert list(before) == list(after), f"{list(before)} became {list(after)}"
    for place, value in before.items():
        assert after[place] == value, f"{place}: {str(value)[:200]} became {str(after[place])[:200]}"


def read(file: h5py.File, where: str, *, full: bool, attributes_first: bool) -> dict[str, object]:
    """Give all that Keras reads of a file whose layers are listed in the group `where`, as h5py gives it, in order.

    With `attributes_first`, as `H5Dict` of Keras 2.2.3 to 2.3.1 looks names up: attribute, object, split list.
    """
    found: dict[str, object] = {}

    def item(group: Any, name: str) -> Any:
        return group.attrs[name] if attributes_first and name in group.attrs else group[name]

    root = item(file, where)
    texts = [(root, "backend"), (root, "keras_version")]
    if full:
        texts += [(file, name) for name in ("backend", "keras_version", "model_config", "training_config")]
    for number, (group, name) in enumerate(texts):
        found[f"text {number}"] = _bytes(group.attrs[name]) if name in group.attrs else None
    groups = [
        (layer, item(root, layer)) for layer in _list_of(root, "layer_names", objects_first=attributes_first)
    ]
    if full and "optimizer_weights" in file:
        groups.append(("optimizer weights", item(file, "optimizer_weights")))
    for place, group in groups:
        if not isinstance(group, h5py.Group):
            found[place] = f"an attribute: {group!r}"
            continue
        names = _list_of(group, "weight_names", objects_first=attributes_first)
        found[place] = names
        for name in names:
            dataset = item(group, name)
            value = np.asarray(dataset[()])
            found[f"{place}: {name}"] = dataset.dtype.str, dataset.shape, value.tobytes()
    return found


def _list_of(group: h5py.Group, name: str, *, objects_first: bool) -> list[str]:
    """Read a list as `load_attributes_from_hdf5_group` of Keras does; or an object of its name before its pieces."""
    if name in group.attrs:
        return [_bytes(one).decode() for one in group.attrs[name]]
    if objects_first and name in group:
        return [_bytes(one).decode() for one in group[name][()]]
    found: list[str] = []
    number = 0
    while f"{name}{number}" in group.attrs:
        found += [_bytes(one).decode() for one in group.attrs[f"{name}{number}"]]
        number += 1
    return found


def _bytes(value: Any) -> bytes:
    return value.encode() if isinstance(value, str) else bytes(value)


# Many files.


def attempt(seed: int, number: int, directory: Path, made: Callable[[], object] = lambda: None) -> str:
    """Make one file, edit it perhaps, call `made`, and judge it."""
    chance = random.Random(f"{seed}:{number}")
    source = directory / "in.h5"
    make(source, chance)
    edited = chance.random() < 0.7
    if edited:
        spoil(source, chance)
    made()
    return ("edited, " if edited else "as made, ") + differences(source, directory / "out.h5")


def _serve(numbers: list[int], seed: int, directory: Path, writing: int, *, again: bool) -> None:
    try:
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
        for number in numbers:
            used = resource.getrusage(resource.RUSAGE_SELF)
            hard = resource.getrlimit(resource.RLIMIT_CPU)[1]
            resource.setrlimit(resource.RLIMIT_CPU, (int(used.ru_utime + used.ru_stime) + DEADLINE, hard))
            try:
                if again:
                    outcome = "made by another process, " + differences(
                        directory / "in.h5", directory / "out.h5"
                    )
                else:
                    outcome = attempt(seed, number, directory, lambda: os.write(writing, bytes(4)))
            except BaseException:
                outcome = "FAILED " + traceback.format_exc()
            content = outcome.encode(errors="replace")
            os.write(writing, len(content).to_bytes(4, "little") + content)
    finally:
        os._exit(0)


def _batch(
    numbers: list[int], seed: int, directory: Path, *, again: bool = False
) -> Iterator[tuple[int, str]]:
    """Handle files in one child after the other; a child that dies is followed by another.

    What an earlier file did to libhdf5's memory must not be blamed on a later one: a file that fails, or on which a
    child dies, is handled again in a child of its own. An empty message says that a file is made. Making it may have
    damaged libhdf5's memory too: then another child judges it (`again`).
    """
    while numbers:
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:
            _serve(numbers, seed, directory, writing, again=again)
        os.close(writing)
        outcomes: list[str] = []
        made = again
        with os.fdopen(reading, "rb") as messages:
            while len(size := messages.read(4)) == 4:
                made = size == bytes(4)
                if not made:
                    outcomes.append(messages.read(int.from_bytes(size, "little")).decode())
        status = os.waitpid(child, 0)[1]
        if len(numbers) == 1 and not outcomes and made and not again:
            yield from _batch(numbers, seed, directory, again=True)
            return
        if len(numbers) == 1 and not outcomes:
            death = signal.Signals(os.WTERMSIG(status)).name
            outcomes.append(_by_command_line(death, directory, made=made))
        for number, outcome in zip(numbers, outcomes, strict=False):
            if outcome.startswith("FAILED") and len(numbers) > 1:
                yield from _batch([number], seed, directory)
            else:
                yield number, outcome
        left = numbers[len(outcomes) :]
        if left and len(numbers) > 1:
            yield from _batch(left[:1], seed, directory)
            left = left[1:]
        numbers = left


def _by_command_line(death: str, directory: Path, *, made: bool) -> str:
    """Give the file on which a child died to the command line, which may only read it if it was still being made."""
    path = directory / "in.h5"
    if not path.exists():
        return f"died by {death} before anything was made"
    command = [sys.executable, "-m", "remap", "inspect", str(path)]
    done = subprocess.run(command, capture_output=True, check=False, timeout=120)
    if done.returncode == 3:
        return f"died by {death}, and the command line refused it"
    if done.returncode == 0 and not made:
        return f"died by {death} while it was made, and the command line read it"
    return f"FAILED died by {death}, and the command line ended with {done.returncode}"


def campaign(*, files: int, seed: int) -> int:
    """Handle as many files; return how many ended as none may."""
    counts: Counter[str] = Counter()
    base = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None  # noqa: S108 - a fresh directory is made in it
    with tempfile.TemporaryDirectory(dir=base) as name:
        for start in range(0, files, BATCH):
            numbers = list(range(start, min(files, start + BATCH)))
            for number, outcome in _batch(numbers, seed, Path(name)):
                if outcome.startswith("FAILED"):
                    _say(f"{seed}:{number}: {outcome}")
                counts[outcome.partition(" ")[0] if outcome.startswith("FAILED") else outcome] += 1
    _say(f"{files:,} files, seed {seed}")
    for outcome, count in counts.most_common():
        _say(f"{count:>9,}  {outcome}")
    _say(f"{counts['FAILED']:>9,}  ended as none may")
    return counts["FAILED"]


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def main() -> None:
    """Parse the command line and run."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--files", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", help="repeat one file, by seed and number")
    parser.add_argument("--keep", type=Path, help="where to leave the files of --only")
    given = parser.parse_args()
    if given.only:
        seed, _, number = given.only.partition(":")
        with tempfile.TemporaryDirectory() as name:
            directory = given.keep or Path(name)
            _say(attempt(int(seed), int(number), directory))
        return
    sys.exit(1 if campaign(files=given.files, seed=given.seed) else 0)


if __name__ == "__main__":
    main()
