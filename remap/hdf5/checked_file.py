"""Checked access to an HDF5 file: nothing is opened, read or used before it was checked.

Keras fixed the same class of vulnerabilities patch after patch (external links and storage: CVE-2026-1669; declared
shapes: CVE-2026-0897) because its checks stood at call sites. Here every access goes through one object, which accepts
hard links only, part by part of a path, limits every attribute before it is read, and accepts a tensor only when it is
plain numbers stored in this file once. Tensors are never read through HDF5: the checked file gives the offsets of their
bytes.
"""

from __future__ import annotations

from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any

from h5py import h5a, h5d, h5f, h5fd, h5g, h5l, h5o, h5p

from remap.errors import InputRefused
from remap.hdf5.attributes import NAMES, Attributes, decode
from remap.hdf5.identify import SIGNATURE, identify, show
from remap.hdf5.object_headers import HeaderCache, read_superblock
from remap.hdf5.source import DAMAGED, UNFINISHED, Refused
from remap.hdf5.tensors import Tensor, check_tensor
from remap.weight_names import path_parts

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from remap.hdf5.source import Source

__all__ = ["CheckedFile", "GroupCache"]


class GroupCache:
    """The open groups along the path last asked for: most paths share all but their last parts.

    `open_group` opens the group of a path in its parent. No more handles are kept than a path has parts.
    """

    def __init__(self, root: Any, open_group: Callable[[Any, tuple[bytes, ...]], Any]) -> None:
        self._open_group = open_group
        self._groups = [root]
        self._path: tuple[bytes, ...] = ()

    def to(self, path: tuple[bytes, ...]) -> Any:
        """Give the group of a path; raises what `open_group` raises."""
        groups = self._groups
        if path != self._path:
            common = 0
            for here, there in zip(self._path, path, strict=False):
                if here != there:
                    break
                common += 1
            del groups[common + 1 :]
            self._path = path[:common]
            for depth in range(common + 1, len(path) + 1):
                groups.append(self._open_group(groups[-1], path[:depth]))
                self._path = path[:depth]
        return groups[-1]


_LINKS = {h5l.TYPE_SOFT: "a soft link", h5l.TYPE_EXTERNAL: "a link to another file"}
_VERSION, _FLAGS = 8, 11
"""Bytes of the superblock: its version, and its flags."""
_MARKING_VERSION = 3
_BEING_WRITTEN = 0x01 | 0x04
"""The first version that has flags, and those that are set while a program writes the file."""
_PIECES = 1024
"""Pieces a list of names may have; Keras makes pieces of more than 30,000 bytes."""
_LIBRARY = (KeyError, OSError, RuntimeError, ValueError, TypeError, SystemError, MemoryError, OverflowError)
"""What h5py raises for errors of libhdf5."""


class CheckedFile:
    """Checked access to one open HDF5 file, in a `with` statement that ends with libhdf5 closing the file.

    A path is a tuple of names, each of which may be a path itself; that of the root is empty. Every method raises
    InputRefused: when libhdf5 fails, when an object is not what Keras writes, or when a size in the file is impossible
    in a file of its size. `compared` says that the bytes of the file are known to be those that libhdf5 wrote.
    """

    def __init__(self, source: Source, *, compared: bool = False) -> None:
        self._source = source
        self._extents: list[tuple[int, int, tuple[bytes, ...]]] = []
        self._objects: dict[int, tuple[bytes, ...]] = {}
        self._listed = 0
        self._path: tuple[str, ...] = ()
        self._path_parts: tuple[bytes, ...] = ()
        self._require_signature()
        with _Guard(source):
            superblock = read_superblock(source)
            self._end = superblock.end
            self._cache = HeaderCache(source, superblock, compared=compared)
            self._attributes = Attributes(source, superblock)
            self._file = _open(source)
            try:
                root = h5g.open(self._file, b"/")
                self._objects[h5o.get_info(root).addr] = ()
                self._groups = GroupCache(root, partial(_descend, self._objects))
                source.raise_fault()
            except BaseException:
                with suppress(*_LIBRARY):
                    self._file.close()
                raise

    def __enter__(self) -> CheckedFile:
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        try:
            self._file.close()
        except _LIBRARY as failure:
            # libhdf5 may meet damage only when it closes what it has open; an earlier error tells more.
            if error is None:
                self._source.raise_fault()
                what, hint = _explain(str(failure))
                raise InputRefused(what, where=show(self._source.name), hint=hint) from failure
        if error is None:
            self._source.raise_fault()

    def has(self, *path: str) -> bool:
        """Tell whether an object has this path, of whatever kind."""
        with _Guard(self._source) as guard:
            parts = guard.enter(self._parts(path))
            return bool(self._groups.to(parts[:-1]).links.exists(parts[-1]))

    def members(self, path: tuple[str, ...]) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """List what a group holds: the names of the groups in it, and those of the datasets.

        No more than `NAMES` are listed in all calls together; a group is listed by the path that first led to it only.
        """
        with _Guard(self._source) as guard:
            above = guard.enter(self._parts(path))
            group = self._groups.to(above)
            found: list[bytes] = []
            self._listed += group.get_num_objs()
            if self._listed > NAMES:
                raise Refused(f"the groups of the file hold more than {NAMES:,} names")
            h5g.iterate(group, found.append)
            kinds: dict[int, list[str]] = {h5o.TYPE_GROUP: [], h5o.TYPE_DATASET: []}
            for raw in found:
                name = decode(raw)
                parts = path_parts(name)
                guard.enter(above + parts)
                _hard_link(group, raw)
                kind = kinds.get(h5o.get_info(group, raw).type)
                if kind is None or len(parts) > 1:
                    raise Refused("this is neither a group nor a dataset")
                kind.append(name)
                self._source.raise_fault()
        groups, datasets = kinds.values()
        return tuple(groups), tuple(datasets)

    def text(self, path: tuple[str, ...], attribute: str) -> str | None:
        """Read an attribute of a group that holds one text; None when it is not there."""
        with _Guard(self._source, attribute) as guard:
            return self._attributes.text(self._groups.to(guard.enter(self._parts(path))), attribute)

    def names(self, path: tuple[str, ...], attribute: str) -> tuple[str, ...] | None:
        """Read an attribute that holds a list of names, whole or split into `attribute0`, `attribute1`, ….

        None when it is not there. `load_attributes_from_hdf5_group` of Keras 2.1.5 and later reads the
        pieces, and the whole list where there are both; it never writes an empty piece. `H5Dict` of Keras 2.2.3
        to 2.3.1 (keras/utils/io_utils.py) reads an object of that name before the pieces: with both it is refused.
        """
        found: list[str] = []
        with _Guard(self._source, attribute) as guard:
            opened = self._groups.to(guard.enter(self._parts(path)))
            whole = self._attributes.names(opened, attribute)
            if whole is not None:
                return whole
            number = 0
            while (piece := self._attributes.names(opened, f"{attribute}{number}")) is not None:
                found.extend(piece)
                number += 1
                if not piece or len(found) > NAMES or number > _PIECES:
                    raise Refused(f"piece {number} of this list has {len(piece):,} names")
            if number and opened.links.exists(attribute.encode()):
                raise Refused("this list is split, and the group holds an object of the same name")
        return tuple(found) if number else None

    def require_no_attributes(self, path: tuple[str, ...], names: Sequence[str]) -> None:
        """Refuse a group of which an attribute has one of these names of objects.

        `H5Dict` of Keras 2.2.3 to 2.3.1 (keras/utils/io_utils.py), by which its `load_model` reads, would take the
        attribute; `load_weights` and all other releases take the object.
        """
        with _Guard(self._source) as guard:
            self._attributes.require_none(self._groups.to(guard.enter(self._parts(path))), names)

    def tensors(self, path: tuple[str, ...], names: Sequence[str]) -> Iterator[Tensor]:
        """Check datasets under a group and give shape, type and extent of each, in order."""
        source = self._source
        known: set[bytes] = set()
        with _Guard(source) as guard:
            above = guard.enter(self._parts(path))
            group = self._groups.to(above)
            self._attributes.require_none(group, names)
            for name in names:
                parts = _split(name)
                whole = guard.enter(above + parts)
                # Opening a group above a dataset costs as much as opening the dataset. So libhdf5 follows a path of
                # links of which each was found to be a hard link before.
                for depth in range(1, len(parts)):
                    between = b"/".join(parts[:depth])
                    if between not in known:
                        _claim_group(self._objects, _hard_link(group, between), above + parts[:depth])
                        known.add(between)
                leaf = b"/".join(parts)
                header = _hard_link(group, leaf)
                other = self._objects.setdefault(header, whole)
                if other is not whole:
                    # Refuse at once: many groups that list the same tensors would be quadratic work.
                    if other == whole:
                        raise Refused("this tensor is listed twice")
                    raise Refused(f"this tensor shares its bytes with {show(_joined(other))}")
                tensor = self._cache.find(header)
                if tensor is None:
                    tensor = check_tensor(h5d.open(group, leaf), self._end)
                    source.raise_fault()
                    self._cache.learn(header, tensor)
                if tensor.extent.size:
                    self._extents.append((*tensor.extent, whole))
                source.raise_fault()
                yield tensor

    def counts(self, path: tuple[str, ...]) -> tuple[int, int]:
        """Count the attributes of a group, and the objects in it."""
        with _Guard(self._source) as guard:
            group = self._groups.to(guard.enter(self._parts(path)))
            return h5a.get_num_attrs(group), group.get_num_objs()

    def require_disjoint(self) -> None:
        """Refuse a file in which two tensors share bytes: a small file could become a huge one."""
        self._extents.sort()
        end, before = 0, ""
        with _Guard(self._source) as guard:
            for offset, size, parts in self._extents:
                guard.enter(parts)
                if offset < end:
                    raise Refused(f"this tensor shares its bytes with {show(before)}")
                end, before = offset + size, _joined(parts)

    def _parts(self, path: tuple[str, ...]) -> tuple[bytes, ...]:
        """Take the names in a path apart; several questions about one group follow each other."""
        if path != self._path:
            self._path_parts = tuple(part for name in path for part in _split(name))
            self._path = path
        return self._path_parts

    def _require_signature(self) -> None:
        source = self._source
        head = memoryview(bytearray(min(source.size, 4096)))
        source.read_into(head, 0)
        if bytes(head[: len(SIGNATURE)]) != SIGNATURE:
            raise InputRefused(
                f"this is not an HDF5 file: {identify(source.name, head=bytes(head), size=source.size)}",
                where=show(source.name),
                hint="give a file that Keras saved as .h5",
            )
        # libhdf5 looks at this mark only when it reads through its own drivers.
        if len(head) > _FLAGS and head[_VERSION] >= _MARKING_VERSION and head[_FLAGS] & _BEING_WRITTEN:
            raise InputRefused(
                "the file is marked as being written: the program that saves it did not finish",
                where=show(source.name),
                hint="wait until it has, or use an earlier checkpoint",
            )


def _open(source: Source) -> Any:
    access = h5p.create(h5p.FILE_ACCESS)
    try:
        access.set_fclose_degree(h5f.CLOSE_STRONG)
        access.set_fileobj_driver(h5fd.fileobj_driver, source)
        return h5f.open(b"h5remap", h5f.ACC_RDONLY, fapl=access)
    finally:
        access.close()  # it holds the source, which libhdf5 must not release after the interpreter's end


def _split(name: str) -> tuple[bytes, ...]:
    try:
        return path_parts(name)
    except ValueError as error:
        raise Refused(str(error)) from error


def _joined(parts: tuple[bytes, ...]) -> str:
    return "/" + b"/".join(parts).decode()


def _descend(objects: dict[int, tuple[bytes, ...]], parent: Any, parts: tuple[bytes, ...]) -> Any:
    _claim_group(objects, _hard_link(parent, parts[-1]), parts)
    return h5g.open(parent, parts[-1])


def _claim_group(objects: dict[int, tuple[bytes, ...]], header: int, parts: tuple[bytes, ...]) -> None:
    """Refuse a group that was reached by another path: reading it once for each would be quadratic work."""
    other = objects.setdefault(header, parts)
    if other != parts:
        raise Refused(f"{show(_joined(parts))} and {show(_joined(other))} are the same group")


def _hard_link(group: Any, path: bytes) -> int:
    """Give the address of the object at the end of a path of hard links; refuse a link of another kind."""
    try:
        link = group.links.get_info(path)
    except _LIBRARY as error:
        if group.links.exists(path):
            raise
        raise Refused(f"the file lists this, but does not hold {_last(path)}", hint=UNFINISHED) from error
    if link.type != h5l.TYPE_HARD:
        name = _LINKS.get(link.type, "a link of an unknown kind")
        raise Refused(f"{name} stands where Keras stores {_last(path)} itself")
    return int(link.u)


def _last(path: bytes) -> str:
    return repr(show(path.rpartition(b"/")[2].decode()))


class _Guard:
    """Turn Refused, and errors of libhdf5, into InputRefused with the path; an error in reading the file comes first."""

    __slots__ = ("_attribute", "_parts", "_source")

    def __init__(self, source: Source, attribute: str = "") -> None:
        self._source = source
        self._parts: tuple[bytes, ...] = ()
        self._attribute = attribute

    def enter(self, parts: tuple[bytes, ...]) -> tuple[bytes, ...]:
        """Set the path that errors name from now on."""
        self._parts = parts
        return parts

    def __enter__(self) -> _Guard:
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        self._source.raise_fault()
        if isinstance(error, Refused):
            raise self._refusal(str(error), error.hint) from error
        if isinstance(error, _LIBRARY):
            raise self._refusal(*_explain(str(error.args[0] if error.args else error))) from error

    def _refusal(self, what: str, hint: str) -> InputRefused:
        place = show(_joined(self._parts))
        if self._attribute:
            place += f" (attribute {self._attribute})"
        return InputRefused(what, where=f"{place} in {show(self._source.name)}", hint=hint)


def _explain(words: str) -> tuple[str, str]:
    """Explain an error of libhdf5, and give a hint."""
    if "truncated file" in words:
        return "the file is cut short", "the copy or the saving did not finish: get it again"
    return f"HDF5 cannot read this: {show(words)}", DAMAGED
