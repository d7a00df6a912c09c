"""The one door into an HDF5 file: nothing is opened, read or believed before it was checked.

Keras closed the same class of holes patch after patch (external links and storage: CVE-2026-1669; declared
shapes: CVE-2026-0897) because its checks stood at call sites. Here every access goes through one object,
which accepts hard links only, part by part, bounds every attribute before it is read, and takes a tensor only
when it is plain numbers stored in this file once. Tensors are never read through HDF5: the gate says where
their bytes lie.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from h5py import h5d, h5f, h5fd, h5g, h5l, h5p

from remap.errors import InputRefused
from remap.hdf5.attributes import NAMES, Attributes
from remap.hdf5.identify import SIGNATURE, identify, show
from remap.hdf5.names import path_parts
from remap.hdf5.refused import DAMAGED, UNFINISHED, Refused
from remap.hdf5.tensors import Tensor, check_tensor

if TYPE_CHECKING:
    from remap.hdf5.source import Source

__all__ = ["Gate"]

_LINKS = {h5l.TYPE_SOFT: "a soft link", h5l.TYPE_EXTERNAL: "a link to another file"}
_VERSION, _FLAGS = 8, 11
_MARKING_VERSION = 3
_BEING_WRITTEN = 0x01 | 0x04
"""Bytes of the superblock: its version, and from the third on a mark while a program writes the file."""
_LIBRARY = (KeyError, OSError, RuntimeError, ValueError, TypeError, SystemError, MemoryError, OverflowError)
"""What h5py raises for what libhdf5 says."""


class Gate:
    """A checked view of one open HDF5 file, in a `with` statement after which libhdf5 holds nothing of it.

    Paths are given as names that are joined, each a path itself. Every method raises InputRefused: when
    libhdf5 fails, when an object is not what Keras writes, or when what the file claims cannot be true of a
    file of its size.
    """

    def __init__(self, source: Source) -> None:
        self._source = source
        self._attributes = Attributes(source)
        self._extents: list[tuple[int, int, tuple[bytes, ...]]] = []
        self._chain: list[tuple[bytes, Any]] = []
        self._require_signature()
        access = h5p.create(h5p.FILE_ACCESS)
        access.set_fclose_degree(h5f.CLOSE_STRONG)
        access.set_fileobj_driver(h5fd.fileobj_driver, source)
        with _Guard(source, ()):
            self._file = h5f.open(b"h5remap", h5f.ACC_RDONLY, fapl=access)
        try:
            with _Guard(source, ()):
                self._root = h5g.open(self._file, b"/")
        except BaseException:
            self._file.close()
            raise

    def __enter__(self) -> Gate:
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        self._chain.clear()
        self._file.close()
        if error is None:
            self._source.raise_fault()

    def has(self, *names: str) -> bool:
        """Say whether anything is under a path; what it is shows when it is used."""
        parts = self._parts(names)
        with _Guard(self._source, parts):
            return bool(self._enter(parts[:-1]).links.exists(parts[-1]))

    def text(self, *names: str, attribute: str) -> str | None:
        """Read an attribute of a group that holds one text; None when it is not there."""
        parts = self._parts(names)
        with _Guard(self._source, parts, attribute):
            return self._attributes.text(self._enter(parts), attribute)

    def names(self, *names: str, attribute: str) -> tuple[str, ...] | None:
        """Read an attribute that holds a list of names, whole or split into `attribute0`, `attribute1`, ….

        None when it is not there. `load_attributes_from_hdf5_group` of Keras 2.1.5 and later reads the
        pieces, and the whole list where there are both; it never writes an empty piece.
        """
        parts = self._parts(names)
        found: list[str] = []
        with _Guard(self._source, parts, attribute):
            group = self._enter(parts)
            whole = self._attributes.names(group, attribute)
            if whole is not None:
                return whole
            number = 0
            while (piece := self._attributes.names(group, f"{attribute}{number}")) is not None:
                found.extend(piece)
                number += 1
                if not piece or len(found) > NAMES:
                    raise Refused(f"piece {number} of this list has {len(piece):,} names")
        return tuple(found) if number else None

    def tensor(self, *names: str) -> Tensor:
        """Check a dataset and say what it is and where its bytes are."""
        parts = self._parts(names)
        with _Guard(self._source, parts):
            group = self._enter(parts[:-1])
            _require_hard_link(group, parts[-1])
            tensor = check_tensor(h5d.open(group, parts[-1]), self._source.size)
        if tensor.extent.size:
            self._extents.append((tensor.extent.offset, tensor.extent.size, parts))
        return tensor

    def require_disjoint(self) -> None:
        """Refuse a file in which two names stand for the same bytes: a small file could become a huge one."""
        self._extents.sort()
        end, before = 0, b""
        for offset, size, parts in self._extents:
            with _Guard(self._source, parts):
                if offset < end:
                    raise Refused(f"this tensor shares its bytes with {show(before.decode())}")
            end, before = offset + size, b"/" + b"/".join(parts)

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

    def _parts(self, names: tuple[str, ...]) -> tuple[bytes, ...]:
        try:
            return path_parts("/".join(names)) if names else ()
        except ValueError as error:
            with _Guard(self._source, ()):
                raise Refused(f"the name {show('/'.join(names))[:200]!r} is refused: {error}") from error

    def _enter(self, parts: tuple[bytes, ...]) -> Any:
        """Open the group under a path, part by part, keeping those that the last path went through too."""
        chain = self._chain
        common = 0
        while common < min(len(chain), len(parts)) and chain[common][0] == parts[common]:
            common += 1
        del chain[common:]
        for part in parts[common:]:
            parent = chain[-1][1] if chain else self._root
            _require_hard_link(parent, part)
            chain.append((part, h5g.open(parent, part)))
        return chain[-1][1] if chain else self._root


def _require_hard_link(group: Any, part: bytes) -> None:
    if not group.links.exists(part):
        raise Refused(f"the file lists this, but does not hold {show(part.decode())!r}", hint=UNFINISHED)
    kind = group.links.get_info(part).type
    if kind != h5l.TYPE_HARD:
        name = _LINKS.get(kind, "a link of an unknown kind")
        raise Refused(f"{name} stands where Keras stores {show(part.decode())!r} itself")


class _Guard:
    """Turn a refusal, or whatever libhdf5 says, into InputRefused with its place; a disk fault goes first."""

    __slots__ = ("_attribute", "_parts", "_source")

    def __init__(self, source: Source, parts: tuple[bytes, ...], attribute: str = "") -> None:
        self._source = source
        self._parts = parts
        self._attribute = attribute

    def __enter__(self) -> None:
        """Do nothing: what counts is how the block ends."""

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        self._source.raise_fault()
        if isinstance(error, Refused):
            raise self._refusal(str(error), error.hint) from error
        if isinstance(error, _LIBRARY):
            raise self._refusal(*_explain(str(error.args[0] if error.args else error))) from error

    def _refusal(self, what: str, hint: str) -> InputRefused:
        place = show("/" + b"/".join(self._parts).decode())
        if self._attribute:
            place += f" (attribute {self._attribute})"
        return InputRefused(what, where=f"{place} in {show(self._source.name)}", hint=hint)


def _explain(words: str) -> tuple[str, str]:
    """Say what libhdf5 said, and what to do about it, in words that help."""
    if "truncated file" in words:
        return "the file is cut short", "the copy or the saving did not finish: get it again"
    return f"HDF5 cannot read this: {show(words)}", DAMAGED
