"""The layers with weights that a file holds, in whatever format, with nested models taken apart.

This is the reading of a model by which `compare` judges files. It takes what layers own and how Keras 3 stores it from
the declarations, and shares nothing else with the conversion: neither how weights are assigned, nor the order of
layers, nor the writing.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from remap.architecture import Layer, owned_weights, parse_model
from remap.assignment.expected import load_order
from remap.checkpoint import Checkpoint, LayerGroup, Weight
from remap.comparison.results import FileKind
from remap.errors import InputRefused
from remap.keras3.graph import makes_mask
from remap.keras3.objects import number_names, snake_case, valid_names
from remap.keras3.variables import layer_paths
from remap.layers.weights import Slot
from remap.recognize import own_architecture, recognize
from remap.weight_names import clean, layer_scope, leaf

__all__ = [
    "HeldLayer",
    "HeldModel",
    "Place",
    "held_by_checkpoint",
    "held_by_objects",
    "in_layer_order",
    "layer_end",
    "shares_by_layer",
    "take_apart",
]

_BASES = ("paths", "architecture", "names", "flags")
"""What a way of reading goes by, the surest first."""

Place = tuple[tuple[str, ...], str]
"""A variable of a layer in Keras 3: the attributes that lead from the layer to its owner, and its key there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldLayer:
    """A layer that is no model, with its weights in the order of the file.

    `names` are those of the models that hold it and its own, as Keras 3 takes them. `described` is what an
    architecture says of it, None where none is known. `places` say in a file of Keras 3 where the weights are
    stored below the layer; in files of Keras 2 they are empty.
    """

    names: tuple[str, ...]
    weights: tuple[Weight, ...]
    described: Layer | None = field(default=None, repr=False)
    places: tuple[Place, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldModel:
    """A model in a file.

    `groups` are the lists of weights as the file has them: for each layer one, with one list for all that a nested
    model holds, and in a multi-GPU checkpoint one list for the whole model. In a file of Keras 3 each object has its
    own, called by its path; `names` are those that the objects at these paths have. `saved_by_keras3` tells that Keras 3
    itself saved the weights, in whatever format.
    """

    form: FileKind
    groups: tuple[LayerGroup, ...]
    architecture: Layer | None
    optimizer: tuple[Weight, ...] = ()
    names: Mapping[str, str] = field(default_factory=dict)
    saved_by_keras3: bool = False

    @property
    def is_keras3(self) -> bool:
        """Tell whether the file is one of Keras 3."""
        return self.form in (".keras", ".weights.h5")

    @property
    def weights(self) -> tuple[Weight, ...]:
        """List all weights in the order of the file."""
        return tuple(weight for group in self.groups for weight in group.weights)


def held_by_checkpoint(checkpoint: Checkpoint, *, where: str) -> HeldModel:
    """Find the model in a file of Keras 2: the replicated one in a multi-GPU checkpoint, else all of the file.

    Raises InputRefused for a file without weights, and for an architecture that is none.
    """
    found = recognize(checkpoint, own_architecture(checkpoint, where=where))
    checkpoint, model = found.checkpoint, found.model
    optimizer = checkpoint.optimizer or ()
    if found.kind == "empty":
        raise InputRefused("the file is a Keras file but holds no weights", where=where)
    if found.template is not None:
        return HeldModel(
            form="multi-gpu .h5",
            groups=(found.template.group,),
            architecture=found.template.architecture,
            optimizer=optimizer,
        )
    return HeldModel(
        form=".h5",
        groups=checkpoint.layers,
        architecture=None if model is None else _named(model, checkpoint.layers),
        optimizer=optimizer,
        saved_by_keras3=(checkpoint.keras_version or "").startswith("3."),
    )


def held_by_objects(
    objects: Sequence[tuple[tuple[str, ...], str | None, tuple[Weight, ...]]],
    *,
    config: str | None,
    optimizer: tuple[Weight, ...],
    where: str,
) -> HeldModel:
    """Describe the model in a file of Keras 3; `objects` are the paths, names and variables of those with weights.

    `config` is the text of config.json. A class that does not describe itself as Keras's models do tells no layers.
    """
    architecture = None
    if config is not None:
        try:
            architecture = parse_model(config, where=f"{where}, config.json")
        except InputRefused:
            architecture = None
    return HeldModel(
        form=".weights.h5" if config is None else ".keras",
        groups=tuple(
            LayerGroup(name="/".join(path), weights=weights) for path, _, weights in objects if weights
        ),
        architecture=architecture,
        optimizer=optimizer,
        names={"/".join(path): name for path, name, _ in objects if name is not None},
        saved_by_keras3=True,
    )


def take_apart(held: HeldModel, architecture: Layer | None) -> list[tuple[str, tuple[HeldLayer, ...]]]:
    """Give the layers with weights, in each way in which the file can be read, the likeliest first.

    `architecture` is the file's own or that of the other file. Each way comes with what it goes by: ``paths``,
    ``architecture``, ``names``, or ``flags`` for an architecture whose trainable flags are assumed.
    """
    if held.is_keras3:
        return [("paths", _layers_of_objects(held, architecture))]
    if architecture is None:
        ways = (_layers_by_scope(held), _layers_by_group(held))
        return [("names", layers) for layers in dict.fromkeys(ways)]
    if held.form == "multi-gpu .h5":
        return _layers_of_list(held.groups[0].weights, architecture, ())
    return _layers_of_groups(held, architecture)


def _named(model: Layer, groups: Sequence[LayerGroup]) -> Layer:
    """Call layers without a name what the groups in their places are called (stacks in stacks before Keras 2.2.3)."""
    layers = list(load_order(model))
    if all(layer.name for layer in layers) or len(layers) != len(groups):
        return model
    names = {id(layer): group.name for layer, group in zip(layers, groups, strict=True)}
    return replace(
        model,
        children=tuple(
            child if child.name else replace(child, name=names.get(id(child), ""))
            for child in model.children or ()
        ),
    )


def _called(model: Layer, *, masks: bool) -> dict[int, str]:
    """Give the name of each layer of a model as Keras 3 takes it, by the layer's identity."""
    children = model.children or ()
    names = valid_names(((child.name, child.class_name) for child in children), masks=masks)
    return {id(child): name for child, name in zip(children, names, strict=True)}


def _masks(model: Layer) -> bool:
    return any(makes_mask(layer) for layer in model.walk())


def _layers_of_groups(held: HeldModel, model: Layer) -> list[tuple[str, tuple[HeldLayer, ...]]]:
    """Read a flat file: each layer has a group, and only the lists of nested models are taken apart."""
    called = _called(model, masks=_masks(model))
    layers = list(load_order(model))
    groups = {group.name: group for group in held.groups}
    if {group.name for group in held.groups if group.weights} <= {layer.name for layer in layers}:
        pairs = [(layer, groups[layer.name]) for layer in layers if layer.name in groups]
    else:
        layers = [layer for layer in layers if _may_own_weights(layer)]
        weighted = [group for group in held.groups if group.weights]
        if len(layers) != len(weighted):
            return [("names", _layers_by_scope(held))]
        pairs = list(zip(layers, weighted, strict=True))
    ways: list[tuple[str, tuple[HeldLayer, ...]]] = [("architecture", ())]
    for layer, group in pairs:
        if not group.weights:
            continue
        names = (called[id(layer)],)
        inner = layer.innermost
        if inner.children is None:
            own = HeldLayer(names=names, weights=group.weights, described=layer)
            ways = [(by, (*before, own)) for by, before in ways]
            continue
        inside = _layers_of_list(group.weights, inner, names)
        ways = [
            (max(by, how, key=_BASES.index), (*before, *found))
            for by, before in ways
            for how, found in inside
        ][:4]
    return ways


def _may_own_weights(layer: Layer) -> bool:
    if layer.innermost.children is not None:
        return True
    owned = owned_weights(layer)
    return owned is None or bool(owned.slots)


def _layers_of_list(
    weights: Sequence[Weight], model: Layer, above: tuple[str, ...]
) -> list[tuple[str, tuple[HeldLayer, ...]]]:
    """Take the one list of a whole model apart: by the order that its architecture asks for, and by names.

    The order follows the trainable flags, of which Keras 2 does not save those of models inside a model. So where names
    tell another order that fits, they come first.
    """
    leaves = list(_leaves(model, above, masks=_masks(model)))
    by_order = _by_flags(weights, model, leaves)
    by_names = _by_names(weights, leaves)
    if by_order is None:
        return [("names", _scoped(weights, above) if by_names is None else by_names)]
    if by_names == by_order:
        return [("architecture", by_order)]
    if by_names is not None:
        return [("names", by_names), ("flags", by_order)]
    nested = any(layer.innermost.children is not None for layer in load_order(model))
    return [("flags" if nested else "architecture", by_order)]


def _leaves(model: Layer, above: tuple[str, ...], *, masks: bool) -> Iterator[tuple[Layer, tuple[str, ...]]]:
    called = _called(model, masks=masks)
    for layer in load_order(model):
        names = (*above, called[id(layer)])
        inner = layer.innermost
        if inner.children is None:
            yield layer, names
        else:
            yield from _leaves(inner, names, masks=masks)


def _by_flags(
    weights: Sequence[Weight], model: Layer, leaves: Sequence[tuple[Layer, tuple[str, ...]]]
) -> tuple[HeldLayer, ...] | None:
    """Lay the list over what the architecture and its trainable flags ask for; None where it does not fit.

    Keras 2 lists all trainable weights, then all others, for every model in the model again
    (`Container.trainable_weights` in keras/engine/topology.py). One layer of the user's own may own what the others
    leave; of two nothing tells where the weights of the one end.
    """
    unknown = [layer for layer, _ in leaves if owned_weights(layer) is None]
    if len(unknown) > 1:
        return None
    known = sum(len(owned.slots) for layer, _ in leaves if (owned := owned_weights(layer)) is not None)
    left = len(weights) - known
    if left < 0 or (left and not unknown):
        return None
    trained, others = _split(model, left)
    shares: dict[int, list[tuple[int, Weight]]] = defaultdict(list)
    for (owner, number, slot), weight in zip((*trained, *others), weights, strict=True):
        if slot is not None and not slot.takes(leaf(clean(weight.name)), weight.shape):
            return None
        shares[owner].append((number, weight))
    return tuple(
        HeldLayer(
            names=names,
            weights=tuple(weight for _, weight in sorted(shares[id(layer)], key=lambda share: share[0])),
            described=layer,
        )
        for layer, names in leaves
        if shares[id(layer)]
    )


_Wanted = list[tuple[int, int, Slot | None]]


def _split(model: Layer, left: int) -> tuple[_Wanted, _Wanted]:
    """List what a model's layers own, trained and not: the layer's identity, the weight's number in it, its slot.

    A layer of the user's own owns what is `left`, as if it trained all of it or nothing.
    """
    trained: _Wanted = []
    others: _Wanted = []
    for layer in load_order(model):
        inner = layer.innermost
        if inner.children is not None:
            upper, lower = _split(inner, left)
            if not (layer.trainable and inner.trainable):
                upper, lower = [], [*upper, *lower]
        else:
            owned = owned_weights(layer)
            slots: Sequence[Slot | None] = [None] * left if owned is None else owned.slots
            listed = [(id(layer), number, slot) for number, slot in enumerate(slots)]
            trainable = left if owned is None else len(owned.trainable)
            count = trainable if layer.trainable else 0
            upper, lower = listed[:count], listed[count:]
        trained += upper
        others += lower
    return trained, others


def _by_names(
    weights: Sequence[Weight], leaves: Sequence[tuple[Layer, tuple[str, ...]]]
) -> tuple[HeldLayer, ...] | None:
    """Give every layer the weights that bear its name; None where names do not tell, or a layer would not fit.

    Weights that bear no layer's name belong to the one layer of the user's own that is left without any.
    """
    owners = Counter(layer.name for layer, _ in leaves)
    shares: dict[str, list[Weight]] = defaultdict(list)
    for weight in weights:
        scope = layer_scope(weight.name)
        ends = [scope, *(scope.partition("/")[2],), scope.rpartition("/")[2]]
        owner = next((name for name in ends if owners[name] == 1), None)
        shares[owner or ""].append(weight)
    nameless = shares.pop("", [])
    without = [layer for layer, _ in leaves if layer.name not in shares and owned_weights(layer) is None]
    if nameless and len(without) != 1:
        return None
    if nameless:
        shares[without[0].name] = nameless
    found = []
    for layer, names in leaves:
        share = shares[layer.name]
        owned = owned_weights(layer)
        if owned is not None:
            if len(owned.slots) != len(share):
                return None
            fits = zip(owned.slots, share, strict=True)
            if not all(slot.takes(leaf(clean(weight.name)), weight.shape) for slot, weight in fits):
                return None
        if share:
            found.append(HeldLayer(names=names, weights=tuple(share), described=layer))
    return tuple(found)


def _layers_by_scope(held: HeldModel) -> tuple[HeldLayer, ...]:
    """Read a file without architecture: the names of weights show the layers."""
    return tuple(
        layer for group in held.groups if group.weights for layer in _scoped(group.weights, (group.name,))
    )


def _layers_by_group(held: HeldModel) -> tuple[HeldLayer, ...]:
    """Read a file without architecture: a group whose weights show one layer is that layer, whatever they call it."""
    found: list[HeldLayer] = []
    for group in held.groups:
        inside = _scoped(group.weights, (group.name,))
        found += [replace(inside[0], names=(group.name,))] if len(inside) == 1 else inside
    return tuple(found)


def _scoped(weights: Sequence[Weight], above: tuple[str, ...]) -> tuple[HeldLayer, ...]:
    shares: dict[str, list[Weight]] = {}
    for weight in weights:
        shares.setdefault(layer_scope(weight.name) or "/".join(above), []).append(weight)
    return tuple(HeldLayer(names=(name,), weights=tuple(share)) for name, share in shares.items())


def _layers_of_objects(held: HeldModel, architecture: Layer | None) -> tuple[HeldLayer, ...]:
    """Put the objects of a Keras 3 file together to layers; those that an architecture knows stand in its order."""
    shares = shares_by_layer(
        (tuple(group.name.split("/")) if group.name else (), group.weights) for group in held.groups
    )
    known = {}
    if architecture is not None and held.architecture is not None:
        known = {path: (layer, names) for path, layer, names in layer_paths(held.architecture, (), ())}
    order = {path: number for number, path in enumerate(known)}
    layers = []
    for path in sorted(shares, key=lambda path: order.get(path, len(order))):
        described, names = known.get(path, (None, None))
        share = in_layer_order(described, shares[path])
        layers.append(
            HeldLayer(
                names=names or _noted_names(path, held.names),
                weights=tuple(weight for _, weight in share),
                described=described,
                places=tuple(place for place, _ in share),
            )
        )
    return tuple(layers)


def shares_by_layer(
    objects: Iterable[tuple[tuple[str, ...], Sequence[Weight]]],
) -> dict[tuple[str, ...], list[tuple[Place, Weight]]]:
    """Put the variables of a Keras 3 file together by layer; `objects` are paths with their variables.

    Those of a layer stand in the order in which Keras 2 lists its weights.
    """
    shares: dict[tuple[str, ...], list[tuple[Place, Weight]]] = {}
    for path, weights in objects:
        end = layer_end(path)
        share = shares.setdefault(path[:end], [])
        share += [((path[end:], weight.name), weight) for weight in weights]
    for share in shares.values():
        share.sort(key=lambda one: _place_order(one[0]))
    return shares


def layer_end(path: Sequence[str]) -> int:
    """Find where in a path the innermost layer of models ends: ``layers/model/layers/lstm`` of ``.../lstm/cell``."""
    end = 0
    while True:
        skip = 1 if end and list(path[end : end + 2]) == ["layer", "layers"] else 0
        if path[end + skip : end + skip + 1] != ("layers",) or len(path) < end + skip + 2:
            return end
        end += skip + 2


def _noted_names(path: tuple[str, ...], names: Mapping[str, str]) -> tuple[str, ...]:
    """Give the names of the layers on a path as the file notes them, else as the path does."""
    found = []
    end = 0
    while end < len(path):
        end += 1
        if path[end - 1] in ("layers", "layer"):
            continue
        found.append(names.get("/".join(path[:end]), path[end - 1]))
    return tuple(found)


def in_layer_order(layer: Layer | None, share: Sequence[tuple[Place, Weight]]) -> list[tuple[Place, Weight]]:
    """Sort the weights of a layer of several cells by the order of its cells, which their names do not tell."""
    if layer is None or not layer.config.given("cell"):
        cells = layer.config if layer is not None else None
    else:
        cells = layer.config.keras_object("cell").config
    if cells is None or not cells.given("cells"):
        return list(share)
    kinds = number_names(snake_case(cell.class_name) for cell in cells.value("cells").keras_objects())
    ranks = {kind: number for number, kind in enumerate(kinds)}
    return sorted(share, key=lambda one: next((ranks[part] for part in one[0][0] if part in ranks), -1))


def _place_order(place: Place) -> tuple[tuple[tuple[int, str], ...], int, str]:
    """Sort as Keras 2 lists weights: the forward layer's before the backward layer's, each by number."""
    owner, key = place
    first = {"forward_layer": 0, "backward_layer": 1}
    number = int(key) if key.isdecimal() and len(key) < 10 else 0
    return tuple((first.get(part, 0), part) for part in owner), number, key
