"""What a checkpoint holds, as a value and as JSON: the verdict, the layers as a tree, what is still open."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from remap.document import as_json

if TYPE_CHECKING:
    from remap.stats import Stats

__all__ = ["Flag", "InspectedLayer", "InspectedWeight", "Inspection", "Kind", "Role"]

Kind = Literal["multi-gpu", "several", "single", "empty"]
Role = Literal["model", "slice", "merge", "input", "layer"]
Flag = Literal["nested", "shared", "frozen", "custom", "cudnn", "code", "split names"]


@dataclass(frozen=True, slots=True, kw_only=True)
class InspectedWeight:
    """A tensor of the file: name, place, shape in elements, numpy dtype, and its values' numbers if asked."""

    name: str
    path: str
    shape: tuple[int, ...]
    dtype: str
    parameters: int
    stats: Stats | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class InspectedLayer:
    """A layer: what it is, what it is for in the file, its weights in load order and the layers inside it.

    `class_name` is None where the file does not tell. `role` is ``model`` for a model that can be extracted,
    ``slice``, ``merge`` and ``input`` for what a wrapper puts around it, ``layer`` for all else. Weights of a
    model whose layers are known stand with those layers. `grouped` says that the layers inside are only what
    the names of the weights show, in the order of the file: which order Keras would load is not settled.
    """

    name: str
    class_name: str | None = None
    role: Role = "layer"
    flags: tuple[Flag, ...] = ()
    weights: tuple[InspectedWeight, ...] = ()
    layers: tuple[InspectedLayer, ...] = ()
    grouped: bool = False
    parameters: int = 0
    tensors: int = 0

    def walk(self) -> Iterator[InspectedLayer]:
        """Yield the layer and all inside it, depth first."""
        yield self
        for layer in self.layers:
            yield from layer.walk()


@dataclass(frozen=True, slots=True, kw_only=True)
class Inspection:
    """Everything that `inspect` tells.

    `kind` is ``multi-gpu`` for a wrapper, ``several`` for a file with more than one model to choose from,
    ``single`` for a model that Keras loads as it is, ``empty`` for a file without weights. `content` is
    ``full model`` or ``weights``. `template` names the replicated model; `replicas` is None where the file
    does not tell. `rung` is what settles the template's layers, ``config`` or ``names``; it is None where
    they are not settled, and `question` and `hint` then say why and what would settle them. `size` is in
    bytes.
    """

    source: str
    size: int
    kind: Kind
    content: Literal["full model", "weights"]
    class_name: str | None
    name: str
    keras_version: str | None
    backend: str | None
    template: str | None
    replicas: int | None
    rung: str | None
    question: str
    hint: str
    notes: tuple[str, ...]
    optimizer: str | None
    optimizer_tensors: int
    parameters: int
    tensors: int
    layers: tuple[InspectedLayer, ...]

    @property
    def models(self) -> tuple[InspectedLayer, ...]:
        """List the layers that can be extracted as a model of their own."""
        return tuple(layer for layer in self.layers if layer.role == "model")

    def to_json(self) -> dict[str, Any]:
        """Give the inspection as a JSON document; its `version` rises when a field changes its meaning."""
        return {"format": "h5remap-inspection", "version": 1, **as_json(self)}
