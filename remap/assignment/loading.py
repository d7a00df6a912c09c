"""Keras's rules for loading weights, replayed: would a file load, and if not, what would Keras say.

By order: `load_weights_from_hdf5_group` in keras/engine/saving.py (topology.py before 2.2), hdf5_format.py in
tf.keras and tf_keras, legacy_h5_format.py in Keras 3. By name: `load_weights_from_hdf5_group_by_name`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from remap.assignment.expected import ExpectedLayer, ExpectedSubmodel, iter_layers
from remap.assignment.reference import Reference
from remap.checkpoint import LayerGroup
from remap.conversion_plan import Plan
from remap.layers.weights import Shape, Slot
from remap.weight_names import layer_scope

__all__ = [
    "FileLayer",
    "LoadStep",
    "Loading",
    "ModelLayer",
    "file_layers",
    "layers_of_weights",
    "load_by_name",
    "load_by_order",
    "model_layers",
    "planned_layers",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class FileLayer:
    """A layer of a file: its name and the shapes of its weights, in order."""

    name: str
    shapes: tuple[tuple[int, ...], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelLayer:
    """A layer of a model: its name and the shapes it wants, in order.

    A shape is None where the config does not tell it; `shapes` is None for a layer of the user's own class,
    which takes whatever it is given.
    """

    name: str
    shapes: tuple[Shape | None, ...] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadStep:
    """One step of loading: a layer of the model, a layer of the file, and Keras's complaint or ""."""

    expected: ModelLayer | None
    saved: FileLayer | None
    complaint: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Loading:
    """All steps, and the words with which Keras would stop before the first of them, or ""."""

    steps: tuple[LoadStep, ...]
    complaint: str = ""

    @property
    def first_complaint(self) -> str:
        """Give the words with which Keras would stop, or ""."""
        return next(filter(None, (self.complaint, *(step.complaint for step in self.steps))), "")

    @property
    def loads(self) -> bool:
        """Tell whether Keras would take the file."""
        return not self.first_complaint


def file_layers(groups: Sequence[LayerGroup]) -> list[FileLayer]:
    """List what a file holds."""
    return [
        FileLayer(name=group.name, shapes=tuple(weight.shape for weight in group.weights)) for group in groups
    ]


def planned_layers(plan: Plan) -> list[ModelLayer]:
    """List what the model wants for which a plan was made."""
    return [
        ModelLayer(name=layer.name, shapes=tuple(weight.source.shape for weight in layer.weights))
        for layer in plan.layers
    ]


def model_layers(like: Reference) -> list[ModelLayer]:
    """List what a model wants: its layers that may have weights, each with the shapes in Keras's order."""
    return [_expected(part) for part in like.outline]


def layers_of_weights(like: Reference) -> dict[str, list[str]]:
    """Name for each group of weights that a model loads the layer that each weight belongs to, in the order of loading.

    Of an architecture only nested models are listed. Keras 3 lists one that is frozen as a whole layer by layer.
    """
    if like.groups is not None:
        return {group.name: [layer_scope(weight.name) for weight in group.weights] for group in like.groups}
    nests = (part for part in like.outline if isinstance(part, ExpectedSubmodel))
    return {
        nest.path[-1]: [name for names in _owners(nest) for name in names]
        if like.ordered or nest.trainable
        else [unit.path[-1] for unit in iter_layers((nest,)) for _ in unit.slots]
        for nest in nests
    }


def _owners(part: ExpectedLayer | ExpectedSubmodel) -> tuple[list[str], list[str]]:
    """Name the layers of a nested model's trainable weights, and of all others."""
    if isinstance(part, ExpectedLayer):
        name = part.path[-1]
        return [name] * part.splits[0], [name] * (len(part.slots) - part.splits[0])
    inside = [_owners(child) for child in part.children]
    return [name for upper, _ in inside for name in upper], [name for _, lower in inside for name in lower]


def _expected(part: ExpectedLayer | ExpectedSubmodel) -> ModelLayer:
    if isinstance(part, ExpectedLayer) and part.open:
        return ModelLayer(name=part.path[-1], shapes=None)
    trainable, rest = _slots(part)
    if None in (*trainable, *rest):
        return ModelLayer(name=part.path[-1], shapes=None)
    return ModelLayer(
        name=part.path[-1], shapes=tuple(slot.shape for slot in (*trainable, *rest) if slot is not None)
    )


def _slots(part: ExpectedLayer | ExpectedSubmodel) -> tuple[list[Slot | None], list[Slot | None]]:
    """Give a layer's slots as Keras lists them, trainable and not; None stands for a custom layer's."""
    if isinstance(part, ExpectedLayer):
        if part.open:
            return [None], []
        return list(part.slots[: part.splits[0]]), list(part.slots[part.splits[0] :])
    trainable: list[Slot | None] = []
    rest: list[Slot | None] = []
    for child in part.children:
        upper, lower = _slots(child)
        trainable += upper
        rest += lower
    return trainable, rest


def load_by_order(saved: Sequence[FileLayer], expected: Sequence[ModelLayer]) -> Loading:
    """Pair the layers that have weights, in order; Keras looks at no name."""
    files = [layer for layer in saved if layer.shapes]
    model = [layer for layer in expected if layer.shapes != ()]
    pairs = tuple(
        LoadStep(expected=want, saved=have, complaint=_complaint(number, want, have))
        for number, (want, have) in enumerate(zip(model, files, strict=False))
    )
    extra_files = tuple(LoadStep(expected=None, saved=have) for have in files[len(model) :])
    extra_model = tuple(LoadStep(expected=want, saved=None) for want in model[len(files) :])
    complaint = ""
    if len(files) != len(model):
        complaint = (
            f"You are trying to load a weight file containing {len(files)} layers into a model with "
            f"{len(model)} layers."
        )
    return Loading(steps=(*pairs, *extra_files, *extra_model), complaint=complaint)


def load_by_name(saved: Sequence[FileLayer], expected: Sequence[ModelLayer]) -> Loading:
    """Pair the layers of equal names; Keras passes over all others without a word."""
    wanted: dict[str, list[ModelLayer]] = {}
    for layer in expected:
        wanted.setdefault(layer.name, []).append(layer)
    steps: list[LoadStep] = []
    met: set[str] = set()
    for number, have in enumerate(saved):
        matches = wanted.get(have.name, [])
        met.update(layer.name for layer in matches)
        if not matches and have.shapes:
            steps.append(LoadStep(expected=None, saved=have))
        for want in matches:
            complaint = ""
            if want.shapes is not None and len(want.shapes) != len(have.shapes):
                complaint = (
                    f'Layer #{number} (named "{want.name}") expects {len(want.shapes)} weight(s), but the '
                    f"saved weights have {len(have.shapes)} element(s)."
                )
            elif not _fits(want, have):
                complaint = f'Layer #{number} (named "{want.name}"): {_shapes(want, have)}'
            if want.shapes or have.shapes:
                steps.append(LoadStep(expected=want, saved=have, complaint=complaint))
    steps += [
        LoadStep(expected=want, saved=None) for want in expected if want.shapes and want.name not in met
    ]
    return Loading(steps=tuple(steps))


def _complaint(number: int, want: ModelLayer, have: FileLayer) -> str:
    if want.shapes is not None and len(want.shapes) != len(have.shapes):
        return (
            f'Layer #{number} (named "{want.name}" in the current model) was found to correspond to layer '
            f"{have.name} in the save file. However the new layer {want.name} expects {len(want.shapes)} "
            f"weights, but the saved weights have {len(have.shapes)} elements."
        )
    if not _fits(want, have):
        return f'Layer #{number} (named "{want.name}"): {_shapes(want, have)}'
    return ""


def _fits(want: ModelLayer, have: FileLayer) -> bool:
    return not _shapes(want, have)


def _shapes(want: ModelLayer, have: FileLayer) -> str:
    """Say which shape Keras would stumble over, or ""."""
    for shape, found in zip(want.shapes or (), have.shapes, strict=False):
        if shape is not None and not Slot("", shape).takes("", found):
            shown = "(" + ", ".join("?" if side is None else str(side) for side in shape) + ")"
            return f"Shapes {shown} and {found} are incompatible"
    return ""
