"""What an architecture says about the flat list of weights of a nested model.

Keras lists a model's weights as all trainable ones in layer order, then all others in layer order, and does
so again for every model inside it (`Container.trainable_weights` and `non_trainable_weights` in
keras/engine/topology.py, `Network` in keras/engine/network.py; the same in tf.keras). An expected model says for each
layer which weights it has and how many of them may stand in the trainable part.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict, deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from remap.architecture import Layer, is_weightless, owned_weights
from remap.checkpoint import LayerGroup, Weight
from remap.layers import NEVER_TRAINED
from remap.layers.weights import OwnedWeights, Shape, Slot
from remap.typed_json import KerasObject
from remap.weight_names import clean, leaf, scope

__all__ = [
    "ExpectedLayer",
    "ExpectedModel",
    "ExpectedSubmodel",
    "expected_from_groups",
    "expected_model",
    "first_difference",
    "free_flags",
    "iter_layers",
    "load_order",
    "stored_once",
    "with_groups",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpectedLayer:
    """A layer that is not a model, or a whole group of which only the list of weights is known.

    Attributes:
        path: The names of the models around it, then its own.
        slots: Its weights in the order of its own group: trainable ones, then the others.
        splits: How many of them may count as trainable, likeliest first: all that can be, or none if it may be frozen.
        custom: Whether its weights are not known, as those of a custom class; it then takes any run of weights.
        keys: The names that the scope of its weights may have.
        names: The names of its weights in a reference file, in order.
        kind: A description that is equal for layers that are built alike.
        class_name: Its class; "" if it is not known.
        trainable: How many of the slots are trainable unless the layer is frozen.
        same_as: The number of an earlier layer that is the same layer, stored once; None for any other layer.
    """

    path: tuple[str, ...]
    slots: tuple[Slot, ...] = ()
    splits: tuple[int, ...] = (0,)
    custom: bool = False
    keys: tuple[str, ...] = ()
    names: tuple[str, ...] = ()
    kind: str = ""
    class_name: str = ""
    trainable: int = 0
    same_as: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpectedSubmodel:
    """A nested model.

    Attributes:
        path: The names of the models around it, then its own.
        children: Its layers that may have weights, in load order.
        trainable: False if its config says that it was frozen as a whole, which Keras 2 and tf.keras up to 2.4 do not
            write.
        same_as: The path of an earlier model that is the same model, stored once; None for any other model.
    """

    path: tuple[str, ...]
    children: tuple[ExpectedLayer | ExpectedSubmodel, ...]
    trainable: bool = True
    same_as: tuple[str, ...] | None = None


ExpectedModel = tuple[ExpectedLayer | ExpectedSubmodel, ...]


def expected_model(model: Layer) -> ExpectedModel:
    """Describe the layers of a model by its architecture, in load order, without those that never have weights."""
    return tuple(_expected_part(layer, ()) for layer in load_order(model) if not is_weightless(layer))


def expected_from_groups(groups: tuple[LayerGroup, ...]) -> ExpectedModel:
    """Describe a model by a flat file of it, which tells names, order and shapes but no flags."""
    return tuple(_expected_group(group) for group in groups if group.weights)


def with_groups(expected: ExpectedModel, groups: tuple[LayerGroup, ...]) -> ExpectedModel | None:
    """Add what a flat file of the same model tells: shapes, names, the weights of custom layers.

    Returns:
        The completed model, None if the file does not have the same layers.
    """
    listed = {part.path[-1]: part for part in expected_from_groups(groups)}
    parts: list[ExpectedLayer | ExpectedSubmodel] = []
    for part in expected:
        group = listed.pop(part.path[-1], None)
        if isinstance(part, ExpectedSubmodel):
            parts.append(part)
        elif part.custom and group is None:
            parts.append(replace(part, custom=False, splits=(0,)))
        elif part.custom and isinstance(group, ExpectedLayer):
            parts.append(
                replace(
                    group,
                    splits=group.splits if part.splits[0] else (0,),
                    kind=part.kind,
                    class_name=part.class_name,
                )
            )
        elif isinstance(group, ExpectedLayer) and len(part.slots) == len(group.slots):
            parts.append(
                replace(
                    group,
                    splits=part.splits,
                    trainable=part.trainable,
                    kind=part.kind,
                    class_name=part.class_name,
                )
            )
        elif part.slots or group is not None:
            return None
    return None if listed else tuple(parts)


def free_flags(expected: ExpectedModel) -> ExpectedModel:
    """Allow every layer to be frozen or not: the architecture of a model that was built again does not tell."""
    return tuple(
        replace(part, children=free_flags(part.children))
        if isinstance(part, ExpectedSubmodel)
        else replace(
            part, splits=(1, 0) if part.custom else tuple(dict.fromkeys((*part.splits, part.trainable, 0)))
        )
        for part in expected
    )


def load_order(model: Layer) -> Iterator[Layer]:
    """Yield the layers that `model.layers` lists.

    From Keras 2.2 and tf.keras 1.9 on (`Sequential.layers`) a stack's InputLayer is not among them. Before, it was if the
    user had added one: only then does it stand in the bare list that is the config of such a stack.
    """
    unlisted = model.sequential and not model.bare
    for layer in model.children or ():
        if not (unlisted and layer.is_input):
            yield layer


def stored_once(expected: ExpectedModel) -> ExpectedModel | None:
    """Let a layer that stands in two places of the tree own its weights in the first only; None if there is no such layer.

    tf.keras from 2.0 drops repeated variables from a nested model's list (`_dedup_weights`).
    """
    first: dict[tuple[str, str], int] = {}
    models: dict[tuple[str, tuple[object, ...]], tuple[str, ...]] = {}
    repeated = False

    def once(part: ExpectedLayer | ExpectedSubmodel) -> ExpectedLayer | ExpectedSubmodel:
        nonlocal repeated
        if isinstance(part, ExpectedSubmodel):
            known_as = models.setdefault((part.path[-1], _kinds(part)), part.path)
            children = tuple(once(child) for child in part.children)
            return replace(part, children=children, same_as=None if known_as == part.path else known_as)
        number = next(numbers)
        known = first.setdefault((part.path[-1], part.kind), number)
        if known == number:
            return part
        repeated = True
        return replace(part, slots=(), splits=(0,), trainable=0, names=(), custom=False, same_as=known)

    numbers = iter(range(sum(1 for _ in iter_layers(expected))))
    result = tuple(once(part) for part in expected)
    return result if repeated else None


def _kinds(part: ExpectedSubmodel) -> tuple[object, ...]:
    """Describe the layers of a nested model: equal for one model in two places."""
    return tuple(
        (child.path[-1], _kinds(child) if isinstance(child, ExpectedSubmodel) else child.kind)
        for child in part.children
    )


def iter_layers(expected: ExpectedModel) -> Iterator[ExpectedLayer]:
    """Yield the expected layers in load order, those inside nested models included."""
    for part in expected:
        if isinstance(part, ExpectedSubmodel):
            yield from iter_layers(part.children)
        else:
            yield part


def _trainable_count(slots: tuple[Slot, ...]) -> int:
    """Count the slots before the first one that is never trainable."""
    return next((index for index, slot in enumerate(slots) if slot.leaf in NEVER_TRAINED), len(slots))


def _expected_part(layer: Layer, above: tuple[str, ...]) -> ExpectedLayer | ExpectedSubmodel:
    path = (*above, layer.name)
    model = layer.innermost
    if model.children is not None:
        inner = tuple(_expected_part(child, path) for child in load_order(model) if not is_weightless(child))
        return ExpectedSubmodel(path=path, children=inner, trainable=layer.trainable and model.trainable)
    kind = f"{layer.class_name} {_without_name(layer)}"
    owned = owned_weights(layer)
    if owned is None:
        may_train = layer.trainable or _listed_when_frozen(layer)
        return ExpectedLayer(
            path=path,
            custom=True,
            keys=(layer.name,),
            kind=kind,
            class_name=layer.class_name,
            splits=(1, 0) if may_train else (0,),
        )
    return ExpectedLayer(
        path=path,
        slots=(*owned.trainable, *owned.non_trainable),
        splits=_splits(layer, owned),
        keys=(layer.name,),
        kind=kind,
        class_name=layer.class_name,
        trainable=len(owned.trainable),
    )


def _splits(layer: Layer, owned: OwnedWeights) -> tuple[int, ...]:
    """Give the numbers of trainable weights that the flags in the config allow.

    A wrapper and its inner layer each have a flag, and which one counts depends on the release: the inner one in Keras
    2.0, later the wrapper's for Bidirectional, either one in tf.keras from 1.14. If they differ, both are allowed.
    Keras 2.0 lists the weights of a frozen recurrent layer as trainable (`RNN.trainable_weights`).
    """
    every, none = len(owned.trainable), 0
    if layer.wrapped is not None and layer.wrapped.trainable != layer.trainable:
        return (none, every)
    if layer.trainable and layer.config.has("cell") and _is_frozen(layer.config.keras_object("cell")):
        return (none, every)
    if not layer.trainable and _listed_when_frozen(layer):
        return (none, every)
    return (every,) if layer.trainable else (none,)


def _listed_when_frozen(layer: Layer) -> bool:
    return layer.declared is not None and layer.declared.listed_when_frozen


def _is_frozen(cell: KerasObject) -> bool:
    return not cell.config.flag("trainable", default=True)


def _without_name(layer: Layer) -> str:
    """Describe how a layer is built, without its name."""
    return json.dumps(layer.config.without("name", "trainable").json(), sort_keys=True)


def _expected_group(group: LayerGroup) -> ExpectedLayer:
    names = tuple(clean(weight.name) for weight in group.weights)
    slots = tuple(Slot(leaf(name), weight.shape) for name, weight in zip(names, group.weights, strict=True))
    trainable = _trainable_count(slots)
    # The names of a custom layer's weights do not tell which are trainable, and the list of a nested model may end with
    # the weights of its frozen layers: any shorter beginning may be the trainable part.
    return ExpectedLayer(
        path=(group.name,),
        slots=slots,
        splits=tuple(range(trainable, -1, -1)),
        keys=tuple(dict.fromkeys(scope(name) for name in names if scope(name))) or (group.name,),
        names=names,
        trainable=trainable,
    )


def first_difference(weights: Sequence[Weight], expected: ExpectedModel) -> str:
    """Describe the first difference: counts, then what only one of the two has, then the place."""
    layers = list(iter_layers(expected))
    count = sum(len(layer.slots) for layer in layers)
    custom = any(layer.custom for layer in layers)
    if len(weights) != count and not (custom and len(weights) > count):
        return f"the checkpoint has {len(weights):,} weights, the architecture {count:,}"
    have = Counter(leaf(clean(weight.name)) for weight in weights)
    want = Counter(slot.leaf for layer in layers for slot in layer.slots)
    for name in want:
        if have[name] < want[name]:
            owner = next(layer for layer in layers if any(slot.leaf == name for slot in layer.slots))
            return (
                f"the architecture has {want[name]:,} weights named {name!r} (as in {owner.path[-1]!r}), "
                f"the checkpoint {have[name]:,}"
            )
    left = _Left(weights)
    for layer in layers:
        for slot in layer.slots:
            if not left.take(slot):
                near = left.first(slot.leaf)
                shape = "" if near is None else f"; the checkpoint has {near.name!r} {near.shape}"
                return f"layer {layer.path[-1]!r} wants {slot.leaf!r} {_shown(slot.shape)}{shape}"
    return (
        "the same weights, but in another order: the trainable flags of layers inside nested models differ, "
        "or the layers do"
    )


class _Left:
    """The weights that no layer has taken, found by their leaves and by the sides of their shapes that are known."""

    def __init__(self, weights: Sequence[Weight]) -> None:
        self._weights = weights
        self._leaves = [leaf(clean(weight.name)) for weight in weights]
        self._taken: set[int] = set()
        self._found: dict[tuple[str, tuple[bool, ...] | None], dict[Shape, deque[int]]] = {}

    def take(self, slot: Slot) -> bool:
        """Take the first weight that fits; tell whether there was one."""
        known = None if slot.shape is None else tuple(side is not None for side in slot.shape)
        if (slot.leaf, known) not in self._found:
            self._found[slot.leaf, known] = self._listed(Slot(slot.leaf), known)
        numbers = self._found[slot.leaf, known].get(slot.shape or (), deque())
        while numbers:
            number = numbers.popleft()
            if number not in self._taken:
                self._taken.add(number)
                return True
        return False

    def first(self, leaf: str) -> Weight | None:
        """Give the first weight of that leaf."""
        numbers = enumerate(self._leaves)
        return next(
            (self._weights[number] for number, own in numbers if own == leaf and number not in self._taken),
            None,
        )

    def _listed(self, slot: Slot, known: tuple[bool, ...] | None) -> dict[Shape, deque[int]]:
        listed: dict[Shape, deque[int]] = defaultdict(deque)
        for number, (own, weight) in enumerate(zip(self._leaves, self._weights, strict=True)):
            shape = weight.shape
            if slot.takes(own, shape) and (known is None or len(known) == len(shape)):
                sides = zip(shape, known or (), strict=False)
                listed[tuple(side if told else None for side, told in sides)].append(number)
        return listed


def _shown(shape: tuple[int | None, ...] | None) -> str:
    return (
        "of any shape"
        if shape is None
        else f"({', '.join('?' if side is None else str(side) for side in shape)})"
    )
