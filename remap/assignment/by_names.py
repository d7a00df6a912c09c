"""Find the layers of a flat list by the names and shapes of its weights alone.

The scopes tell which weights belong together. They do not tell the order of layers: a frozen layer stands behind all
trainable ones, wherever it is in the model. So the order of the list is accepted only if no layer in it can have been
frozen, or if Keras would notice another order by the shapes.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain

from remap.checkpoint import Weight
from remap.errors import GIVE_JSON, SAY_PLAIN, Undecided
from remap.layers import NEVER_TRAINED, is_automatic_name
from remap.weight_names import clean, family, layer_scope, leaf, numbered

__all__ = ["Ends", "NamedLayers", "ends", "follows", "layers_by_name"]

Ends = tuple[int, int]
"""How many features a layer's input and output have; 0 if its weights do not tell."""


def ends(named_shapes: Sequence[tuple[str, tuple[int, ...]]]) -> Ends:
    """Find the numbers of features of a layer's input and output by the leaf names and shapes of its weights."""
    shapes = dict(reversed(named_shapes))
    kernel = shapes.get("kernel")
    recurrent = shapes.get("recurrent_kernel")
    depthwise = shapes.get("depthwise_kernel")
    if depthwise is not None and len(depthwise) > 1:
        pointwise = shapes.get("pointwise_kernel")
        return depthwise[-2], pointwise[-1] if pointwise else depthwise[-2] * depthwise[-1]
    if kernel is not None and len(kernel) > 1:
        if recurrent is not None:
            # Two directions are concatenated or added: either is a multiple of one direction's output.
            return kernel[-2], recurrent[-2]
        bias = shapes.get("bias")
        if bias == (kernel[-2],) and kernel[-2] != kernel[-1]:
            return kernel[-1], kernel[-2]  # a transposed convolution
        return kernel[-2], kernel[-1]
    if "embeddings" in shapes:
        return 0, shapes["embeddings"][-1]
    vectors = {shape for shape in shapes.values() if len(shape) == 1}
    if len(vectors) == 1 and len(vectors) == len(set(shapes.values())):
        (size,) = vectors.pop()
        return size, size
    return 0, 0


def follows(before: Ends, after: Ends) -> bool:
    """Tell whether a layer may directly follow another one; flattening and reshaping multiply and divide."""
    given, taken = before[1], after[0]
    return 0 in (given, taken) or given % taken == 0 or taken % given == 0


# The names of the networks of keras.applications, which have no nested model.
_APPLICATION = re.compile(
    r"^(vgg1[69]|xception|inception_v3|inception_resnet_v2|res(net|next)\d+(v2)?|densenet\d+|NASNet"
    r"|mobilenet(v2)?_[\d.]+_\d+|efficientnetb\d)$"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Layer:
    """A layer as the names show it: its scope, the indices of its weights, and whether some are never trained."""

    name: str
    weights: tuple[int, ...]
    moving: bool
    shapes: tuple[tuple[int, ...], ...]
    ends: Ends


@dataclass(frozen=True, slots=True, kw_only=True)
class NamedLayers:
    """The layers of a list.

    Attributes:
        layers: The layers in order: the name of each and the indices of its weights in the order of its group.
        doubts: Pairs of layers of equal shapes whose order is another one if one of them was frozen, as sentences.
    """

    layers: tuple[tuple[str, tuple[int, ...]], ...]
    doubts: tuple[str, ...] = ()


def layers_by_name(weights: Sequence[Weight], *, plain: bool, model: str) -> NamedLayers:
    """Find the layers of a list by names and shapes.

    Args:
        weights: The list.
        plain: Whether to assume that nothing was frozen and that the model has no nested model.
        model: The name of the model that has the list.

    Returns:
        The layers, and what was assumed.

    Raises:
        Undecided: If the names and shapes allow more than one order.
    """
    where = model
    layers, first_moving = _partition(weights, where)
    upper = [layer for layer in layers if layer.weights[0] < first_moving]
    lower = _second_part(weights, layers, first_moving)
    _refuse_visibly_frozen(weights, layers, first_moving, where)
    order = _merge(upper, lower, where)
    _refuse_falling_numbers(upper, lower, where)
    limit = _limit(upper, lower)
    doubts = tuple(_equal_shapes(upper, limit))
    reason = next(chain(_nested_doubts(upper, model), _better_chain(upper, limit), doubts), None)
    if reason is not None and not plain:
        raise _undecided(reason, where, plain=True)
    return NamedLayers(layers=tuple((layer.name, layer.weights) for layer in order), doubts=doubts)


def _partition(weights: Sequence[Weight], where: str) -> tuple[list[_Layer], int]:
    """Divide the list by scopes; give the layers in the order of their first weights, and where the second part begins."""
    owned: dict[str, list[int]] = {}
    first_moving = len(weights)
    previous = None
    for index, weight in enumerate(weights):
        name = layer_scope(weight.name)
        if not name:
            raise _undecided(f"the weight {weight.name!r} does not say which layer it belongs to", where)
        known = owned.setdefault(name, [])
        if leaf(clean(weight.name)) in NEVER_TRAINED or (known and previous != name):
            first_moving = min(first_moving, index)
        known.append(index)
        previous = name
    for name, indices in owned.items():
        upper = [index for index in indices if index < first_moving]
        other = indices[len(upper) :]
        if any(part[-1] - part[0] + 1 != len(part) for part in (upper, other) if part):
            raise _undecided(f"the weights named {name!r} stand in more places than one layer's would", where)
    layers = [
        _Layer(
            name=name,
            weights=tuple(indices),
            moving=indices[-1] >= first_moving,
            shapes=tuple(weights[index].shape for index in indices),
            ends=ends([(leaf(clean(weights[index].name)), weights[index].shape) for index in indices]),
        )
        for name, indices in owned.items()
    ]
    return layers, first_moving


def _second_part(weights: Sequence[Weight], layers: Sequence[_Layer], first_moving: int) -> list[_Layer]:
    """List the layers of the part that is not trainable, in its order."""
    by_name = {layer.name: layer for layer in layers}
    names = dict.fromkeys(layer_scope(weight.name) for weight in weights[first_moving:])
    return [by_name[name] for name in names]


def _refuse_visibly_frozen(
    weights: Sequence[Weight], layers: Sequence[_Layer], first_moving: int, where: str
) -> None:
    """Refuse a list whose second part has weights that are trainable by their names: their layer was frozen."""
    for layer in layers:
        frozen = layer.weights[0] >= first_moving
        if frozen and any(leaf(clean(weights[index].name)) not in NEVER_TRAINED for index in layer.weights):
            raise _undecided(
                f"{layer.name!r} was frozen, and its place among the trained layers is not written down",
                where,
            )


def _merge(upper: Sequence[_Layer], lower: Sequence[_Layer], where: str) -> list[_Layer]:
    """Insert the layers without trainable weights between the others."""
    places = {layer.name: index for index, layer in enumerate(upper)}
    anchors = [places[layer.name] for layer in lower if layer.name in places]
    if anchors != sorted(anchors):
        raise _undecided("the two parts of the list have their layers in different orders", where)
    order: list[_Layer] = []
    taken = 0
    waiting: list[_Layer] = []
    for layer in lower:
        if layer.name not in places:
            waiting.append(layer)
            continue
        between = upper[taken : places[layer.name]]
        _refuse_unplaced(waiting, between, where)
        order += [*between, *waiting, layer]
        taken, waiting = places[layer.name] + 1, []
    _refuse_unplaced(waiting, upper[taken:], where)
    return [*order, *upper[taken:], *waiting]


def _refuse_unplaced(waiting: Sequence[_Layer], between: Sequence[_Layer], where: str) -> None:
    if waiting and between:
        raise _undecided(
            f"{waiting[0].name!r} has no trainable weights: it may stand anywhere around {between[0].name!r}",
            where,
        )


def _limit(upper: Sequence[_Layer], lower: Sequence[_Layer]) -> int:
    """Count the layers that the last layers of the first part may belong before if those were frozen.

    A layer with moving averages shows every frozen layer behind it, so only layers up to the first one with averages count.
    """
    names = [layer.name for layer in upper]
    limit = len(upper)
    if lower and lower[0].name in names and names[-1] != lower[0].name:
        limit = names.index(lower[0].name) + 1
    return limit


def _equal_shapes(upper: Sequence[_Layer], limit: int) -> Iterator[str]:
    """Find layers that a later one of equal shapes may belong before, if it was frozen.

    Keras would refuse another order of layers of different shapes, and does not number a layer before one that it follows.
    """
    later_by_shapes: dict[tuple[tuple[int, ...], ...], list[_Layer]] = {}
    for place in range(len(upper) - 1, -1, -1):
        layer = upper[place]
        alike = later_by_shapes.setdefault(layer.shapes, [])
        if place < limit:
            other = next((later for later in alike if not _numbered_before(layer, later)), None)
            if other is not None:
                yield (
                    f"{layer.name!r} and {other.name!r} have equal shapes: if {other.name!r} was frozen, "
                    f"it may belong before {layer.name!r}"
                )
        if limit == len(upper) or not layer.moving:
            # Only the layer with the lowest number of each kind has to be compared: the others have higher numbers.
            if not alike or not _numbered_before(layer, alike[-1]):
                alike.append(layer)
            else:
                alike[-1] = layer


def _nested_doubts(layers: Sequence[_Layer], model: str) -> Iterator[str]:
    """Find reasons why layers may belong to a nested model: custom names, or a model that was built before this one.

    Keras numbers layers and models as they are built. A nested model was built before the model around it, and the names
    of its layers look like all others. The networks of keras.applications have no nested model.
    """
    if _APPLICATION.match(model):
        return
    custom = next((layer for layer in layers if not is_automatic_name(layer.name)), None)
    if custom is not None:
        yield f"{custom.name!r} is a custom layer name, so it may belong to a nested model"
    kind, number = family(model)
    from_zero = any(family(layer.name)[1] == 0 for layer in layers)
    first = from_zero or any(family(layer.name)[1] == 1 for layer in layers)
    before = number - (0 if from_zero and kind != "functional" else 1)
    if kind in {"model", "sequential", "functional"} and first and before > 0:
        yield f"a model was built before {model!r}, and may be nested in it"


def _refuse_falling_numbers(upper: Sequence[_Layer], lower: Sequence[_Layer], where: str) -> None:
    """Refuse numbers that fall along the list: a layer was frozen, or belongs to a nested model.

    Branches are listed by depth, so their numbers may fall a little. If moving averages determine the order, only a class
    of layers that does not begin with its lowest number is refused.
    """
    last: dict[str, _Layer] = {}
    first: dict[str, _Layer] = {}
    for layer in upper:
        kind, numbers = numbered(layer.name)
        known = first.setdefault(kind, layer) if lower else last.get(kind, layer)
        if numbered(known.name)[1] > numbers:
            raise _undecided(
                f"{layer.name!r} stands behind {known.name!r}: it may have been frozen, or belong to a nested model",
                where,
            )
        last[kind] = layer


def _better_chain(upper: Sequence[_Layer], limit: int) -> Iterator[str]:
    """Find a place where outputs and inputs fit better if the layers behind it were frozen and belong in front.

    Keras would notice such a mistake by the shapes, but the file would still not be the one that it saved.
    """
    if not upper:
        return
    first, last = upper[0], upper[-1]
    if last.ends[1] < 2 or not first.ends[0] or not follows(last.ends, first.ends):
        return
    for place in range(len(upper) - 1, 0, -1):
        layer = upper[place]
        if limit < len(upper) and (layer.moving or place < limit):
            return
        if not follows(upper[place - 1].ends, layer.ends):
            yield (
                f"{upper[place - 1].name!r} does not lead into {layer.name!r}, but {last.name!r} would lead "
                f"into {first.name!r}: the layers behind may have been frozen and belong in front"
            )
            return


def _numbered_before(layer: _Layer, other: _Layer) -> bool:
    """Tell whether Keras numbered one layer before the other, so that it cannot stand behind it."""
    kind, numbers = numbered(layer.name)
    other_kind, other_numbers = numbered(other.name)
    return kind == other_kind and numbers < other_numbers


def _undecided(what: str, where: str, *, plain: bool = False) -> Undecided:
    """Refuse a list; `plain` tells whether the assumption that nothing was frozen or nested would settle it."""
    return Undecided(
        f"the names alone do not settle the order of layers: {what}",
        where=where,
        remedies=(GIVE_JSON, SAY_PLAIN) if plain else (GIVE_JSON,),
    )
