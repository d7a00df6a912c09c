"""The description of an output file: its groups in creation order, their attributes, and the tensors in them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

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

    Raises OutputRefused for names that cannot stand in one file: a name that is no path, or two objects of one path.
    """

    groups: tuple[Group, ...]
    members: tuple[tuple[str, bytes], ...] = ()
    member: str = ""

    def __post_init__(self) -> None:
        names = _Names()
        for group in self.groups:
            names.add(group)

    def counts(self) -> dict[tuple[str, ...], tuple[int, int]]:
        """Count the attributes of each group that is listed, and the objects in it, by its path."""
        objects: dict[Path, set[bytes]] = {}
        attributes: dict[Path, int] = {}
        paths = {group.path: _parts(group.path) for group in self.groups}
        for group in self.groups:
            path = paths[group.path]
            attributes[path] = attributes.get(path, 0) + len(group.attributes)
            for whole in (path, *(path + path_parts(name) for name, _ in group.tensors)):
                for depth in range(len(whole)):
                    objects.setdefault(whole[:depth], set()).add(whole[depth])
        return {path: (attributes[parts], len(objects.get(parts, ()))) for path, parts in paths.items()}


class _Names:
    """The objects of a file while it is described: groups, tensors and attributes by their paths."""

    def __init__(self) -> None:
        self._groups: set[Path] = {()}
        self._tensors: set[Path] = set()
        self._attributes: set[tuple[Path, str]] = set()

    def add(self, group: Group) -> None:
        """Add a group with its attributes and tensors; raises OutputRefused where a name is taken or is no path."""
        path = _parts(group.path)
        self._add_groups(path)
        for attribute in group.attributes:
            _require_storable(attribute)
            if (path, attribute.name) in self._attributes:
                raise _taken(path)
            self._attributes.add((path, attribute.name))
        for name, _ in group.tensors:
            whole = path + _parts((name,))
            self._add_groups(whole[:-1])
            if whole in self._tensors or whole in self._groups:
                raise _taken(whole)
            self._tensors.add(whole)

    def _add_groups(self, path: Path) -> None:
        if path in self._groups:
            return
        self._add_groups(path[:-1])
        if path in self._tensors:
            raise OutputRefused(
                "a layer and a tensor in the output would have one name", where=_shown(path), hint=_RENAME
            )
        self._groups.add(path)


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
