"""From a weights file of Keras 3, alone or inside a `.keras` archive, to what it says, by headers only.

The file is a tree of groups, one for each object with state: the path is the chain of attributes that leads to the
object, its variables are the datasets of the group `vars` below (`_save_state` and `H5IOStore` in
keras/src/saving/saving_lib.py). There is no list of the groups, so all are visited, with limits.
"""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING

from remap.checkpoint import Weight
from remap.errors import InputRefused
from remap.hdf5.checked_file import CheckedFile
from remap.hdf5.identify import identify, show
from remap.hdf5.reader import OpenedCheckpoint, OpenedFile, read_source
from remap.hdf5.source import DAMAGED, Source

if TYPE_CHECKING:
    import os

    from remap.hdf5.tensors import Extent

__all__ = ["OpenedKeras3", "SavedObject", "is_keras3", "open_any", "open_keras3", "read_keras3"]

_VARIABLES = "vars"
_WEIGHTS = "model.weights.h5"
_CONFIG = "config.json"
_METADATA = "metadata.json"
_OPTIMIZER = "optimizer"
# What the .keras files of tf.keras 2.12 and 2.13 call the layers of a model; Keras 3 reads them as `layers`.
_OLD_LAYERS = "_layer_checkpoint_dependencies"
_DEEPEST = 48


@dataclass(frozen=True, slots=True, kw_only=True)
class SavedObject:
    """An object with its variables in the order of their numbers.

    `path` is the chain of attributes from the model to the object, () for the model itself. `name` is what Keras
    3.6 and later note as its name, None where the file has none. A variable's name is its key below `vars`.
    """

    path: tuple[str, ...]
    name: str | None
    variables: tuple[Weight, ...]

    @property
    def is_random_state(self) -> bool:
        """Tell whether this is the state of a random generator (`SeedGenerator`), which is no weight of a model."""
        if len(self.variables) != 1 or self.variables[0].shape != (2,):
            return False
        return self.variables[0].dtype[1] in "iu" and (self.name or self.path[-1]).startswith(
            "seed_generator"
        )

    @property
    def is_optimizer(self) -> bool:
        """Tell whether the object is the optimizer, or belongs to it."""
        return self.path[:1] == (_OPTIMIZER,)

    @property
    def holds_weights(self) -> bool:
        """Tell whether the variables are weights of the model."""
        return bool(self.variables) and not self.is_optimizer and not self.is_random_state


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenedKeras3(OpenedFile):
    """A weights file of Keras 3, and what the archive around it says.

    `config` is the text of config.json and `metadata` that of metadata.json, None for a `.weights.h5`. `size` is
    that of the whole file in bytes.
    """

    objects: tuple[SavedObject, ...]
    config: str | None
    metadata: str | None
    size: int

    @property
    def weighted(self) -> tuple[SavedObject, ...]:
        """List the objects with weights: without the optimizer and the states of random generators."""
        return tuple(one for one in self.objects if one.holds_weights)

    @property
    def optimizer(self) -> tuple[SavedObject, ...]:
        """List the objects with the optimizer's state."""
        return tuple(one for one in self.objects if one.is_optimizer and one.variables)


def open_keras3(path: str | os.PathLike[str]) -> OpenedKeras3:
    """Open a `.keras` archive or a `.weights.h5` file of Keras 3 read-only and read what it says.

    Tensors are checked but not read. A deflated member is unpacked to a file without a name. Raises InputRefused with
    a sentence that names what the file is, when it is neither.
    """
    return read_keras3(Source.open(path))


def read_keras3(source: Source) -> OpenedKeras3:
    """Do what `open_keras3` does with a file that is open; from here on the source is the result's own."""
    try:
        head = memoryview(bytearray(min(source.size, 4096)))
        source.read_into(head, 0)
        if not bytes(head).startswith(b"PK"):
            return _read(source, size=source.size)
        with closing(source):
            return _from_archive(source, bytes(head))
    except BaseException:
        source.close()
        raise


def _from_archive(source: Source, head: bytes) -> OpenedKeras3:
    from remap.hdf5.archive_reader import ArchiveReader  # `zipfile` is needed only for archives

    with ArchiveReader(source) as archive:
        if _CONFIG not in archive.names:
            raise InputRefused(
                f"this is no .keras archive: {identify(source.name, head=head, size=source.size)}",
                where=show(source.name),
            )
        if _WEIGHTS not in archive.names:
            raise InputRefused(
                f"the archive has no {_WEIGHTS}",
                where=show(source.name),
                hint="save the model in Keras 3 with the weights in HDF5",
            )
        config = archive.text(_CONFIG)
        metadata = archive.text(_METADATA) if _METADATA in archive.names else None
        member = archive.open(_WEIGHTS)
        try:
            opened = _read(member, size=source.size, config=config, metadata=metadata)
            source.require_unchanged()
        except BaseException:
            member.close()
            raise
    return opened


def _read(
    source: Source, *, size: int, config: str | None = None, metadata: str | None = None
) -> OpenedKeras3:
    with CheckedFile(source) as file:
        reading = _Reading(file, source)
        reading.require_keras3()
        objects = tuple(reading.objects())
        file.require_disjoint()
    source.require_unchanged()
    return OpenedKeras3(
        objects=objects, config=config, metadata=metadata, size=size, source=source, extents=reading.extents
    )


class _Reading:
    """One pass over a file."""

    def __init__(self, file: CheckedFile, source: Source) -> None:
        self._file = file
        self._source = source
        self.extents: dict[str, Extent] = {}

    def require_keras3(self) -> None:
        file = self._file
        if file.names((), "layer_names") is not None or file.has("model_weights"):
            raise self._refused("this is a Keras .h5 in the format of Keras 2, not of Keras 3", ())

    def objects(self) -> list[SavedObject]:
        """Visit every group once, and give those that are objects by their paths."""
        found = []
        pending: list[tuple[str, ...]] = [()]
        while pending:
            path = pending.pop()
            groups, datasets = self._file.members(path)
            if datasets:
                raise self._refused(f"{show(datasets[0])!r} stands outside a group of variables", path)
            if len(path) > _DEEPEST:
                raise self._refused("objects inside objects deeper than any model's", path)
            below = sorted(groups, reverse=True, key=_in_order)
            pending += [(*path, name) for name in below if name != _VARIABLES]
            if _VARIABLES in groups:
                found.append(self._object(path))
        if not any(one.variables for one in found) and not any(one.path == () for one in found):
            raise InputRefused(
                "this is an HDF5 file, but no weights file of Keras 3: no group in it holds variables",
                where=show(self._source.name),
                hint="give a file that Keras saved",
            )
        return found

    def _object(self, path: tuple[str, ...]) -> SavedObject:
        group = (*path, _VARIABLES)
        groups, datasets = self._file.members(group)
        if groups:
            raise self._refused(f"a group {show(groups[0])!r} stands among variables", group)
        names = sorted(datasets, key=_in_order)
        prefix = "/" + "/".join(group)
        variables = []
        for name, tensor in zip(names, self._file.tensors(group, names), strict=True):
            where = f"{prefix}/{name}"
            self.extents[where] = tensor.extent
            variables.append(Weight(name=name, path=where, shape=tensor.shape, dtype=tensor.dtype))
        called = self._file.text(group, "name")
        shown = tuple("layers" if part == _OLD_LAYERS else part for part in path)
        return SavedObject(path=shown, name=called, variables=tuple(variables))

    def _refused(self, what: str, path: tuple[str, ...]) -> InputRefused:
        return InputRefused(what, where=f"/{show('/'.join(path))} in {show(self._source.name)}", hint=DAMAGED)


def _in_order(name: str) -> tuple[str, int, str]:
    """Sort by number: ``2`` before ``10``, ``dense`` before ``dense_1`` before ``dense_10``."""
    kin, mark, number = name.rpartition("_")
    if name.isdecimal() and len(name) < 10:
        return "", int(name), name
    if mark and number.isdecimal() and len(number) < 10:
        return kin, int(number), name
    return name, -1, name


def is_keras3(source: Source) -> bool:
    """Tell whether an open file is one of Keras 3, going by its first bytes or the groups in its root.

    Raises InputRefused for a file that is neither a zip archive nor HDF5.
    """
    head = memoryview(bytearray(min(source.size, 4096)))
    source.read_into(head, 0)
    if bytes(head).startswith(b"PK"):
        return any(name.encode() in bytes(head) for name in (_METADATA, _CONFIG, _WEIGHTS))
    with CheckedFile(source) as file:
        if file.has("model_weights") or file.names((), "layer_names") is not None:
            return False
        return any(file.has(name) for name in (_VARIABLES, "layers", _OLD_LAYERS))


def open_any(path: str | os.PathLike[str]) -> OpenedCheckpoint | OpenedKeras3:
    """Open a file of Keras in whatever format; raises InputRefused for any other, and tells what it is."""
    source = Source.open(path)
    try:
        if not is_keras3(source):
            return read_source(source)
    except BaseException:
        source.close()
        raise
    return read_keras3(source)
