"""Match the weights of a flat list with the groups of a reference file by the names of the weights."""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from remap.assignment.reading import Lists
from remap.checkpoint import LayerGroup, Weight
from remap.weight_names import family, layer_scope, slotless

__all__ = ["ByName", "contradicted_inside", "listed_by_name"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ByName:
    """The checkpoint's weights in the order of a reference file's groups, matched by the names of the weights.

    Attributes:
        lists: For each group of the file, also those without weights, the indices of its weights.
        saved: The same in the order of the checkpoint's list; empty for a group that certainly has another one which a
            shared layer hides.
        hidden: The numbers of the groups whose order in the checkpoint is not known, because an earlier group has a layer of
            theirs as well: the checkpoint lists its weights there only.
        exact: Whether the names are the same, and not only numbered alike.
    """

    lists: Lists
    saved: Lists
    hidden: frozenset[int]
    exact: bool


def listed_by_name(weights: Sequence[Weight], groups: Sequence[LayerGroup]) -> ByName | None:
    """Match a flat list with the groups of a reference file by the names of weights.

    Args:
        weights: The checkpoint's list.
        groups: The layers of the reference file.

    Returns:
        The match, or None unless every name stands for one weight of the checkpoint, both have the same names and
        shapes, and the checkpoint's list is one that Keras writes for these groups under some trainable flags.
    """
    theirs = [[slotless(weight.name) for weight in group.weights] for group in groups]
    ours = [slotless(weight.name) for weight in weights]
    every = [name for names in theirs for name in names]
    for number, renamed in enumerate((_as_they_are, _renumbered, _without_counter)):
        names = renamed(ours, every)
        if names is None or len(set(names)) != len(names) or set(names) != set(every):
            continue
        place = {name: index for index, name in enumerate(names)}
        lists = tuple(tuple(place[name] for name in listed) for listed in theirs)
        if _same_shapes(weights, groups, lists) and _is_a_list_of(weights, lists):
            saved, hidden = _saved(weights, lists)
            return ByName(lists=lists, saved=saved, hidden=hidden, exact=number == 0)
    return None


def _as_they_are(ours: Sequence[str], _: Sequence[str]) -> list[str] | None:
    return list(ours)


def _renumbered(ours: Sequence[str], theirs: Sequence[str]) -> list[str] | None:
    """Renumber our layers as theirs, if the automatic names of each class differ by one constant number.

    A session that has built other models before continues counting.
    """
    lowest_ours, lowest_theirs = _lowest(ours), _lowest(theirs)
    if lowest_ours.keys() != lowest_theirs.keys():
        return None
    names = []
    for name in ours:
        head, slash, rest = name.partition("/")
        class_name, number = family(head)
        moved = number + lowest_theirs[class_name] - lowest_ours[class_name]
        names.append((f"{class_name}_{moved}" if moved else class_name) + slash + rest)
    return names


def _lowest(names: Iterable[str]) -> dict[str, int]:
    lowest: dict[str, int] = {}
    for name in names:
        class_name, number = family(name.partition("/")[0])
        lowest[class_name] = min(lowest.get(class_name, number), number)
    return lowest


def _without_counter(ours: Sequence[str], _: Sequence[str]) -> list[str] | None:
    """Remove one counter from every scope: TensorFlow 1 adds one to what is built twice in one session."""
    names = []
    for name in ours:
        head, slash, rest = name.partition("/")
        bare, _, number = head.rpartition("_")
        if not (slash and bare and number.isdecimal()):
            return None
        names.append(bare + slash + rest)
    return names


def _same_shapes(weights: Sequence[Weight], groups: Sequence[LayerGroup], lists: Lists) -> bool:
    return all(
        weights[index].shape == weight.shape
        for group, listed in zip(groups, lists, strict=True)
        for index, weight in zip(listed, group.weights, strict=True)
    )


def _is_a_list_of(weights: Sequence[Weight], lists: Lists) -> bool:
    """Tell whether Keras writes such a list for these groups: twice through the groups, each layer in its own order.

    Every group has one run in the trainable part and one in the rest, whatever was frozen inside it.
    """
    owner: dict[int, int] = {}
    for number, listed in enumerate(lists):
        for index in listed:
            owner.setdefault(index, number)
    owners = [owner[index] for index in range(len(weights))]
    if sum(later < earlier for earlier, later in itertools.pairwise(owners)) > 1:
        return False
    for listed in lists:
        inside: dict[str, int] = {}
        for index in listed:
            scope = layer_scope(weights[index].name)
            if index < inside.get(scope, -1):
                return False
            inside[scope] = index
    return True


def _saved(weights: Sequence[Weight], lists: Lists) -> tuple[Lists, frozenset[int]]:
    """Put each group in the checkpoint's order, and find those of which an earlier group has a layer as well.

    The checkpoint lists such a layer where the earlier group has it, so that the order of a later group of several layers
    is not known.
    """
    known: set[int] = set()
    saved = []
    hidden = set()
    for number, listed in enumerate(lists):
        own = [index for index in listed if index not in known]
        shares = len(own) < len(listed)
        rising = own == sorted(own)
        saved.append(listed if rising else () if shares else tuple(sorted(own)))
        if shares and len({_layer_of(weights[index]) for index in listed}) > 1:
            hidden.add(number)
        known.update(own)
    return tuple(saved), frozenset(hidden)


def contradicted_inside(
    weights: Sequence[Weight], groups: Sequence[LayerGroup], lists: Mapping[str, Sequence[int]]
) -> str | None:
    """Find a group whose weights may stand in another order than the reference file lists them.

    A group with the weights of several layers is a nested model, in the order of flags that need not be the
    checkpoint's. Its order holds where the names of both sides pair the layers one to one and are numbered alike, or
    where no two layers inside are built alike.

    Args:
        weights: The checkpoint's list.
        groups: The layers of the reference file.
        lists: For each group by name, the indices of the weights that would stand in its places.

    Returns:
        The name of the first such group, or None.
    """
    for group in groups:
        own = [weights[index] for index in lists.get(group.name, ())]
        if _repeats_bare_names(group.weights) or _repeats_bare_names(own):
            return group.name
        pairs = [
            (_layer_of(theirs), _layer_of(ours)) for theirs, ours in zip(group.weights, own, strict=False)
        ]
        distinct = list(dict.fromkeys(pairs))
        if max(len({theirs for theirs, _ in pairs}), len({ours for _, ours in pairs})) < 2:
            continue
        kinds: dict[tuple[str, str], list[object]] = defaultdict(list)
        for pair, weight in zip(pairs, group.weights, strict=False):
            kinds[pair].append(weight.shape)
        one_to_one = len({a for a, _ in distinct}) == len({b for _, b in distinct}) == len(distinct)
        unalike = len({tuple(shapes) for shapes in map(tuple, kinds.values())}) == len(kinds)
        if not one_to_one or not (unalike or _numbered_alike(distinct)):
            return group.name
    return None


def _layer_of(weight: Weight) -> str:
    """Name the layer of a weight, and for one without a scope the weight."""
    return layer_scope(weight.name) or slotless(weight.name)


def _repeats_bare_names(weights: Sequence[Weight]) -> bool:
    """Tell whether weights without a scope have one name: they may be those of several layers."""
    names = [slotless(weight.name) for weight in weights if not layer_scope(weight.name)]
    return len(set(names)) < len(names)


def _numbered_alike(pairs: Sequence[tuple[str, str]]) -> bool:
    """Tell whether names differ by numbers only, in the same order on both sides. The pairs are one to one."""
    if all(ours == theirs for theirs, ours in pairs):
        return True
    partner = dict(pairs)
    seen: dict[tuple[str, str], list[tuple[int, int]]] = defaultdict(list)
    for theirs, ours in pairs:
        (their_class, their_number), (our_class, our_number) = family(theirs), family(ours)
        if partner.get(ours, ours) != ours:
            return False
        if their_class != our_class and theirs not in (our_class, ours):
            return False
        seen[their_class, our_class].append((their_number, our_number))
    # The order of their numbers is that of ours.
    return all(
        sorted(numbers) == sorted(numbers, key=lambda pair: (pair[1], pair[0])) for numbers in seen.values()
    )
