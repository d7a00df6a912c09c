"""A Keras HDF5 file read as a Checkpoint: its metadata, and on request the values of its tensors."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from remap.checkpoint import Checkpoint, LayerGroup, Weight
from remap.errors import InputRefused
from remap.hdf5.checked_file import CheckedFile
from remap.hdf5.identify import show
from remap.hdf5.source import DAMAGED, Source
from remap.hdf5.tensors import Extent

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator

    from numpy.typing import NDArray
    from typing_extensions import Self

    from remap.hdf5.difference import Readable

__all__ = ["OpenedCheckpoint", "OpenedFile", "open_checkpoint", "read_tensor", "tensor_chunks"]


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenedFile:
    """A file whose metadata was read, held open for the values of its tensors; a context manager that closes it.

    `extents` gives the offset and the size of the tensor at each path. libhdf5 has closed the file: from here on bytes
    of `source` are read by position.
    """

    source: Source
    extents: dict[str, Extent] = field(repr=False)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file; a second call does nothing."""
        self.source.close()

    def extent(self, weight: Weight) -> Extent:
        """Give the offset and the size of a tensor of this file."""
        return self.extents[weight.path]


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenedCheckpoint(OpenedFile):
    """A checkpoint and the file it came from."""

    checkpoint: Checkpoint


def open_checkpoint(path: str | os.PathLike[str]) -> OpenedCheckpoint:
    """Open a Keras HDF5 file read-only and read its metadata.

    Weights files and full-model files, name lists whole or split, strings as h5py 2 and h5py 3 write them.
    Tensors are checked but not read: the time does not depend on their size. Raises InputRefused for any other file,
    and tells what it is.
    """
    source = Source.open(path)
    try:
        return read_source(source)
    except BaseException:
        source.close()
        raise


def read_source(source: Source) -> OpenedCheckpoint:
    """Read the metadata of a file that is open; raises as `open_checkpoint` does and leaves the file open."""
    with CheckedFile(source) as file:
        reading = _Reading(file, source)
        checkpoint = reading.checkpoint()
        file.require_disjoint()
    source.require_unchanged()
    return OpenedCheckpoint(checkpoint=checkpoint, source=source, extents=reading.extents)


def read_tensor(opened: Readable, weight: Weight) -> NDArray[np.generic]:
    """Read a whole tensor into memory."""
    array = np.empty(weight.shape, dtype=weight.dtype)
    extent = opened.extent(weight)
    if extent.size:
        opened.source.read_into(memoryview(array.reshape(-1).view(np.uint8).data), extent.offset)
    return array


def tensor_chunks(opened: Readable, weight: Weight) -> Iterator[memoryview]:
    """Give the stored bytes of a tensor in pieces of at most a mebibyte; the next overwrites each."""
    extent = opened.extent(weight)
    return opened.source.chunks(extent.offset, extent.size)


class _Reading:
    """One reading of a file."""

    def __init__(self, file: CheckedFile, source: Source) -> None:
        self._file = file
        self._source = source
        self.extents: dict[str, Extent] = {}

    def checkpoint(self) -> Checkpoint:
        file = self._file
        root, names = self._root()
        layers = tuple(self._layer(root, name) for name in names)
        self._refuse_top_level_weights(root)
        return Checkpoint(
            root=_shown(root),
            layers=layers,
            backend=file.text(root, "backend"),
            keras_version=file.text(root, "keras_version"),
            file_backend=file.text((), "backend") if root else None,
            file_keras_version=file.text((), "keras_version") if root else None,
            model_config=file.text((), "model_config"),
            training_config=file.text((), "training_config"),
            optimizer=self._optimizer(),
        )

    def _root(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Find the group that lists the layers, as `load_weights` and `load_model` of Keras do.

        `load_model` reads `model_weights`; `load_weights` reads it where there is no attribute `layer_names` in the
        root. A file of which the two would read different lists is refused.
        """
        file = self._file
        root: tuple[str, ...] = ()
        names = file.names(root, "layer_names")
        if file.has("model_weights"):
            if names is not None:
                raise self._refused("the file has a list of layers beside a group model_weights", root)
            root = ("model_weights",)
            names = file.names(root, "layer_names")
        if names is None:
            raise self._not_keras()
        if len(set(names)) != len(names):
            raise self._refused("a layer is listed twice", root)
        file.require_no_attributes((), ("model_weights", "optimizer_weights"))
        file.require_no_attributes(root, names)
        return root, names

    def _layer(self, root: tuple[str, ...], name: str) -> LayerGroup:
        group = (*root, name)
        names = self._file.names(group, "weight_names")
        if names is None:
            raise self._refused("this layer has no list of its weights", group)
        return LayerGroup(name=name, weights=self._weights(group, names))

    def _weights(self, group: tuple[str, ...], names: tuple[str, ...]) -> tuple[Weight, ...]:
        weights, prefix = [], _shown(group)
        for name, tensor in zip(names, self._file.tensors(group, names), strict=True):
            path = f"{prefix}/{name}"
            self.extents[path] = tensor.extent
            weights.append(Weight(name=name, path=path, shape=tensor.shape, dtype=tensor.dtype))
        return tuple(weights)

    def _optimizer(self) -> tuple[Weight, ...] | None:
        """Read the optimizer's state; a group without a list holds none, as `load_model` takes it."""
        group = ("optimizer_weights",)
        if not self._file.has(*group):
            return None
        return self._weights(group, self._file.names(group, "weight_names") or ())

    def _refuse_top_level_weights(self, root: tuple[str, ...]) -> None:
        """Refuse weights of the model itself, which Keras 2.7 and later store: no multi-GPU model has any."""
        group = (*root, "top_level_model_weights")
        if self._file.has(*group) and self._file.names(group, "weight_names"):
            raise self._refused(
                "the model has weights of its own, outside every layer, which h5remap does not handle", group
            )

    def _not_keras(self) -> InputRefused:
        has = self._file.has
        if has("_layer_checkpoint_dependencies") or has("layers") or has("vars"):
            return InputRefused(
                "this is a weights file in Keras 3's own format (.weights.h5), of a single model already",
                where=show(self._source.name),
                hint="`h5remap inspect` shows it, `h5remap compare` compares it; here a .h5 file of Keras 2 is needed",
            )
        return InputRefused(
            "this is an HDF5 file, but not a Keras checkpoint: it has no list of layers (attribute layer_names)",
            where=show(self._source.name),
            hint="give a file that Keras saved by save, save_weights or ModelCheckpoint",
        )

    def _refused(self, what: str, path: tuple[str, ...]) -> InputRefused:
        return InputRefused(
            what,
            where=f"{show(_shown(path))} in {show(self._source.name)}",
            hint=DAMAGED,
        )


def _shown(path: tuple[str, ...]) -> str:
    return "/" + "/".join(path)
