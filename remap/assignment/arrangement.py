"""Put the layers of a flat list in their likeliest order.

A frozen layer stands behind all trainable ones, wherever it is in the model. Names do not tell its place; what the layers
compute and how the wrapper calls its ends often do. Nothing here is proof: `alternatives` decides whether Keras would notice
that an order is wrong.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from remap.assignment.evidence import Ends, numbered_order
from remap.assignment.listed import MOST_CUTS, Listed, follows, parted
from remap.layers import NEVER_TRAINED

__all__ = ["Arrangement", "arrange"]

# How unlikely it is that one layer follows another, or that a layer is at an end of the model.
_IMPOSSIBLE = 30  # an Embedding that is not first, another layer at an end than the wrapper says
_OTHER_SIZE = 12  # neither number of features is a multiple of the other one
_MORE_AXES = 8  # a convolution over images behind a layer over vectors
_MULTIPLE = 3  # flattened, reshaped or concatenated between, or a convolution over series behind vectors
# A frozen layer is not assumed where nothing shows one unless it makes an order so much likelier; if the caller says that
# nothing was frozen, only if the other order is impossible.
_MARGIN = 15
_SAID = 29


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrangement:
    """An order of layers.

    Attributes:
        order: The layers in order.
        plain: Whether nothing was frozen if this is the order.
        anchored: Whether a layer has weights in both parts of the list, and shows by that how the parts belong together.
        guessed: Whether a normalization without trainable weights is where one is usually put, for want of another reason.
    """

    order: tuple[Listed, ...]
    plain: bool
    anchored: bool
    guessed: bool = False


def arrange(layers: Sequence[Listed], ends: Ends, *, plain: bool = False) -> Arrangement | str:
    """Find the likeliest order of the layers of a list.

    Args:
        layers: The layers in the order of their first weights.
        ends: What is known of the ends of the model.
        plain: Whether the caller says that nothing was frozen.

    Returns:
        The order, or why there is none or more than one.
    """
    parts = _Parts(layers, ends)
    if parts.problem:
        return parts.problem
    found = list(parts.arrangements())
    orders = {one.order: one for one in found if not isinstance(one, str)}
    if not orders:
        return next(one for one in found if isinstance(one, str))
    margin = _SAID if plain else _MARGIN
    costs = {order: parts.cost(order) - margin * one.plain for order, one in orders.items()}
    best = [order for order, cost in costs.items() if cost == min(costs.values())]
    if len(best) > 1:
        return f"{best[0][0].name!r} or {best[1][0].name!r} may be the first layer"
    contradiction = ends.contradiction(best[0])
    ordered = numbered_order(layers, ends) if contradiction else None
    if ordered is not None:
        return Arrangement(order=ordered, plain=False, anchored=False)
    return contradiction or orders[best[0]]


class _Parts:
    """The first part of a list, the rest, and what the positions alone tell.

    The first part ends where a layer is continued behind other layers: from there on nothing is trainable. Nor is anything
    behind the first weight with a name that Keras gives to no trainable weight.
    """

    def __init__(self, layers: Sequence[Listed], ends: Ends) -> None:
        self.ends = ends
        self.layers = layers
        self.guessed = False
        self.end, self.first, self.rest = parted(layers)
        self.both = [layer for layer in self.first if layer.weights[-1] >= self.end]
        self.anchors = frozenset(layer.name for layer in self.both)
        never = [layer.never_trained for layer in layers if layer.never_trained is not None]
        self.frozen_from = min([self.end, *never])
        self.most = sum(self._last_in_front(layer) < self.frozen_from for layer in self.first)
        self.problem = self._problem()

    def _last_in_front(self, layer: Listed) -> int:
        return max(place for place in layer.weights if place < self.end)

    def _problem(self) -> str:
        """Say why no model has such a list, or ""."""
        for layer in self.layers:
            if sum(later != earlier + 1 for earlier, later in pairwise(layer.weights)) > 1:
                return f"the weights named {layer.name!r} stand in more places than one layer's would"
        if [layer.name for layer in self.rest if layer.name in self.anchors] != [
            layer.name for layer in self.both
        ]:
            return "the two parts of the list have their layers in different orders"
        if self.both and self.first.index(self.both[-1]) >= self.most:
            return f"{self.first[self.most].name!r} has weights that are never trained before some that are"
        return ""

    def arrangements(self) -> Iterator[Arrangement | str]:
        """Give the likeliest order for each place at which frozen layers may begin."""
        least = self.first.index(self.both[-1]) + 1 if self.both else 0
        likely = [
            count
            for count in range(max(least, 1), self.most)
            if self._strain(self.first[count - 1], self.first[count]) >= _MULTIPLE
        ]
        for count in [*likely[-MOST_CUTS:], self.most]:
            yield self._arranged(count)
        inside = self.most < len(self.first) and self.first[self.most].weights[0] < self.frozen_from
        if inside and not self.both:
            # Keras lists the beginning of one layer as trainable, and then all that is not.
            yield Arrangement(
                order=tuple(self.first), plain=_untrainable(self.first[self.most + 1 :]), anchored=False
            )

    def _arranged(self, count: int) -> Arrangement | str:
        """Merge `count` layers of the first part with all others, between the layers that are in both parts."""
        upper = _divided(self.first[:count], self.anchors)
        lower = _divided([*self.first[count:], *self.rest], self.anchors)
        self.guessed = False
        order: list[Listed] = []
        for number, (ours, theirs) in enumerate(zip(upper, lower, strict=True)):
            after = self.both[number] if number < len(self.both) else None
            place = self._place(order[-1] if order else None, ours, theirs, after)
            if place is None:
                return f"{theirs[0].name!r} has no trainable weights: it may stand anywhere around {ours[0].name!r}"
            order += [*ours[:place], *theirs, *ours[place:], *([] if after is None else [after])]
        plain = count == self.most and _untrainable(layer for layers in lower for layer in layers)
        return Arrangement(order=tuple(order), plain=plain, anchored=bool(self.both), guessed=self.guessed)

    def _place(
        self,
        before: Listed | None,
        ours: Sequence[Listed],
        theirs: Sequence[Listed],
        after: Listed | None,
    ) -> int | None:
        """Find where among trainable layers the others of one stretch stand, if one place is the likeliest."""
        if not ours or not theirs:
            return 0
        costs = [
            self._strain(left, theirs[0]) + self._strain(theirs[-1], right) - self._strain(left, right)
            for left, right in pairwise([before, *ours, after])
        ]
        if not self.both and not _untrainable(theirs):
            # Frozen layers between trainable ones that nothing else holds there are most often a nested model.
            return 0 if costs[0] + _MULTIPLE < min(_OTHER_SIZE, *costs[1:]) else None
        likeliest = [place for place, cost in enumerate(costs) if cost == min(costs)]
        if len(likeliest) > 1 and theirs[0].normalizes:
            # A normalization normalizes what one layer computed for another one, and not what is normalized already.
            self.guessed = True
            neighbours = [before, *ours, after]
            likeliest = [place for place in likeliest if _compute(neighbours[place : place + 2])]
        return likeliest[0] if len(likeliest) == 1 else None

    def cost(self, order: Sequence[Listed]) -> int:
        """Tell how unlikely an order is."""
        return sum(self._strain(before, after) for before, after in pairwise([None, *order, None]))

    def _strain(self, before: Listed | None, after: Listed | None) -> int:
        """Tell how unlikely it is that a layer follows another one; None stands for an end of the model."""
        if before is None:
            return _IMPOSSIBLE * (after is not None and self.ends.first not in ("", after.name))
        if after is None:
            return _IMPOSSIBLE * (bool(self.ends.last) and before.name not in self.ends.last)
        if after.reads_input:
            return _IMPOSSIBLE * (self.ends.one_input and not before.reads_input)
        strain = 0
        if 0 < before.axes < after.axes and after.axes > 2:
            strain = _MORE_AXES if after.axes > 3 else _MULTIPLE
        if not follows(before.ends, after.ends):
            return strain + _OTHER_SIZE
        given, taken = before.ends[1], after.ends[0]
        if given == taken or 0 in (given, taken):
            return strain
        return strain + (_OTHER_SIZE if given > taken and min(before.axes, after.axes) > 2 else _MULTIPLE)


def _compute(layers: Iterable[Listed | None]) -> bool:
    """Tell whether some layers are no ends of the model and do not normalize."""
    return all(layer is not None and not layer.normalizes for layer in layers)


def _divided(layers: Sequence[Listed], at: frozenset[str]) -> list[list[Listed]]:
    """Divide layers at those of some names, which are left out."""
    parts: list[list[Listed]] = [[]]
    for layer in layers:
        if layer.name in at:
            parts.append([])
        else:
            parts[-1].append(layer)
    return parts


def _untrainable(layers: Iterable[Listed]) -> bool:
    """Tell whether layers have no trainable weights, frozen or not."""
    return all(leaf in NEVER_TRAINED for layer in layers for leaf in layer.leaves)
