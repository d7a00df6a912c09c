"""The order in which a reference model's `load_weights` expects the weights of nested models.

The group of a nested model in a flat file is one list: trainable weights, then all others, in layer order. Its order
depends on the trainable flags of the model that *loads* it, and where shapes are equal no Keras notices another order. So
the weights, which the checkpoint has in the order of its own flags, are listed in the order of the reference model's flags:
by the names of its weights if it is a file, by its config if it is JSON.

Keras up to 2.3, tf.keras and tf_keras list a model as `Network.trainable_weights` and `non_trainable_weights` say
(keras/engine/network.py), and rebuild a model from JSON without the flag of a nested model itself. Keras 3 asks each
variable whether it trains, and lists a model that is frozen as a whole layer by layer (`Layer.weights` in
keras/src/layers/layer.py, `_legacy_weights` in keras/src/legacy/saving/legacy_h5_format.py).
"""

from __future__ import annotations

import itertools
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from math import prod

from remap.assignment.decide import Choice, decide, decide_by_reference
from remap.assignment.expected import ExpectedLayer, ExpectedModel, ExpectedSubmodel, iter_layers, stored_once
from remap.assignment.reading import Lists, Reading, Span
from remap.assignment.reference import Reference
from remap.checkpoint import LayerGroup, Weight
from remap.errors import GIVE_JSON, GIVE_WEIGHTS, Undecided
from remap.weight_names import clean, family, layer_scope, same_but_for_numbers

__all__ = ["ByName", "contradicted_inside", "listed_by_name", "reference_lists", "require_same_model"]

# More combinations of flags that the config leaves open are not tried.
_MOST_COMBINATIONS = 256

_SAME_CODE = "make the reference model with the code that built the trained model"
_ITS_WEIGHTS = "give a weights file of the model to load into"

Sides = tuple[tuple[int, ...], tuple[int, ...]]
"""The trainable weights of a layer and the others, as indices into the checkpoint's list."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ByName:
    """The checkpoint's weights in the order of a reference file's groups, matched by the names of the weights.

    Attributes:
        lists: For each group of the file, also those without weights, the indices of its weights.
        saved: The same in the order of the checkpoint's list; empty for a group whose order a shared layer hides.
        exact: Whether the names are the same, and not only numbered alike.
    """

    lists: Lists
    saved: Lists
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
    theirs = [[_slotless(weight.name) for weight in group.weights] for group in groups]
    ours = [_slotless(weight.name) for weight in weights]
    every = [name for names in theirs for name in names]
    for number, renamed in enumerate((_as_they_are, _renumbered, _without_counter)):
        names = renamed(ours, every)
        if names is None or len(set(names)) != len(names) or set(names) != set(every):
            continue
        place = {name: index for index, name in enumerate(names)}
        lists = tuple(tuple(place[name] for name in listed) for listed in theirs)
        if _same_shapes(weights, groups, lists) and _is_a_list_of(weights, lists):
            return ByName(lists=lists, saved=_saved(lists), exact=number == 0)
    return None


def _slotless(name: str) -> str:
    """Remove the device slot, which Keras 3 does not write."""
    return clean(name).partition(":")[0]


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


def _saved(lists: Lists) -> Lists:
    """Put each group in the checkpoint's order, unless a weight that another group shares hides that order."""
    uses = Counter(index for listed in lists for index in listed)
    saved = []
    for listed in lists:
        own = [index for index in listed if uses[index] == 1]
        shares = len(own) < len(listed)
        rising = own == sorted(own)
        saved.append(listed if rising else () if shares else tuple(sorted(own)))
    return tuple(saved)


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
    return layer_scope(weight.name) or _slotless(weight.name)


def _repeats_bare_names(weights: Sequence[Weight]) -> bool:
    """Tell whether weights without a scope have one name: they may be those of several layers."""
    names = [_slotless(weight.name) for weight in weights if not layer_scope(weight.name)]
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


def reference_lists(
    weights: Sequence[Weight], expected: ExpectedModel, reading: Reading, like: Reference, *, own: bool
) -> Lists:
    """List the weights of each part of an expected model as the reference model's `load_weights` expects them.

    Args:
        weights: The checkpoint's list.
        expected: The layers by which the list was read.
        reading: Which weights each layer owns.
        like: The reference model.
        own: Whether the expected model's flags are the checkpoint's own, and not the reference model's.

    Returns:
        For each part of the expected model the indices of its weights.

    Raises:
        Undecided: If the reference model does not tell the order, or is another model.
    """
    placed = _placed(expected, reading)
    if like.groups is not None:
        return _lists_by_groups(weights, placed, like)
    theirs = _matched(expected, like)
    trained = _certainly_trainable(expected, reading) if own else frozenset()
    return tuple(
        _lists_by_flags(part, owned, theirs, like, trained)
        if isinstance(part, ExpectedSubmodel)
        else _of(owned[0])
        for part, owned in placed
    )


def _certainly_trainable(expected: ExpectedModel, reading: Reading) -> frozenset[tuple[str, ...]]:
    """Find the custom layers all of whose weights that were read as trainable certainly are.

    A layer that certainly has trainable weights has to follow in the same list: if none does, the last of the weights may
    as well be the first of those that are not trainable.
    """
    placed = [
        (layer, span, _list_of(layer.path, reading))
        for layer, span in zip(iter_layers(expected), reading.spans, strict=True)
    ]
    last: dict[tuple[str, ...], int] = {}
    for layer, span, listed_in in placed:
        if not layer.custom and min(layer.splits):
            last[listed_in] = max(last.get(listed_in, -1), span.start)
    return frozenset(
        layer.path
        for layer, span, listed_in in placed
        if layer.custom and layer.splits[0] and not span.others and span.start < last.get(listed_in, -1)
    )


def _list_of(path: tuple[str, ...], reading: Reading) -> tuple[str, ...]:
    """Give the innermost frozen model around a layer, whose list its weights are in."""
    ends = range(len(path), 0, -1)
    return next((path[:end] for end in ends if path[:end] in reading.frozen), ())


def require_same_model(
    weights: Sequence[Weight], expected: ExpectedModel, reading: Reading, like: Reference
) -> None:
    """Refuse a reference model that is another model than the checkpoint's, whatever its trainable flags are.

    Args:
        weights: The checkpoint's list.
        expected: The layers by which the list was read.
        reading: Which weights each layer owns.
        like: The reference model.

    Raises:
        Undecided: If it has other layers, or layers with other weights.
    """
    if like.groups is not None:
        listed = [
            (part.path[-1], [index for span in owned for index in _of(span)])
            for part, owned in _placed(expected, reading)
        ]
        listed = [(name, indices) for name, indices in listed if indices]
        groups = _paired([name for name, _ in listed], like)
        for (_, indices), group in zip(listed, groups, strict=True):
            if Counter(weights[index].shape for index in indices) != Counter(
                weight.shape for weight in group.weights
            ):
                raise _another_model(like)
        return
    if not like.ordered and dict(_walked(expected)).keys() != dict(_walked(like.expected)).keys():
        return  # layers with other names in another order cannot be compared
    theirs = _matched(expected, like)
    for layer, span in zip(iter_layers(expected), reading.spans, strict=True):
        other = theirs[layer.path]
        if layer.same_as is None and isinstance(other, ExpectedLayer) and not other.custom:
            shapes = [weights[index].shape for index in _of(span)]
            if len(shapes) != len(other.slots) or not all(
                slot.fits(shape) for slot, shape in zip(other.slots, shapes, strict=True)
            ):
                raise _another_model(like)


def _of(span: Span) -> tuple[int, ...]:
    return (*span.trainable, *span.rest)


_Placed = list[tuple[ExpectedLayer | ExpectedSubmodel, list[Span]]]


def _placed(expected: ExpectedModel, reading: Reading) -> _Placed:
    """Give the spans of each part of an expected model: one for each of its layers."""
    spans = iter(reading.spans)
    return [(part, [next(spans) for _ in iter_layers((part,))]) for part in expected]


def _lists_by_groups(
    weights: Sequence[Weight],
    placed: _Placed,
    like: Reference,
) -> Lists:
    """Follow the groups of a file: by the names of weights, else by reading each group as a list of the nested model."""
    parts = [(part, owned) for part, owned in placed if any(map(_of, owned))]
    groups = _paired([part.path[-1] for part, _ in parts], like)
    named = listed_by_name(weights, groups)
    matched = None
    if named is None and like.architecture is not None:
        matched = _matched(tuple(part for part, _ in placed), like)
    found = {}
    for number, ((part, owned), group) in enumerate(zip(parts, groups, strict=True)):
        own = [index for span in owned for index in _of(span)]
        if named is not None and set(named.lists[number]) != set(own):
            raise Undecided(
                f"the weights that the reference model calls those of {group.name!r} are another layer's in the checkpoint",
                where=like.where,
                hint=_SAME_CODE,
            )
        if isinstance(part, ExpectedLayer):
            listed = tuple(own)
        elif named is not None:
            listed = named.lists[number]
        else:
            listed = _listed_as_read(part, owned, group, like, matched)
        if [weights[index].shape for index in listed] != [weight.shape for weight in group.weights]:
            raise _another_model(like)
        found[part.path] = listed
    return tuple(found.get(part.path, ()) for part, _ in placed)


def _paired(names: Sequence[str], like: Reference) -> list[LayerGroup]:
    """Find the group of each layer in the reference file: by name if all names are the same, else by position."""
    groups = {group.name: group for group in like.groups or () if group.weights}
    if groups.keys() == set(names):
        return [groups[name] for name in names]
    pairs = list(zip(names, groups, strict=False))
    crossed = any(ours != theirs and ours in groups for ours, theirs in pairs)
    if len(groups) != len(names) or (crossed and not same_but_for_numbers(pairs)):
        raise _another_model(like)
    return list(groups.values())


def _listed_as_read(
    part: ExpectedSubmodel,
    owned: Sequence[Span],
    group: LayerGroup,
    like: Reference,
    matched: Mapping[tuple[str, ...], ExpectedLayer | ExpectedSubmodel] | None,
) -> tuple[int, ...]:
    """Read a group of the file by the flags of the model that it was saved from, or by none if they are not known."""
    layers = list(iter_layers(part.children))
    theirs = part if matched is None else matched[part.path]
    if matched is not None and isinstance(theirs, ExpectedSubmodel):
        expected = _as_listed(theirs, like)
        choice = decide(group.weights, expected, inside=True)
        if not choice.fits and (once := stored_once(expected)) is not None:
            choice = decide(group.weights, once, inside=True)
    elif any(layer.same_as is not None for layer in layers):
        choice = Choice()  # in which of its places the layer is listed is not known
    else:
        choice = decide_by_reference(
            group.weights, part.children, flags=False, ordered=like.ordered, inside=True
        )
    if choice.reading is None:
        raise Undecided(
            f"the reference model does not tell in which order it loads the nested model {part.path[-1]!r}",
            where=like.where,
            hint=_ITS_WEIGHTS + ", written in a session that has built nothing before",
            remedies=(GIVE_JSON, GIVE_WEIGHTS),
        )
    read = {
        layer.path: _of(span)
        for layer, span in zip(iter_layers((theirs,)), choice.reading.spans, strict=True)
    }
    at: dict[int, int] = {}
    for layer, span in zip(layers, owned, strict=True):
        places = read.get(layer.path if matched is None else matched[layer.path].path, ())
        if len(_of(span)) != len(places):
            raise _another_model(like)
        at.update(zip(places, _of(span), strict=True))
    if at.keys() != set(range(len(group.weights))):
        raise _another_model(like)
    return tuple(at[index] for index in range(len(group.weights)))


def _as_listed(nest: ExpectedSubmodel, like: Reference) -> ExpectedModel:
    """Give the layers of a nested model with the flags by which its group is listed."""
    return nest.children if not like.keras3 or nest.trainable else _all_frozen(nest.children)


def _all_frozen(expected: ExpectedModel) -> ExpectedModel:
    return tuple(
        replace(part, children=_all_frozen(part.children))
        if isinstance(part, ExpectedSubmodel)
        else replace(part, splits=(0,))
        for part in expected
    )


def _another_model(like: Reference) -> Undecided:
    return Undecided(
        "the reference model is another model than the checkpoint's: its layers have other weights",
        where=like.where,
        hint=_SAME_CODE,
    )


def _matched(
    expected: ExpectedModel, like: Reference
) -> dict[tuple[str, ...], ExpectedLayer | ExpectedSubmodel]:
    """Find for each expected layer the same layer of the reference model: by name, else by position."""
    ours, theirs = dict(_walked(expected)), dict(_walked(like.expected))
    if ours.keys() == theirs.keys():
        pairs = [(part, theirs[path]) for path, part in ours.items()]
    else:
        pairs = list(zip(ours.values(), theirs.values(), strict=False)) if like.ordered else []
        if len(pairs) != len(ours) or len(pairs) != len(theirs):
            raise _another_model(like)
    if not all(itertools.starmap(_alike, pairs)):
        raise _another_model(like)
    return {part.path: other for part, other in pairs}


def _walked(expected: ExpectedModel) -> Iterator[tuple[tuple[str, ...], ExpectedLayer | ExpectedSubmodel]]:
    for part in expected:
        yield part.path, part
        if isinstance(part, ExpectedSubmodel):
            yield from _walked(part.children)


def _alike(ours: ExpectedLayer | ExpectedSubmodel, theirs: ExpectedLayer | ExpectedSubmodel) -> bool:
    if isinstance(ours, ExpectedSubmodel) or isinstance(theirs, ExpectedSubmodel):
        return (
            isinstance(ours, ExpectedSubmodel)
            and isinstance(theirs, ExpectedSubmodel)
            and len(ours.children) == len(theirs.children)
        )
    if ours.custom or theirs.custom or ours.same_as is not None:
        return True
    return [slot.leaf for slot in ours.slots] == [slot.leaf for slot in theirs.slots]


def _lists_by_flags(
    part: ExpectedSubmodel,
    owned: Sequence[Span],
    theirs: Mapping[tuple[str, ...], ExpectedLayer | ExpectedSubmodel],
    like: Reference,
    trained: frozenset[tuple[str, ...]],
) -> tuple[int, ...]:
    """List the weights of a nested model by the flags of the reference model's config."""
    layers = list(iter_layers((part,)))
    choices = [
        _counts(layer, theirs[layer.path], span, known=layer.path in trained)
        for layer, span in zip(layers, owned, strict=True)
    ]
    if prod(map(len, choices)) > _MOST_COMBINATIONS:
        raise _unknown_flags(part, like)
    # A reference model may list the same layers in another order: Keras 3 sorts branches by rules of its own.
    submodel = theirs[part.path]
    place = {theirs[layer.path].path: number for number, layer in enumerate(layers)}
    turn = [place[layer.path] for layer in iter_layers((submodel,))]
    if len(turn) != len(layers):
        raise _another_model(like)
    lists = set()
    for counts in itertools.product(*choices):
        for whole in _whole_models(submodel, like):
            sides = [
                (_of(span)[:count], _of(span)[count:]) for span, count in zip(owned, counts, strict=True)
            ]
            lists.add(whole(submodel, iter([sides[number] for number in turn])))
    if len(lists) != 1:
        raise _unknown_flags(part, like)
    return lists.pop()


def _counts(
    layer: ExpectedLayer, theirs: ExpectedLayer | ExpectedSubmodel, span: Span, *, known: bool
) -> tuple[int, ...]:
    """Give how many weights of a layer are trainable in the reference model; several if its config does not tell."""
    if not isinstance(theirs, ExpectedLayer):
        return (0,)
    count = len(_of(span))
    if layer.custom:
        if not theirs.splits[0]:
            return (0,)
        # If its weights stand in one piece, the trainable part may end anywhere in it.
        apart = span.length > 0 and span.others > 0 and span.other != span.start + span.length
        return (span.length,) if apart or known or not count else tuple(range(count + 1))
    splits = tuple(dict.fromkeys(min(split, count) for split in theirs.splits))
    # A wrapper and its inner layer may have different flags; the checkpoint shows which one counts in its Keras.
    return (span.length,) if span.length in splits else splits


def _unknown_flags(part: ExpectedSubmodel, like: Reference) -> Undecided:
    return Undecided(
        f"the reference model's config does not tell which weights of the nested model {part.path[-1]!r} are trainable",
        where=like.where,
        hint=_ITS_WEIGHTS,
        remedies=(GIVE_WEIGHTS,),
    )


_Lister = Callable[[ExpectedLayer | ExpectedSubmodel, Iterator[Sides]], tuple[int, ...]]


def _whole_models(theirs: ExpectedLayer | ExpectedSubmodel, like: Reference) -> tuple[_Lister, ...]:
    """Give the ways in which the flags of models themselves may count."""
    frozen = frozenset(submodel.path for submodel in _submodels(theirs) if not submodel.trainable)
    in_keras3 = _one_by_one if theirs.path in frozen else _by_layers(frozenset())
    if like.keras3:
        return (in_keras3,)
    if like.keras3 is None:
        return (in_keras3, _by_layers(frozenset()), _by_layers(frozen))
    # JSON has the flag, but a model that is built from it does not: the two may expect different orders.
    return (_by_layers(frozenset()), _by_layers(frozen)) if frozen else (_by_layers(frozenset()),)


def _submodels(part: ExpectedLayer | ExpectedSubmodel) -> Iterator[ExpectedSubmodel]:
    if isinstance(part, ExpectedSubmodel):
        yield part
        for child in part.children:
            yield from _submodels(child)


def _one_by_one(_: ExpectedLayer | ExpectedSubmodel, sides: Iterator[Sides]) -> tuple[int, ...]:
    return tuple(index for upper, lower in sides for index in (*upper, *lower))


def _by_layers(frozen: frozenset[tuple[str, ...]]) -> _Lister:
    def lister(part: ExpectedLayer | ExpectedSubmodel, sides: Iterator[Sides]) -> tuple[int, ...]:
        upper, lower = _sides(part, sides, frozen)
        return (*upper, *lower)

    return lister


def _sides(
    part: ExpectedLayer | ExpectedSubmodel, sides: Iterator[Sides], frozen: frozenset[tuple[str, ...]]
) -> Sides:
    if isinstance(part, ExpectedLayer):
        return next(sides)
    upper: list[int] = []
    lower: list[int] = []
    for child in part.children:
        above, below = _sides(child, sides, frozen)
        if isinstance(child, ExpectedSubmodel) and child.path in frozen:
            above, below = (), (*above, *below)
        upper += above
        lower += below
    return tuple(upper), tuple(lower)
