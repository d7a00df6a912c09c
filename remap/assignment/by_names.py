"""The layers of a flat list by its names and shapes alone.

The scopes tell which weights belong together. They do not tell the order of layers: one that was frozen
stands behind all trainable ones, wherever it is in the model. So the list is taken as it stands only where
no frozen layer could hide in it, or where none can be told from its place without Keras noticing.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from remap.checkpoint import Weight
from remap.errors import GIVE_JSON, SAY_PLAIN, Undecided
from remap.layers import NEVER_TRAINED, is_automatic_name
from remap.weight_names import clean, family, layer_scope, leaf, numbered

__all__ = ["Ends", "ends", "follows", "layers_by_name"]

Ends = tuple[int, int]
"""How many features a layer takes and gives; 0 where its weights do not tell."""


def ends(named_shapes: Sequence[tuple[str, tuple[int, ...]]]) -> Ends:
    """Give a layer's features in and out from the leaf names and shapes of its weights."""
    shapes = dict(reversed(named_shapes))
    kernel = shapes.get("kernel")
    recurrent = shapes.get("recurrent_kernel")
    depthwise = shapes.get("depthwise_kernel")
    if depthwise is not None and len(depthwise) > 1:
        pointwise = shapes.get("pointwise_kernel")
        return depthwise[-2], pointwise[-1] if pointwise else depthwise[-2] * depthwise[-1]
    if kernel is not None and len(kernel) > 1:
        if recurrent is not None:
            # Two directions double the output, or add up: either is a multiple of one direction's.
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
    """Tell whether a layer may directly follow another; flattening and reshaping multiply and divide."""
    given, taken = before[1], after[0]
    return 0 in (given, taken) or given % taken == 0 or taken % given == 0


# What keras.applications calls its networks.
_APPLICATION = re.compile(
    r"^(vgg1[69]|xception|inception_v3|inception_resnet_v2|res(net|next)\d+(v2)?|densenet\d+|NASNet"
    r"|mobilenet(v2)?_[\d.]+_\d+|efficientnetb\d)$"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Layer:
    """A layer as the names show it: its scope, its weights (indices), and whether some never train."""

    name: str
    weights: tuple[int, ...]
    moving: bool
    shapes: tuple[tuple[int, ...], ...]
    ends: Ends


def layers_by_name(
    weights: Sequence[Weight], *, plain: bool, model: str
) -> list[tuple[str, tuple[int, ...]]]:
    """Give the layers in order, each with the indices of its weights in the order of its group.

    `plain` is the user's word that nothing was frozen and no model is inside the model; `model` the name of
    the model that holds the list. Raises Undecided where the names and shapes leave more than one order.
    """
    where = model
    layers, first_moving = _partition(weights, where)
    upper = [layer for layer in layers if layer.weights[0] < first_moving]
    lower = _second_part(weights, layers, first_moving)
    _refuse_visibly_frozen(weights, layers, first_moving, where)
    order = _merge(upper, lower, where)
    _refuse_falling_numbers(upper, lower, where)
    if not plain:
        _refuse_possibly_nested(upper, model)
        _refuse_hidden(upper, lower, where)
    return [(layer.name, layer.weights) for layer in order]


def _partition(weights: Sequence[Weight], where: str) -> tuple[list[_Layer], int]:
    """Divide the list by scopes; give the layers as they first appear and where the second part begins."""
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
    """List the layers of the part that does not train, in its order."""
    by_name = {layer.name: layer for layer in layers}
    names = dict.fromkeys(layer_scope(weight.name) for weight in weights[first_moving:])
    return [by_name[name] for name in names]


def _refuse_visibly_frozen(
    weights: Sequence[Weight], layers: Sequence[_Layer], first_moving: int, where: str
) -> None:
    """Refuse where weights that train stand among those that do not: their layer was frozen."""
    for layer in layers:
        frozen = layer.weights[0] >= first_moving
        if frozen and any(leaf(clean(weights[index].name)) not in NEVER_TRAINED for index in layer.weights):
            raise _undecided(
                f"{layer.name!r} was frozen, and its place among the trained layers is not written down",
                where,
                plain=False,
            )


def _merge(upper: Sequence[_Layer], lower: Sequence[_Layer], where: str) -> list[_Layer]:
    """Put the layers that never train between their neighbours."""
    places = {layer.name: index for index, layer in enumerate(upper)}
    anchors = [places[layer.name] for layer in lower if layer.name in places]
    if anchors != sorted(anchors):
        raise _undecided(
            "the two parts of the list have their layers in different orders", where, plain=False
        )
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
            plain=False,
        )


def _refuse_hidden(upper: Sequence[_Layer], lower: Sequence[_Layer], where: str) -> None:
    """Refuse where the last layers of the first part may be frozen ones that belong further up.

    A layer with moving averages betrays every frozen layer behind it, so only layers before the first of
    those can hide, and they would have to go before it. What Keras would notice (another shape in that place)
    and what contradicts the numbers Keras gave the layers is no danger.
    """
    names = [layer.name for layer in upper]
    limit = len(upper)
    if lower and lower[0].name in names and names[-1] != lower[0].name:
        limit = names.index(lower[0].name) + 1
    _refuse_better_chain(upper, limit, where)
    later_by_shapes: dict[tuple[tuple[int, ...], ...], list[_Layer]] = {}
    for place in range(len(upper) - 1, -1, -1):
        layer = upper[place]
        alike = later_by_shapes.setdefault(layer.shapes, [])
        if place < limit:
            other = next((later for later in alike if not _numbered_before(layer, later)), None)
            if other is not None:
                raise _undecided(
                    f"{layer.name!r} and {other.name!r} have equal shapes: if {other.name!r} was frozen, "
                    f"it may belong before {layer.name!r}",
                    where,
                )
        if limit == len(upper) or not layer.moving:
            # Only the nearest of a kind that is numbered has to be looked at: the others are numbered on.
            if not alike or not _numbered_before(layer, alike[-1]):
                alike.append(layer)
            else:
                alike[-1] = layer


def _refuse_possibly_nested(layers: Sequence[_Layer], model: str) -> None:
    """Refuse names that tell nothing of where they come from, and a model that was not the first to be built.

    Keras numbers layers and models as they are built. A model inside the model was built before it, and its
    layers look like all others. Keras's own networks are known to have none.
    """
    if _APPLICATION.match(model):
        return
    strange = next((layer for layer in layers if not is_automatic_name(layer.name)), None)
    if strange is not None:
        raise _undecided(
            f"{strange.name!r} is no name that Keras gave, so it may be part of a model inside the model",
            model,
        )
    kin, number = family(model)
    from_zero = any(family(layer.name)[1] == 0 for layer in layers)
    fresh = from_zero or any(family(layer.name)[1] == 1 for layer in layers)
    before = number - (0 if from_zero and kin != "functional" else 1)
    if kin in {"model", "sequential", "functional"} and fresh and before > 0:
        raise _undecided(f"a model was built before {model!r}, and may be inside it", model)


def _refuse_falling_numbers(upper: Sequence[_Layer], lower: Sequence[_Layer], where: str) -> None:
    """Refuse numbers that fall along the list: something was frozen, or was built as a model of its own.

    Branches are listed by depth, so their numbers may fall a little; where moving averages fix the order only
    a family that does not begin with its lowest number is suspicious.
    """
    last: dict[str, _Layer] = {}
    first: dict[str, _Layer] = {}
    for layer in upper:
        kin, numbers = numbered(layer.name)
        known = first.setdefault(kin, layer) if lower else last.get(kin, layer)
        if numbered(known.name)[1] > numbers:
            raise _undecided(
                f"{layer.name!r} stands behind {known.name!r}: it may have been frozen, or be part of a "
                "model inside the model",
                where,
                plain=False,
            )
        last[kin] = layer


def _refuse_better_chain(upper: Sequence[_Layer], limit: int, where: str) -> None:
    """Refuse where outputs and inputs join better with the last layers, as a frozen beginning, in front.

    Keras would notice such a mistake by the shapes, but the file would still not be the one it saved.
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
            raise _undecided(
                f"{upper[place - 1].name!r} does not lead into {layer.name!r}, but {last.name!r} would lead "
                f"into {first.name!r}: what stands behind may have been frozen and belong in front",
                where,
            )


def _numbered_before(layer: _Layer, other: _Layer) -> bool:
    """Tell whether Keras numbered one layer before the other, so that it cannot come after it."""
    kin, numbers = numbered(layer.name)
    other_kin, other_numbers = numbered(other.name)
    return kin == other_kin and numbers < other_numbers


def _undecided(what: str, where: str, *, plain: bool = True) -> Undecided:
    return Undecided(
        f"the names alone do not settle the order of layers: {what}",
        where=where,
        remedies=(GIVE_JSON, *((SAY_PLAIN,) if plain else ())),
    )
