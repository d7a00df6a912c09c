"""The model that a file is loaded into: what another file tells of it, or the file itself."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from remap.architecture import Layer
from remap.assignment.reference import Reference, reference_from_json
from remap.checkpoint import LayerGroup
from remap.errors import GIVE_JSON, InputRefused, Undecided
from remap.loaders import Opening
from remap.reference_file import read_reference, reference_in
from remap.typed_json import read_json
from remap.urls import masked, url_in

if TYPE_CHECKING:
    from remap.assignment.class_order import ClassOrder
    from remap.hdf5.keras3_reader import OpenedKeras3
    from remap.keras3.loading import ModelObject, SavedObject
    from remap.stock.choice import StockModel

__all__ = ["ModelToLoad", "OwnModel", "untold"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelToLoad:
    """The model to load into: what is told of its layers, and the objects that a file of Keras 3 has for it.

    `stock` is a network that was given by its name, of which a file of Keras 2 decides which release built it.
    """

    where: str
    reference: Reference | None
    objects: tuple[ModelObject, ...] | None = None
    stock: StockModel | None = None

    @classmethod
    def read(cls, path: str | os.PathLike[str]) -> ModelToLoad:
        """Read a model from a file of any format."""
        from remap.hdf5.identify import SIGNATURE
        from remap.hdf5.keras3_reader import is_keras3, read_keras3
        from remap.hdf5.source import Source

        name = masked(path)
        if url_in(os.fsdecode(path)) is None and not Path(path).is_file():
            return cls._of(name, read_reference(path))
        with ExitStack() as stack:
            source = stack.enter_context(closing(Source.open(path)))
            head = memoryview(bytearray(min(source.size, len(SIGNATURE))))
            source.read_into(head, 0)
            if not (bytes(head).startswith((SIGNATURE, b"PK")) and is_keras3(source)):
                return cls._of(name, reference_in(source, name))
            stack.pop_all()  # from here on the source is that of the opened file
        with read_keras3(source) as opened:
            reference = None
            if opened.config is not None:
                # Of a class of the user's own only the objects tell where weights belong.
                with suppress(InputRefused):
                    told = reference_from_json(opened.config, where=f"{name}, config.json")
                    reference = _with_shapes(told, opened)
            return cls(where=name, reference=reference, objects=_objects_in(opened))

    @classmethod
    def _of(cls, name: str, found: Reference | StockModel | ClassOrder) -> ModelToLoad:
        if isinstance(found, Reference):
            return cls(where=name, reference=found)
        from remap.stock.choice import StockModel  # most models are told by files

        return cls(where=name, reference=None, stock=found if isinstance(found, StockModel) else None)

    def expected(self) -> Sequence[ModelObject]:
        """List the objects that Keras 3 has for the model."""
        from remap.keras3.loading import model_objects

        if self.objects is not None:
            return self.objects
        told = self.told()
        if told.architecture is None:
            raise Undecided(
                "a weights file of Keras 2 does not tell the classes of the model's layers, by which Keras 3 finds weights",
                where=self.where,
                remedies=(GIVE_JSON,),
            )
        return model_objects(told.architecture, keras3=told.keras3 is not False)

    def told(self) -> Reference:
        """Give what is told of the layers in order."""
        if self.stock is not None:
            raise Undecided(
                "the networks that are known by name are those of releases up to TensorFlow 2.3, and the file is of Keras 3",
                where=self.where,
                remedies=(GIVE_JSON,),
            )
        if self.reference is None:
            from remap.assignment.class_order import order_not_told

            raise order_not_told(self.where)
        return self.reference


def _with_shapes(reference: Reference, opened: OpenedKeras3) -> Reference:
    """Add the weights in an archive to what its config tells of the layers that are no models."""
    from remap.comparison.models import in_layer_order, shares_by_layer
    from remap.keras3.variables import layer_paths

    if reference.architecture is None:
        return reference
    shares = shares_by_layer((one.path, one.variables) for one in opened.weighted)
    groups = tuple(
        LayerGroup(
            name=layer.name, weights=tuple(weight for _, weight in in_layer_order(layer, shares[path]))
        )
        for path, layer, names in layer_paths(reference.architecture, (), ())
        if len(names) == 1 and path in shares
    )
    return replace(reference, groups=groups)


def _objects_in(opened: OpenedKeras3) -> tuple[ModelObject, ...]:
    from remap.keras3.loading import ModelObject

    return tuple(
        ModelObject(
            path="/".join(one.path),
            name=one.name or "/".join(one.path),
            shapes=tuple(weight.shape for weight in one.variables),
        )
        for one in opened.weighted
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnModel:
    """What a `.keras` archive itself tells of its model, and why no more than that."""

    reference: Reference | None
    obstacle: str
    names: tuple[str, ...]
    written_by: str

    @classmethod
    def of(cls, opened: OpenedKeras3, name: str) -> OwnModel:
        """Read what an open file tells; raises InputRefused for texts that are no JSON."""
        from remap.keras3.custom_objects import custom_object_names

        if opened.config is None:
            return cls(reference=None, obstacle="", names=(), written_by="")
        where = f"{name}, config.json"
        version = ""
        if opened.metadata is not None:
            metadata = read_json(opened.metadata, where=f"{name}, metadata.json").object()
            version = metadata.optional_text("keras_version") or ""
        try:
            reference = reference_from_json(opened.config, where=where)
        except InputRefused as refusal:
            return cls(reference=None, obstacle=refusal.what, names=(), written_by=version)
        config = read_json(opened.config, where=where).json()
        given = custom_object_names(config) if isinstance(config, dict) else ()
        return cls(reference=reference, obstacle="", names=given, written_by=version)

    def model(self, name: str) -> ModelToLoad:
        """Give the model that the file describes."""
        if self.reference is not None:
            return ModelToLoad(where=name, reference=self.reference)
        if self.obstacle:
            raise Undecided(
                f"the model in the file is of a class of your own: {self.obstacle}",
                where=name,
                remedies=(GIVE_JSON,),
            )
        raise untold(name)

    def opening(self, saved: Sequence[SavedObject], name: str) -> Opening:
        """Predict what `load_model` makes of the file."""
        from remap.keras3.loading import load_by_path
        from remap.keras3.opening import custom_classes

        model = None if self.reference is None else self.reference.architecture
        if model is None:
            return Opening(unsure=f"the model is of a class of your own: {self.obstacle}")
        names = tuple(dict.fromkeys((*custom_classes(model), *self.names)))
        if self.written_by and not self.written_by.startswith("3."):
            return Opening(unsure=f"Keras {self.written_by} wrote it, of whose files Keras 3 opens a part")
        if any(map(_holds_code, model.walk())):
            return Opening(obstacle="Python code in its layers, which Keras 3 runs with safe_mode=False only")
        loading = load_by_path(saved, self.model(name).expected())
        if not loading.loads:
            return Opening(
                obstacle=f"its weights, which are not those of its architecture: {loading.first_complaint}"
            )
        return Opening(custom_objects=names, since=_since(self.written_by, model))


_SHARED_LAYERS = (3, 7)
"""The first release that loads a layer which is called several times wherever it stands."""


def _since(written_by: str, model: Layer) -> str:
    """Give the release from which on `load_model` surely opens an archive: older ones may not know all arguments in it.

    Up to Keras 3.6 a layer that is called several times may stand before the layers that it is called on, and then does not
    load.
    """
    found = re.match(r"(\d+)\.(\d+)", written_by)
    if found is None:
        return ""
    writer = (int(found[1]), int(found[2]))
    shared = any(len(layer.nodes) > 1 for layer in model.walk())
    return ".".join(map(str, max(writer, _SHARED_LAYERS) if shared else writer))


def _holds_code(layer: Layer) -> bool:
    """Tell whether an archive holds the byte code of a layer's function."""
    if layer.declared is None or not layer.declared.calls_function or not layer.config.given("function"):
        return False
    function = layer.config.value("function")
    return function.kind == "list" or (
        function.kind == "object" and function.object().holds("class_name", "__lambda__")
    )


def untold(name: str) -> Undecided:
    """Refuse a file that does not describe a model."""
    return Undecided(
        "the file has no architecture, so the model to load it into has to be given",
        where=name,
        remedies=(GIVE_JSON,),
    )
