"""Find the layers of a flat list by a weights file of Keras 3, which tells the order of each class of layers.

Such a file has a group for each layer, called by its class and numbered in each class in the order of the model. Nothing in
it tells which layer of one class stands before which of another one. For a model without nested models that is enough:

    **Theorem.** Let a file have the layers of a model, those of each class in the model's order, and let no layer take the
    weights of one of another class. If Keras loads the file by order, each layer gets its own weights.

    *Proof.* Look at the first layer of the model that gets the weights of another one. All layers before it have their own,
    so that of its class it is the first that is left, in the model and in the file. The weights that it gets are the first
    that are left in the file. If they were those of its class, they would be its own. ∎

So any order that keeps the order of each class is the model's, or Keras refuses it; the likeliest one is taken. What is
believed: the layers have the names that they have in the reference file, or automatic ones in the same order; the model to
load into is built by the code that wrote the reference file. Files of Keras before 3.6 do not tell names: only layers of
different shapes are known then.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product

from remap.assignment.alternatives import may_take
from remap.assignment.arrangement import arrange
from remap.assignment.evidence import ends_of
from remap.assignment.listed import MOST_CUTS, Listed, listed_layers, parted
from remap.assignment.reference import Reference, Request
from remap.checkpoint import Checkpoint, LayerGroup
from remap.errors import GIVE_JSON, GIVE_KERAS, Undecided
from remap.layers import is_automatic_name
from remap.recognize import Template, choose, own_architecture, recognize
from remap.weight_names import clean, family

__all__ = ["ClassOrder", "ClassRequest", "ToldLayer", "layers_by_class", "order_not_told"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ToldLayer:
    """A layer in a weights file of Keras 3: its class in the file's spelling, its name, and the shapes of its weights."""

    kind: str
    name: str | None
    shapes: tuple[tuple[int, ...], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassOrder:
    """A weights file of Keras 3 as a reference model.

    Attributes:
        where: The file, for messages.
        layers: The layers with weights, those of each class in the model's order.
    """

    where: str
    layers: tuple[ToldLayer, ...]


def order_not_told(where: str) -> Undecided:
    """Refuse a weights file of Keras 3 as the reference model.

    Args:
        where: The file, as it is shown.
    """
    return Undecided(
        "a weights file of Keras 3 does not tell the order of the model's layers",
        where=where,
        remedies=(GIVE_JSON, GIVE_KERAS),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassRequest:
    """What the caller wants of a conversion, with a weights file of Keras 3 as the reference model."""

    told: ClassOrder
    request: Request

    @property
    def notes(self) -> tuple[str, ...]:
        """List what is assumed."""
        assumed = (
            "layers of different classes stand in the likeliest order, which the reference model does not tell; if not, "
            "Keras says so when it loads the file"
        )
        named = "the layers have the names that they have in the reference model, automatic ones but for the numbers"
        return tuple(f"assumed, not verified: {what}" for what in (assumed, named))

    def settle(self, checkpoint: Checkpoint, *, keras3: bool) -> Request:
        """Give the request with the layers of a checkpoint as the reference model.

        Args:
            checkpoint: What was read of the input.
            keras3: Whether the output is a file of Keras 3, which needs an architecture.

        Raises:
            Undecided: If the file does not settle the order of layers.
        """
        recognition = recognize(checkpoint, own_architecture(checkpoint))
        if keras3 or recognition.model is not None or self.request.submodel is not None:
            raise order_not_told(self.told.where)
        groups = layers_by_class(choose(recognition, submodel=None), self.told.layers)
        if groups is None:
            raise order_not_told(self.told.where)
        # By its names the reference model is one of this checkpoint: what each layer has, and in which order, is settled.
        like = Reference(where=self.told.where, groups=groups, ordered=False, keras3=True)
        return replace(self.request, like=like)


def layers_by_class(template: Template, told: Sequence[ToldLayer]) -> tuple[LayerGroup, ...] | None:
    """Find the layers of a model's list.

    Args:
        template: The model.
        told: The layers of the reference file, those of each class in the model's order.

    Returns:
        The layers in order with their weights; None if the file does not settle them.
    """
    weights = template.group.weights
    layers = listed_layers(weights)
    if len({clean(weight.name) for weight in weights}) < len(weights):
        return None
    owners = None if isinstance(layers, str) else _owners(layers, told)
    if isinstance(layers, str) or owners is None or _exchangeable(layers, owners):
        return None
    place = {layer: number for number, layer in enumerate(told)}
    rank = {name: (layer.kind, place[layer]) for name, layer in owners.items()}
    ends = ends_of(template.name, template.inputs, template.outputs, owners)
    likeliest = arrange(layers, ends)
    order = None if isinstance(likeliest, str) else likeliest.order
    if order is None or not _keeps(order, rank):
        found = set(_merged(layers, rank))
        order = found.pop() if len(found) == 1 else None
    if order is None or ends.contradiction(order):
        return None
    return tuple(
        LayerGroup(
            name=owners[layer.name].name or layer.name,
            weights=tuple(weights[index] for index in layer.weights),
        )
        for layer in order
    )


def _owners(layers: Sequence[Listed], told: Sequence[ToldLayer]) -> dict[str, ToldLayer] | None:
    """Match scopes with the layers of the file, one to one, by names or else by shapes; None if they are others."""
    if len(layers) != len(told):
        return None
    names = [layer.name for layer in told if layer.name is not None]
    if names and len(names) < len(told):
        return None
    keys = _keys(names) if names else [layer.shapes for layer in told]
    ours = _keys([layer.name for layer in layers]) if names else [layer.shapes for layer in layers]
    known = dict(zip(keys, told, strict=True))
    if len(known) < len(told) or set(ours) != known.keys():
        return None
    found = {layer.name: known[key] for key, layer in zip(ours, layers, strict=True)}
    return found if all(found[layer.name].shapes == layer.shapes for layer in layers) else None


def _keys(names: Sequence[str]) -> list[object]:
    """Give what a name has in common with that of another session: for an automatic one the class and the rank in it.

    Releases write one class's automatic name in several ways: ``batch_normalization_v1`` and ``batch_normalization``.
    """
    kinds = {
        name: family(name)[0].replace("_", "").removesuffix("v1") for name in names if is_automatic_name(name)
    }
    ranks: Counter[str] = Counter()
    keys: dict[str, object] = {}
    for name in sorted(kinds, key=lambda name: family(name)[1]):
        keys[name] = kinds[name], ranks[kinds[name]]
        ranks[kinds[name]] += 1
    return [keys.get(name, name) for name in names]


def _exchangeable(layers: Iterable[Listed], owners: Mapping[str, ToldLayer]) -> bool:
    """Tell whether Keras might give a layer the weights of one of another class."""
    kinds = {(owners[layer.name].kind, layer.leaves, layer.shapes): layer for layer in layers}
    by_axes: dict[tuple[int, ...], list[tuple[str, Listed]]] = {}
    for (kind, _, shapes), layer in kinds.items():
        by_axes.setdefault(tuple(map(len, shapes)), []).append((kind, layer))
    return any(
        may_take(one, other)
        for alike in by_axes.values()
        if len({kind for kind, _ in alike}) > 1
        for (kind, one), (another, other) in product(alike, repeat=2)
        if kind != another
    )


_Rank = Mapping[str, tuple[str, int]]


def _keeps(order: Sequence[Listed], rank: _Rank) -> bool:
    """Tell whether an order keeps that of each class."""
    return _kept(order, rank) == len(order)


def _kept(order: Sequence[Listed], rank: _Rank) -> int:
    """Count the layers at the beginning of an order that keep the order of each class."""
    last: dict[str, int] = {}
    for count, layer in enumerate(order):
        kind, number = rank[layer.name]
        if last.get(kind, -1) > number:
            return count
        last[kind] = number
    return len(order)


def _merged(layers: Sequence[Listed], rank: _Rank) -> Iterator[tuple[Listed, ...]]:
    """Merge both parts of a list wherever frozen layers may begin, as far as the classes leave one order only.

    Layers of each class are in order in each part, so there are few such places.
    """
    end, first, rest = parted(layers)
    least = max((number for number, layer in enumerate(first, 1) if layer.weights[-1] >= end), default=0)
    most = _kept(first, rank)
    for count in range(most, max(least, most - MOST_CUTS) - 1, -1):
        order = _merge(first[:count], [*first[count:], *rest], rank)
        if order is not None:
            yield order


def _merge(upper: Sequence[Listed], lower: Sequence[Listed], rank: _Rank) -> tuple[Listed, ...] | None:
    """Merge two lists in the order of each class; None if that leaves several orders, or none."""
    both = {layer.name for layer in upper} & {layer.name for layer in lower}
    waiting: dict[str, list[int]] = {}
    for kind, number in sorted({rank[layer.name] for layer in (*upper, *lower)}, reverse=True):
        waiting.setdefault(kind, []).append(number)
    order: list[Listed] = []
    lists = [list(reversed(upper)), list(reversed(lower))]
    while any(lists):
        heads = [one[-1] for one in lists if one]
        ready = [
            head
            for head in heads
            if waiting[rank[head.name][0]][-1] == rank[head.name][1]
            and (head.name not in both or (len(heads) > 1 and heads[0] is heads[1]))
        ]
        if len({head.name for head in ready}) != 1:
            return None
        order.append(ready[0])
        waiting[rank[ready[0].name][0]].pop()
        for one in lists:
            if one and one[-1] is ready[0]:
                one.pop()
    return tuple(order)
