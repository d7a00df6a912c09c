"""The description of an output file: its groups in creation order, their attributes, and the tensors in them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from remap.errors import OutputRefused
from remap.output_tensors import OutputTensor
from remap.weight_names import path_parts

__all__ = ["Attribute", "FileDescription", "Group"]

_RENAME = "give the layers of the model other names"

Path = tuple[bytes, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Attribute:
    """An attribute of a group.

    Attributes:
        name: Its name.
        value: One text, or a list of texts. An empty list has the type that numpy gives it: 64-bit floats.
        width: The number of bytes of each fixed-length string, filled up with zeros; None for variable-length UTF-8.
    """

    name: str
    value: str | tuple[str, ...]
    width: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """A group that is created, or one that exists by then, with what is added to it.

    Attributes:
        path: The names on the path to it from the root, each of which may be a path itself; () for the root. Groups above
            it are created where they are missing.
        attributes: The attributes that are added.
        tensors: The datasets that are added: the path of each from this group, and its content.
    """

    path: tuple[str, ...]
    attributes: tuple[Attribute, ...] = ()
    tensors: tuple[tuple[str, OutputTensor], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class FileDescription:
    """An HDF5 file, and the zip archive in which it lies where there is one.

    Attributes:
        groups: What the file holds, in the order in which it is created.
        members: The other members of the archive, their names and contents.
        member: The name of the file in the archive; "" for a file that lies in none.
        counts: How many attributes each group that is listed has in all, and how many objects are in it, by its path.

    Raises OutputRefused for names that cannot stand in one file: a name that is no path, or two objects of one path.
    """

    groups: tuple[Group, ...]
    members: tuple[tuple[str, bytes], ...] = ()
    member: str = ""
    counts: dict[tuple[str, ...], tuple[int, int]] = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        names = _Names()
        paths = {group.path: names.add(group) for group in self.groups}
        object.__setattr__(self, "counts", {path: names.counts(parts) for path, parts in paths.items()})


class _Names:
    """The objects of a file while it is described: groups, tensors and attributes by their paths."""

    def __init__(self) -> None:
        self._groups: dict[Path, int] = {(): 0}  # how many objects are in each
        self._tensors: set[Path] = set()
        self._attributes: dict[Path, set[str]] = {}

    def add(self, group: Group) -> Path:
        """Add a group with its attributes and tensors; raises OutputRefused where a name is taken or is no path."""
        path = _parts(group.path)
        self._add_groups(path)
        attributes = self._attributes.setdefault(path, set())
        for attribute in group.attributes:
            _require_storable(attribute)
            if attribute.name in attributes:
                raise _taken(path)
            attributes.add(attribute.name)
        for name, _ in group.tensors:
            whole = path + _parts((name,))
            above = whole[:-1]
            self._add_groups(above)
            if whole in self._tensors or whole in self._groups:
                raise _taken(whole)
            self._tensors.add(whole)
            self._groups[above] += 1
        return path

    def counts(self, path: Path) -> tuple[int, int]:
        """Count the attributes of a group and the objects in it."""
        return len(self._attributes[path]), self._groups[path]

    def _add_groups(self, path: Path) -> None:
        if path in self._groups:
            return
        above = path[:-1]
        self._add_groups(above)
        if path in self._tensors:
            raise OutputRefused(
                "a layer and a tensor in the output would have one name", where=_shown(path), hint=_RENAME
            )
        self._groups[path] = 0
        self._groups[above] += 1


def _parts(names: tuple[str, ...]) -> Path:
    try:
        return tuple(part for name in names for part in path_parts(name))
    except ValueError as error:
        raise OutputRefused(str(error), hint=_RENAME) from error


def _require_storable(attribute: Attribute) -> None:
    """Refuse text that HDF5 cannot hold: variable-length strings end at the first zero, and UTF-8 has no surrogates."""
    for text in _texts(attribute):
        if not text.isprintable() and ("\0" in text or any("\ud800" <= char <= "\udfff" for char in text)):
            raise OutputRefused("a name cannot be stored", where=repr(text[:200]), hint=_RENAME)


def _texts(attribute: Attribute) -> Iterator[str]:
    if isinstance(attribute.value, str):
        yield attribute.value
    else:
        yield from attribute.value


def _taken(path: Path) -> OutputRefused:
    return OutputRefused("two objects in the output would have one name", where=_shown(path), hint=_RENAME)


def _shown(path: Path) -> str:
    return "/" + b"/".join(path).decode()
