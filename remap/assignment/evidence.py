"""What the wrapper and the names tell of a model whose layers stand in a flat list: its ends, and the order of layers.

This is evidence and no proof: layers may have been renamed after they were built, or built in another order than they are
called. It is asked where Keras would not notice that layers of equal shapes changed places, and what was asked is said.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from remap.assignment.alternatives import Known
from remap.assignment.listed import Listed
from remap.layers import is_automatic_name
from remap.weight_names import family, numbered

__all__ = ["Ends", "ends_of", "known_of", "numbered_order"]

# A number in a name that is not that of a class, as in conv2d.
_NUMBER = re.compile(r"(?<!\d)(\d{1,18})(?!\d|[dD](?![a-z]))")

_Numbered = tuple[str, tuple[int, ...]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Ends:
    """What the wrapper tells of the ends of a model.

    Attributes:
        first: The layer that the only input feeds; "" if that is not known.
        outputs: The layers that give the outputs, in the order of the outputs; empty if that is not known of each.
        one_input: Whether the model has one input.
        sequential: Whether the model is a Sequential, whose layers are a chain.
    """

    first: str = ""
    outputs: tuple[str, ...] = ()
    one_input: bool = True
    sequential: bool = False

    @property
    def last(self) -> frozenset[str]:
        """Give the layers of which one is the last of the model: Keras lists layers by their distance from the outputs."""
        return frozenset(self.outputs)

    def contradiction(self, order: Sequence[Listed]) -> str:
        """Say why an order has not these ends, or ""."""
        if self.last and order[-1].name not in self.last:
            return f"{min(self.last)!r} gives an output, and {order[-1].name!r} stands behind it"
        if self.first not in ("", order[0].name):
            return f"the input feeds {self.first!r}, and {order[0].name!r} stands before it"
        return ""


def ends_of(model: str, inputs: Sequence[str], outputs: Sequence[str], scopes: Iterable[str]) -> Ends:
    """Find out what the layers of the wrapper tell of the ends of a model.

    The layers that join the replicas have the names of the layers that give the outputs (since Keras 2.1.2), in the order of
    the outputs. The input of a Sequential without an InputLayer has the name of its first layer: ``dense_1_input`` is the
    input of a Sequential, whatever the model is called.

    Args:
        model: The name of the model.
        inputs: The inputs of the wrapper.
        outputs: The layers that join the replicas.
        scopes: The scopes of the list.
    """
    known = frozenset(scopes)
    first = inputs[0].removesuffix("_input") if len(inputs) == 1 else ""
    sequential = family(model)[0] == "sequential" or (first not in ("", *inputs) and is_automatic_name(first))
    first = first if sequential else ""
    found = tuple(_scope_of(output, known) for output in outputs)
    return Ends(
        first=_scope_of(first, known),
        outputs=() if "" in found else found,
        one_input=len(inputs) < 2,
        sequential=sequential,
    )


def _scope_of(layer: str, scopes: frozenset[str]) -> str:
    """Give the scope of a layer, to which TensorFlow 1 adds a counter where it was opened before; "" if there is none."""
    return next((scope for scope in (layer, f"{layer}_1") if layer and scope in scopes), "")


def known_of(order: Sequence[Listed], ends: Ends) -> Known:
    """Tell what is known of a model, if an order of its layers is the right one.

    - The input of a Sequential shows its first layer.
    - A layer that gives an output and is called once stands at the end of the model (`_at_the_end`).
    - Numbers in names rise in the order of layers (`_by_numbers`).
    - Keras gives names like ``moving_mean`` to no trainable weight, so nothing behind such a weight is trainable.
    """
    never = [layer.never_trained for layer in order if layer.never_trained is not None]
    return Known(
        chains=_by_numbers(order, ends),
        first=ends.first == order[0].name,
        last=_at_the_end(order, ends),
        trained=min(never, default=None),
    )


def _at_the_end(order: Sequence[Listed], ends: Ends) -> int:
    """Count the layers at the end of an order that are at the end of the model.

    Keras lists layers by their distance from the outputs, those of one distance in the order of the outputs. The layer that
    gives the only output is the last one; of several, one may feed another and stand before others. But a layer that was
    renamed may have the scope of another one. So the layers that give the outputs count only if automatic numbers agree:
    whatever has as many weights with as many axes as one of them is of the same class and has a lower number.
    """
    names = [layer.name for layer in order]
    last = len(ends.outputs)
    if not last or tuple(names[-last:]) != ends.outputs:
        return 0
    alike: dict[tuple[int, ...], list[str]] = defaultdict(list)
    for layer in order:
        alike[tuple(map(len, layer.shapes))].append(layer.name)
    return last if all(_outnumbered(layers, ends.last) for layers in alike.values()) else 0


def _outnumbered(layers: Sequence[str], outputs: frozenset[str]) -> bool:
    """Tell whether of layers that are alike those that give outputs have rising numbers, above those of all others."""
    if len(layers) < 2 or not outputs.intersection(layers):
        return True
    names = [_automatic(layer) for layer in layers if is_automatic_name(layer)]
    numbers = [number for _, number in names]
    if len(names) < len(layers) or len({(kind, len(number)) for kind, number in names}) > 1:
        return False
    return all(
        layer not in outputs or number > max(numbers[:place], default=())
        for place, (layer, number) in enumerate(zip(layers, numbers, strict=True))
    )


def _by_numbers(order: Sequence[Listed], ends: Ends) -> list[list[int]]:
    """List layers of which numbers in their names tell the order, as chains of places.

    Keras numbers layers as they are built, and so do people: ``block1_conv1, block1_conv2``. That is the order of a chain. A
    chain is assumed if the model is a Sequential, or if it has one input and the last layer gives the only output: if that
    one was trained, nothing behind it is frozen. Automatic numbers of a class have to follow one another: a gap is a layer
    of another model. Of numbers that people gave none may fall: they do not count the layers.

    Of two branches the one that is built later may be the longer one, whose layers stand before those of the other: if all
    its layers were frozen and the output was too, the numbers mislead.
    """
    names = [layer.name for layer in order]
    if not ends.sequential and not (ends.one_input and ends.outputs == (names[-1],)):
        return []
    automatic = {place: _automatic(name) for place, name in enumerate(names) if is_automatic_name(name)}
    given = {place: _given(name) for place, name in enumerate(names) if place not in automatic}
    if any(step > 1 for chain in _chains(automatic) for step in _steps(chain)):
        return []
    if any(step < 0 for chain in _chains(given) for step in _steps(chain)):
        return []
    return [[place for place, _ in chain] for kind in (automatic, given) for chain in _chains(kind)]


def _chains(names: Mapping[int, _Numbered]) -> Iterator[list[tuple[int, int]]]:
    """Give the places of names that differ in one number, with this number."""
    found: dict[tuple[str, int, tuple[int, ...]], list[tuple[int, int]]] = defaultdict(list)
    for place, (text, numbers) in names.items():
        for index, number in enumerate(numbers):
            found[text, index, (*numbers[:index], *numbers[index + 1 :])].append((place, number))
    return (chain for chain in found.values() if len(chain) > 1)


def _steps(chain: Sequence[tuple[int, int]]) -> list[int]:
    return [later - earlier for (_, earlier), (_, later) in pairwise(chain)]


def _automatic(name: str) -> _Numbered:
    """Take an automatic name apart; tf.keras numbers from the second layer of a class on."""
    kind, numbers = numbered(name)
    return kind, numbers or (0,)


def _given(name: str) -> _Numbered:
    parts = _NUMBER.split(name)
    return "#".join(parts[::2]), tuple(map(int, parts[1::2]))


def numbered_order(layers: Sequence[Listed], ends: Ends) -> tuple[Listed, ...] | None:
    """Order the layers of a Sequential by their numbers, if these alone explain why its output is not listed last.

    The layers of a Sequential are a chain, and the last one gives the output. If another one is listed behind it, layers
    were frozen. Their numbers tell which if all layers are of one class, the numbers follow one another from the layer that
    the input feeds to the output, and the list is two parts of the layers, each in the order of numbers. If some of them are
    those of a nested model, Keras counts fewer layers.

    Args:
        layers: The layers in the order of the list.
        ends: What is known of the ends of the model.
    """
    names = [layer.name for layer in layers]
    if not ends.sequential or not ends.first or len(ends.outputs) != 1 or names[-1] in ends.outputs:
        return None
    if not all(map(is_automatic_name, names)) or any(layer.again is not None for layer in layers):
        return None
    (chain, *others) = list(_chains(dict(enumerate(map(_automatic, names))))) or [[]]
    if others or len(chain) < len(layers) or sum(step < 0 for step in _steps(chain)) > 1:
        return None
    ordered = sorted(chain, key=lambda member: member[1])
    found = tuple(layers[place] for place, _ in ordered)
    return None if set(_steps(ordered)) != {1} or ends.contradiction(found) else found
