"""Keras's rules for loading weights, replayed: would a file load, and if not, what would Keras say.

By order: `load_weights_from_hdf5_group` in keras/engine/saving.py (topology.py before 2.2), hdf5_format.py in
tf.keras and tf_keras, legacy_h5_format.py in Keras 3. By name: `load_weights_from_hdf5_group_by_name`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from remap.assignment.expected import ExpectedLayer, ExpectedSubmodel, iter_layers, stored_once
from remap.assignment.reference import Reference
from remap.checkpoint import LayerGroup
from remap.errors import GIVE_JSON, Undecided
from remap.layers.weights import Shape, Slot
from remap.weight_names import family, layer_scope, runs, split_number

__all__ = [
    "Crossing",
    "FileLayer",
    "LoadStep",
    "Loading",
    "ModelLayer",
    "crossings",
    "file_layers",
    "load_by_name",
    "load_by_order",
    "model_layers",
    "narrowed",
]

# The work grows with the product of layers and of those that may have no weights.
_MOST_OPTIONAL = 64

Crossing = tuple[str, str]
"""A layer of the model, and the layer of the model whose name the weights have that it would get."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FileLayer:
    """A layer of a file.

    Attributes:
        name: Its name.
        shapes: The shapes of its weights, in order.
        scopes: For each weight the layer that its name names; empty if that is not known.
    """

    name: str
    shapes: tuple[tuple[int, ...], ...]
    scopes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelLayer:
    """A layer of a model.

    Attributes:
        name: Its name.
        shapes: The shapes that it expects, in order; a shape is None if the config does not tell it. None for a layer with
            weights of a custom class, which is taken to expect whatever the file has.
        owners: For each weight the layer that owns it, which for a nested model is a layer inside; empty if that is not
            known.
        custom: The custom classes because of which the shapes are not known.
        optional: Whether it may have no weights at all.
        once: The shapes and owners without repeated weights, if layers with the same description stand in several places
            of a nested model: if they are one layer, tf.keras from 2.0 on lists it once. None for any other layer.
    """

    name: str
    shapes: tuple[Shape | None, ...] | None
    owners: tuple[str, ...] = ()
    custom: tuple[str, ...] = ()
    optional: bool = False
    once: _Shapes | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadStep:
    """One step of loading.

    Attributes:
        expected: A layer of the model; None if only the file has it.
        saved: A layer of the file; None if only the model has it.
        complaint: What Keras would say, or "".
        crossed: A layer that would get the weights of another layer of the model, as their names say; None if there is
            none.
        path: Where a file of Keras 3 has the variables; "" for a file of Keras 2.
    """

    expected: ModelLayer | None
    saved: FileLayer | None
    complaint: str = ""
    crossed: Crossing | None = None
    path: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Loading:
    """All steps of loading.

    Attributes:
        steps: The steps in order.
        complaint: What Keras would say before the first step, or "".
        undecided: The custom classes whose weights decide whether the file loads; empty if nothing depends on them, or if
            it does not load whatever they are.
    """

    steps: tuple[LoadStep, ...]
    complaint: str = ""
    undecided: tuple[str, ...] = ()

    @property
    def first_complaint(self) -> str:
        """Give what Keras would say first, or ""."""
        return next(filter(None, (self.complaint, *(step.complaint for step in self.steps))), "")

    @property
    def loads(self) -> bool:
        """Tell whether Keras would take the file, as far as is known."""
        return not self.first_complaint

    @property
    def crossed(self) -> tuple[Crossing, ...]:
        """List the layers that would get the weights of another layer of the model."""
        return tuple(step.crossed for step in self.steps if step.crossed is not None)


def file_layers(groups: Sequence[LayerGroup]) -> list[FileLayer]:
    """List the layers of a file."""
    return [
        FileLayer(
            name=group.name,
            shapes=tuple(weight.shape for weight in group.weights),
            scopes=tuple(layer_scope(weight.name) for weight in group.weights),
        )
        for group in groups
    ]


def model_layers(like: Reference) -> list[ModelLayer]:
    """List the layers of a model that may have weights, each with the shapes in Keras's order.

    Raises:
        Undecided: If the order is that of another Keras, and the model does not tell which one wrote it.
    """
    return [_model_layer(part, like) for part in like.expected]


def _model_layer(part: ExpectedLayer | ExpectedSubmodel, like: Reference) -> ModelLayer:
    name = part.path[-1]
    slots, in_keras3 = _listed(part), _listed(part)
    if like.keras3 is not False and isinstance(part, ExpectedSubmodel) and not part.trainable:
        # Keras 3 lists a nested model that is frozen as a whole layer by layer.
        in_keras3 = _listed(*iter_layers((part,)))
        if like.keras3 is None and in_keras3 != slots:
            raise Undecided(
                f"the reference model does not tell whether Keras 2 or Keras 3 wrote it, and the two list the "
                f"weights of the nested model {name!r} in different orders",
                where=like.where,
                hint="write the file with model.to_json()",
                remedies=(GIVE_JSON,),
            )
    by_layers = in_keras3 != slots
    shapes, owners = _shapes_and_owners(in_keras3)
    custom = tuple(dict.fromkeys(layer.class_name for layer in iter_layers((part,)) if layer.custom))
    if custom:
        return ModelLayer(name=name, shapes=None, custom=custom, optional=not shapes)
    once = stored_once((part,)) if isinstance(part, ExpectedSubmodel) else None
    if once is None:
        return ModelLayer(name=name, shapes=shapes, owners=owners)
    listed = _listed(*(iter_layers(once) if by_layers else once))
    return ModelLayer(name=name, shapes=shapes, owners=owners, once=_shapes_and_owners(listed))


def _shapes_and_owners(listed: Iterable[_Owned]) -> _Shapes:
    known = [(slot.shape, owner) for owner, slot in listed if slot is not None]
    return tuple(shape for shape, _ in known), tuple(owner for _, owner in known)


def _listed(*parts: ExpectedLayer | ExpectedSubmodel) -> list[_Owned]:
    """List the slots of layers one after the other."""
    return [owned for part in parts for side in _slots(part) for owned in side]


_Owned = tuple[str, Slot | None]
_Shapes = tuple[tuple[Shape | None, ...], tuple[str, ...]]


def _slots(part: ExpectedLayer | ExpectedSubmodel) -> tuple[list[_Owned], list[_Owned]]:
    """List a layer's slots as Keras does, trainable ones and others, with their layer; None stands for a custom layer's."""
    name = part.path[-1]
    if isinstance(part, ExpectedLayer):
        if part.custom:
            return [(name, None)], []
        names = [layer_scope(own) for own in part.names] or [name] * len(part.slots)
        owned: list[_Owned] = list(zip(names, part.slots, strict=True))
        return owned[: part.splits[0]], owned[part.splits[0] :]
    trainable: list[_Owned] = []
    rest: list[_Owned] = []
    for child in part.children:
        upper, lower = _slots(child)
        trainable += upper
        rest += lower
    return trainable, rest


def narrowed(expected: Sequence[ModelLayer], saved: Sequence[FileLayer]) -> list[ModelLayer]:
    """Find out from a file's groups of the same names which custom layers of a model have weights.

    And which nested models list a layer once that stands in several places.
    """
    groups = {layer.name: layer for layer in saved}
    found = []
    for layer in expected:
        group = groups.get(layer.name)
        if layer.once is not None and group is not None and len(group.shapes) == len(layer.once[0]):
            layer = replace(layer, shapes=layer.once[0], owners=layer.once[1], once=None)
        if layer.optional and group is not None:
            shapes = None if group.shapes else ()
            layer = replace(layer, shapes=shapes, custom=layer.custom if group.shapes else (), optional=False)
        found.append(layer)
    return found


def load_by_order(saved: Sequence[FileLayer], expected: Sequence[ModelLayer]) -> Loading:
    """Pair the layers that have weights, in order; Keras compares no names.

    Of custom layers that may have no weights, those are left out with which the other layers fit best.
    """
    files = [layer for layer in saved if layer.shapes]
    possible = [layer for layer in expected if layer.shapes != ()]
    model = _with_weights(possible, files)
    pairs = list(zip(model, files, strict=False))
    crossed = crossings(pairs)
    steps = tuple(
        LoadStep(
            expected=want, saved=have, complaint=_complaint(number, want, have), crossed=crossed.get(number)
        )
        for number, (want, have) in enumerate(pairs)
    )
    extra_files = tuple(LoadStep(expected=None, saved=have) for have in files[len(model) :])
    extra_model = tuple(LoadStep(expected=want, saved=None) for want in model[len(files) :])
    complaint = ""
    if len(files) != len(model):
        complaint = (
            f"You are trying to load a weight file containing {len(files)} layers into a model with "
            f"{len(model)} layers."
        )
    loading = Loading(steps=(*steps, *extra_files, *extra_model), complaint=complaint)
    return replace(loading, undecided=_undecided(possible, pairs)) if loading.loads else loading


def _undecided(
    possible: Sequence[ModelLayer], pairs: Sequence[tuple[ModelLayer, FileLayer]]
) -> tuple[str, ...]:
    """List the custom classes of layers that may have weights or not, or other weights than the file has for them."""
    names = [(want.name, have.name) for want, have in pairs]
    renumbered = _renumbered(names)
    unsure = [layer for layer in possible if layer.optional]
    unsure += [
        want
        for want, have in pairs
        if want.shapes is None and want.name != have.name and family(want.name)[0] not in renumbered
    ]
    return tuple(dict.fromkeys(name for layer in unsure for name in layer.custom))


def _with_weights(possible: Sequence[ModelLayer], files: Sequence[FileLayer]) -> list[ModelLayer]:
    """Leave out as many layers that may have no weights as the file has fewer layers.

    Those are left out with which the fewest layers misfit, then the fewest have other names in the file.
    """
    optional = [layer for layer in possible if layer.optional]
    surplus = len(possible) - len(files)
    if not 0 < surplus <= len(optional) or len(optional) > _MOST_OPTIONAL:
        # With another number of layers than that, Keras counts layers that certainly have weights, too.
        return [layer for layer in possible if not layer.optional or surplus <= 0]
    # For each number of layers left out so far: the misfits and strange names, and the places of the layers left out.
    best: dict[int, tuple[tuple[int, int], tuple[int, ...]]] = {0: ((0, 0), ())}
    for place, layer in enumerate(possible):
        following: dict[int, tuple[tuple[int, int], tuple[int, ...]]] = {}
        for left_out, ((misfits, strange), places) in best.items():
            if layer.optional and left_out < surplus:
                candidate = (misfits, strange), (*places, place)
                following[left_out + 1] = min(following.get(left_out + 1, candidate), candidate)
            if place - left_out < len(files):
                have = files[place - left_out]
                cost = misfits + bool(_complaint(place, layer, have)), strange + (layer.name != have.name)
                candidate = cost, places
                following[left_out] = min(following.get(left_out, candidate), candidate)
        best = following
    _, dropped = best[surplus]
    return [layer for place, layer in enumerate(possible) if place not in dropped]


def crossings(pairs: Sequence[tuple[ModelLayer, FileLayer]]) -> dict[int, Crossing]:
    """Find the pairs whose weights have the name of another layer that the model has too.

    Names that differ by automatic numbers in the same order on both sides are those of another session.
    """
    names = [(want.name, have.name) for want, have in pairs]
    known = {name for name, _ in names}
    renumbered = _renumbered(names)
    found = {
        number: (ours, theirs)
        for number, (ours, theirs) in enumerate(names)
        if ours != theirs and theirs in known and family(ours)[0] not in renumbered
    }
    for number, (want, have) in enumerate(pairs):
        inside = _crossed_inside(want.owners, have.scopes)
        if number not in found and inside is not None:
            found[number] = inside
    return found


def _crossed_inside(owners: Sequence[str], scopes: Sequence[str]) -> Crossing | None:
    """Find a layer inside a nested model that would get the weights of another layer inside it."""
    known = set(owners)
    if len(known) < 2 or len(owners) != len(scopes):
        return None
    distinct = list(dict.fromkeys(zip(owners, scopes, strict=True)))
    # TensorFlow 1 adds a counter to every scope that is opened a second time in one session.
    if not known.intersection(scopes) and known.issuperset(split_number(scope, "_")[0] for scope in scopes):
        distinct = [(owner, split_number(scope, "_")[0]) for owner, scope in distinct]
    pairs = [
        (owner, named)
        for owner, scope in distinct
        if (named := next((run for run in runs(scope) if run in known), None)) is not None
    ]
    renumbered = _renumbered(pairs)
    return next(
        ((ours, theirs) for ours, theirs in pairs if ours != theirs and family(ours)[0] not in renumbered),
        None,
    )


def _renumbered(pairs: Sequence[tuple[str, str]]) -> frozenset[str]:
    """List the automatic names, without number, whose numbers rise in the same order on both sides."""
    numbers: dict[str, list[tuple[int, int]]] = defaultdict(list)
    mixed: set[str] = set()
    for ours, theirs in pairs:
        (our_kind, our_number), (their_kind, their_number) = family(ours), family(theirs)
        if our_kind != their_kind:
            mixed |= {our_kind, their_kind}
        numbers[our_kind].append((our_number, their_number))
    return frozenset(
        kind
        for kind, both in numbers.items()
        if kind not in mixed and all(a[0] < b[0] and a[1] < b[1] for a, b in pairwise(sorted(both)))
    )


def load_by_name(saved: Sequence[FileLayer], expected: Sequence[ModelLayer]) -> Loading:
    """Pair the layers of equal names; Keras ignores all others silently."""
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
    """Describe the first shape that Keras would refuse, or ""."""
    for shape, found in zip(want.shapes or (), have.shapes, strict=False):
        if shape is not None and not Slot("", shape).fits(found):
            shown = "(" + ", ".join("?" if side is None else str(side) for side in shape) + ")"
            return f"Shapes {shown} and {found} are incompatible"
    return ""
