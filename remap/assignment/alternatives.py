"""Decide whether Keras would load an order of layers into a model that has another one.

The flat list of a model is the trainable weights of its layers, in layer order, and then all others, in layer order. Its
names do not tell which layers were frozen, nor what is nested. Here nothing is assumed of either:

    **Theorem.** Let a file have one group for each scope of the list, each group with the weights of the scope in the order
    of the list. Let a model have the same list, and no scope whose weights belong to two of its layers. If Keras loads the
    file into the model by order, the model's layers are the groups, in an order that keeps for some cut of the list the
    order of layers in front of it and the order of layers behind it.

    *Proof.* Keras compares the number of layers that have weights. The file has as many groups as there are scopes, and each
    layer of the model has the weights of at least one scope and shares none. So each has exactly one: a nested model that
    loads has one layer with weights, and cannot be told from that layer. The cut is where the trainable weights end. The
    weights of one layer that stand in front of it are neighbours, and so are those behind it, both in layer order; and its
    group in a flat file is the ones and then the others, as in the list. ∎

So if Keras would refuse every other order that keeps these two orders for some cut, each model that has the list either
refuses the file, or it is the file that Keras saved for it. No flag, class or name of a layer was used.

- A frozen layer stands behind the cut with all its weights, a normalization layer with its moving averages, wherever the
  cut is. A layer with weights on both sides of other layers' shows the cut: it is between them.
- A wrapper (Bidirectional, TimeDistributed) is a layer; a custom layer is one if its weights have one scope. If they have
  several, or a layer shares its weights with another one (stored once or twice), the numbers of layers or of weights differ.
- Whether Keras would load is asked of the most lenient one. Every Keras compares the numbers of layers and of weights. Keras
  on TensorFlow 1.15, and TensorFlow 2.3 without eager execution, compare of shapes only the numbers of axes (seen), and the
  first layer that has other weights than its own then fails on its input, unless it takes as many features. Others transpose
  a kernel of four axes to (3, 2, 0, 1) and convert the bias of a recurrent layer before they compare.
- Loading by name goes by the names of groups, which are those of the scopes: nothing is proved of it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from remap.assignment.listed import Listed

__all__ = ["NOTHING", "Known", "TooManyOrders", "may_take", "other_order"]

_STEPS_PER_LAYER = 100
_MOST_STEPS = 100_000  # of a short list

Shapes = tuple[tuple[int, ...] | None, ...]
"""The shapes of a layer's weights; None for one that Keras converts."""


class TooManyOrders(Exception):
    """There are too many orders to look at all of them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """What is known of the model that has a list, besides the list.

    Attributes:
        chains: Layers that the model has in this order, as places in the given order.
        first: Whether the first layer of the given order is that of the model.
        last: How many layers at the end of the given order are those at the end of the model.
        trained: How many weights of the list may be trainable at most; None if that is not known.
    """

    chains: Sequence[Sequence[int]] = ()
    first: bool = False
    last: int = 0
    trained: int | None = None

    def __bool__(self) -> bool:
        """Tell whether anything is known."""
        return bool(self.chains or self.first or self.last or self.trained is not None)


NOTHING = Known()


def other_order(order: Sequence[Listed], known: Known = NOTHING) -> tuple[str, str] | None:
    """Find an order of layers in which a model could have the list, and would load a file with the given order.

    Args:
        order: The layers of a list, in the order of a file.
        known: What is known of the model.

    Returns:
        A layer of the file, and the layer of the model that would get its weights; None if there is no such order.

    Raises:
        TooManyOrders: If the layers have too many orders with equal shapes.
    """
    return _Search(order, known).result()


class _Search:
    """All merges of two parts of a list that have the shapes of one order.

    Layers are numbered as in the order. A cut behind `count` layers of the first part leaves two lists to merge: these
    layers, and the others in the order in which they stand behind the cut. A layer that is in both has to be next in both.
    """

    def __init__(self, order: Sequence[Listed], known: Known) -> None:
        self.order = order
        every = sum(len(layer.weights) for layer in order)
        self.end = end = min((layer.again for layer in order if layer.again is not None), default=every)
        listed = sorted(range(len(order)), key=lambda number: order[number].weights[0])
        self.first = [number for number in listed if order[number].weights[0] < end]
        behind = {
            number: next(place for place in layer.weights if place >= end)
            for number, layer in enumerate(order)
            if layer.weights[-1] >= end
        }
        self.rest = sorted(behind, key=behind.__getitem__)
        self.both = behind.keys() & set(self.first)
        # So many layers the given order begins with in the order of the first part, and none of them is in the rest.
        self.common = next(
            (place for place, number in enumerate(self.first) if number != place or number in behind),
            len(self.first),
        )
        self.exact = [_comparable(layer) for layer in order]
        self.axes = [_axes(shapes) for shapes in self.exact]
        self.known = known
        self.before: dict[int, set[int]] = defaultdict(set)
        for chain in known.chains:
            for earlier, later in pairwise(chain):
                self.before[later].add(earlier)
        self.place = {number: place for place, number in enumerate([*self.first, *self.rest])}
        self.place |= {number: place for place, number in enumerate(self.first)}
        self.steps = max(_MOST_STEPS, _STEPS_PER_LAYER * len(order))

    def result(self) -> tuple[str, str] | None:
        """Look at every cut that parts no layer: behind the last one whose weights show it, up to the rest.

        A cut that parts one layer, between its own weights, leaves no other order than a cut before or behind it.
        """
        least = max((place for place, number in enumerate(self.first, 1) if number in self.both), default=0)
        seen = _Seen(self)
        for count in range(self._most() + 1):
            start = self._start(count, seen) if count >= least else None
            found = self._merged(count, start) if start is not None else None
            if found is not None:
                return self.order[found[0]].name, self.order[found[1]].name
            if count < self.common:
                seen.add(count)
        return None

    def _most(self) -> int:
        """Count the layers of the first part that may be trainable."""
        trained, end = self.known.trained, self.end
        if trained is None:
            return len(self.first)
        return sum(
            max(place for place in self.order[number].weights if place < end) < trained
            for number in self.first
        )

    def _start(self, count: int, seen: _Seen) -> int | None:
        """Find the first place at which an order may differ from the given one; None if none does."""
        found = seen.like(self.first[count]) if count < len(self.first) else None
        if found is None and self.common < len(self.order):
            return self.common
        return found

    def _merged(self, count: int, start: int) -> tuple[int, int] | None:
        """Merge, and give the first pair of different layers of a merge that Keras would load."""
        same: _State | None = (min(start, count), max(start - count, 0))
        others: dict[_State, tuple[int, int]] = {}
        for place in range(start, len(self.order)):
            following: dict[_State, tuple[int, int]] = {}
            for state, pair in others.items():
                for number, after in self._next(count, state, place):
                    if self.axes[number] == self.axes[place]:
                        following.setdefault(after, pair)
            options = () if same is None else tuple(self._next(count, same, place))
            same = next((after for number, after in options if number == place), None)
            for number, after in options:
                if number != place and may_take(self.order[place], self.order[number]):
                    following.setdefault(after, (place, number))
            others = following
            if same is None and not others:
                return None
        return next(iter(others.values()), None)

    def _next(self, count: int, state: _State, place: int) -> Iterator[tuple[int, _State]]:
        """Give the layers that may be next, at a place of the model, and what is merged then."""
        self.steps -= 1
        if self.steps < 0:
            raise TooManyOrders
        for number, after in self._either(count, state):
            if self._allowed(number, place) and self._follows_known(number, count, state):
                yield number, after

    def _allowed(self, number: int, place: int) -> bool:
        """Tell whether a layer may stand at a place, as far as the ends of the model are known."""
        last = len(self.order) - self.known.last
        return number == place or (
            max(number, place) < last and not (self.known.first and 0 in (number, place))
        )

    def _follows_known(self, number: int, count: int, state: _State) -> bool:
        """Tell whether all layers are merged of which it is known that they stand before a layer."""
        places = (self.place[earlier] for earlier in self.before.get(number, ()))
        return all(place < state[0] if place < count else place - count < state[1] for place in places)

    def _either(self, count: int, state: _State) -> Iterator[tuple[int, _State]]:
        upper, lower = state
        ours = self.first[upper] if upper < count else None
        theirs = self._behind(count + lower)
        if ours is not None and ours == theirs:
            yield ours, (upper + 1, lower + 1)
            return
        if ours is not None and ours not in self.both:
            yield ours, (upper + 1, lower)
        if theirs is not None and theirs not in self.both:
            yield theirs, (upper, lower + 1)

    def _behind(self, place: int) -> int | None:
        if place < len(self.first):
            return self.first[place]
        place -= len(self.first)
        return self.rest[place] if place < len(self.rest) else None


def may_take(ours: Listed, theirs: Listed) -> bool:
    """Tell whether a layer would take the weights of another one in some Keras, if all layers before it have their own."""
    exact = [_comparable(layer) for layer in (ours, theirs)]
    axes = [_axes(shapes) for shapes in exact]
    if axes[0] != axes[1]:
        return False
    taken = ours.ends[0], theirs.ends[0]
    return all(map(_takes, *exact)) or taken[0] == taken[1] or 0 in taken


_State = tuple[int, int]
"""How many layers of either list are merged."""


class _Seen:
    """The first layers of each shape, to find the first one that may take the weights of a later one."""

    def __init__(self, search: _Search) -> None:
        self._search = search
        self._sides: dict[object, int] = {}
        self._taking: dict[tuple[object, int], int] = {}
        self._axes: dict[object, int] = {}

    def add(self, number: int) -> None:
        axes, taken = self._search.axes[number], self._search.order[number].ends[0]
        self._sides.setdefault(self._sides_of(number), number)
        self._taking.setdefault((axes, taken), number)
        self._axes.setdefault(axes, number)

    def like(self, number: int) -> int | None:
        axes, taken = self._search.axes[number], self._search.order[number].ends[0]
        found = [self._sides.get(self._sides_of(number))]
        if taken:
            found += [self._taking.get((axes, taken)), self._taking.get((axes, 0))]
        else:
            found.append(self._axes.get(axes))
        return min((place for place in found if place is not None), default=None)

    def _sides_of(self, number: int) -> object:
        """Give what equal shapes have in common, transposed or not."""
        return tuple(shape and tuple(sorted(shape)) for shape in self._search.exact[number])


def _axes(shapes: Shapes) -> tuple[int | None, ...]:
    return tuple(None if shape is None else len(shape) for shape in shapes)


def _comparable(layer: Listed) -> Shapes:
    """Give the shapes of a layer without those that Keras converts."""
    return tuple(
        None if layer.recurrent and leaf == "bias" else shape
        for leaf, shape in zip(layer.leaves, layer.shapes, strict=True)
    )


def _takes(ours: tuple[int, ...] | None, theirs: tuple[int, ...] | None) -> bool:
    """Tell whether an array of one shape fits a variable of another one, transposed if it has four axes."""
    if ours is None or theirs is None or len(ours) != 4:
        return ours == theirs
    return theirs in (ours, (ours[3], ours[2], ours[0], ours[1]))
