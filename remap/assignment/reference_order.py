"""The order in which a reference model's `load_weights` expects the weights of nested models.

The group of a nested model in a flat file is one list: what trains, then what does not, in layer order. Its order depends
on the trainable flags of the model that *loads* it, and where shapes are equal no Keras notices another order. So the
weights that the checkpoint's own flags placed are listed again by the flags of the reference model: by the names of its
weights where it is a file, by its config where it is JSON.

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

from remap.assignment.decide import Verdict, decide, decide_by_reference
from remap.assignment.expected import ExpectedLayer, ExpectedModel, ExpectedSubmodel, iter_layers, stored_once
from remap.assignment.reading import Lists, Reading, Span
from remap.assignment.reference import Reference
from remap.checkpoint import LayerGroup, Weight
from remap.errors import Undecided
from remap.weight_names import clean, family, layer_scope, same_but_for_numbers

__all__ = ["ByName", "contradicted_inside", "listed_by_name", "reference_lists"]

# More combinations of flags that the config leaves open are not tried.
_MOST_COMBINATIONS = 256

_SAME_CODE = "make the reference model with the code that built the trained model"
_SAVE_WEIGHTS = "give the weights of the very model to load into: model.save_weights('like.h5')"

Sides = tuple[tuple[int, ...], tuple[int, ...]]
"""What of a layer trains and what does not, as indices into the checkpoint's list."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ByName:
    """The checkpoint's weights in the order of a reference file's groups, matched by the names of the weights.

    `lists` has for each group of the file, those without weights included, the indices of its weights. `saved` has the
    same in the order of the checkpoint's list, nothing for a group of which a shared layer hides that. `exact` says that
    the names are the same, and not only numbered alike.
    """

    lists: Lists
    saved: Lists
    exact: bool


# --- by the names of a reference file ---------------------------------------------------------------------------------


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
    """Drop the device slot, which Keras 3 does not write."""
    return clean(name).partition(":")[0]


def _as_they_are(ours: Sequence[str], _: Sequence[str]) -> list[str] | None:
    return list(ours)


def _renumbered(ours: Sequence[str], theirs: Sequence[str]) -> list[str] | None:
    """Give our layers their numbers, where each family of automatic names is off by one number throughout.

    A session that had built other models before goes on counting.
    """
    lowest_ours, lowest_theirs = _lowest(ours), _lowest(theirs)
    if lowest_ours.keys() != lowest_theirs.keys():
        return None
    names = []
    for name in ours:
        head, slash, rest = name.partition("/")
        kin, number = family(head)
        moved = number + lowest_theirs[kin] - lowest_ours[kin]
        names.append((f"{kin}_{moved}" if moved else kin) + slash + rest)
    return names


def _lowest(names: Iterable[str]) -> dict[str, int]:
    lowest: dict[str, int] = {}
    for name in names:
        kin, number = family(name.partition("/")[0])
        lowest[kin] = min(lowest.get(kin, number), number)
    return lowest


def _without_counter(ours: Sequence[str], _: Sequence[str]) -> list[str] | None:
    """Take one counter off every scope: TensorFlow 1 counts up what is built twice in one session."""
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

    Every group has one run in the part that trains and one in the rest, whatever was frozen inside it.
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
    """Put each group in the checkpoint's order, where no weight of another group says that it had a different one."""
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
    """Tell whether names that differ do so by numbers only, in the same order on both sides.

    The pairs are one to one.
    """
    if all(ours == theirs for theirs, ours in pairs):
        return True
    partner = dict(pairs)
    seen: dict[tuple[str, str], list[tuple[int, int]]] = defaultdict(list)
    for theirs, ours in pairs:
        (their_kin, their_number), (our_kin, our_number) = family(theirs), family(ours)
        if partner.get(ours, ours) != ours:
            return False
        if their_kin != our_kin and theirs not in (our_kin, ours):
            return False
        seen[their_kin, our_kin].append((their_number, our_number))
    # The order of their numbers is that of ours.
    return all(
        sorted(numbers) == sorted(numbers, key=lambda pair: (pair[1], pair[0])) for numbers in seen.values()
    )


# --- by the layers of an architecture ---------------------------------------------------------------------------------


def reference_lists(
    weights: Sequence[Weight], outline: ExpectedModel, reading: Reading, like: Reference, *, own: bool
) -> Lists:
    """List the weights of each part of an outline as the reference model's `load_weights` expects them.

    Args:
        weights: The checkpoint's list.
        outline: The layers by which the list was read.
        reading: Which weights each layer owns.
        like: The reference model.
        own: Whether the outline's flags are the checkpoint's own, and not the reference model's.

    Returns:
        For each part of the outline the indices of its weights.

    Raises:
        Undecided: Where the reference model does not tell the order, or is another model.
    """
    spans = iter(reading.spans)
    placed = [(part, [next(spans) for _ in iter_layers((part,))]) for part in outline]
    if like.groups is not None:
        return _lists_by_groups(weights, placed, like)
    theirs = _matched(outline, like)
    shown = _shown_to_train(outline, reading) if own else frozenset()
    return tuple(
        _lists_by_flags(part, owned, theirs, like, shown)
        if isinstance(part, ExpectedSubmodel)
        else _of(owned[0])
        for part, owned in placed
    )


def _shown_to_train(outline: ExpectedModel, reading: Reading) -> frozenset[tuple[str, ...]]:
    """Find the custom layers of which every weight that was read as trainable is.

    A layer that certainly trains has to stand behind it in the same list: where nothing does, the last of its weights
    may as well be the first of those that do not train.
    """
    placed = [
        (unit, span, _list_of(unit.path, reading))
        for unit, span in zip(iter_layers(outline), reading.spans, strict=True)
    ]
    last: dict[tuple[str, ...], int] = {}
    for unit, span, whose in placed:
        if not unit.open and min(unit.splits):
            last[whose] = max(last.get(whose, -1), span.start)
    return frozenset(
        unit.path
        for unit, span, whose in placed
        if unit.open and unit.splits[0] and not span.others and span.start < last.get(whose, -1)
    )


def _list_of(path: tuple[str, ...], reading: Reading) -> tuple[str, ...]:
    """Give the innermost frozen model around a layer, whose list its weights are in."""
    ends = range(len(path), 0, -1)
    return next((path[:end] for end in ends if path[:end] in reading.frozen), ())


def _of(span: Span) -> tuple[int, ...]:
    return (*span.trainable, *span.rest)


def _lists_by_groups(
    weights: Sequence[Weight],
    placed: Sequence[tuple[ExpectedLayer | ExpectedSubmodel, list[Span]]],
    like: Reference,
) -> Lists:
    """Follow the groups of a file: by the names of weights, else by reading each group as the model it is."""
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
    """Find for each layer its group in the reference file: by name where all names are the same, else by place."""
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
    """Read a group of the file by the flags of the model it was saved from, or by no flags where they are not known."""
    units = list(iter_layers(part.children))
    theirs = part if matched is None else matched[part.path]
    if matched is not None and isinstance(theirs, ExpectedSubmodel):
        outline = _as_listed(theirs, like)
        verdict = decide(group.weights, outline, apart=True)
        if not verdict.fits and (once := stored_once(outline)) is not None:
            verdict = decide(group.weights, once, apart=True)
    elif any(unit.same_as is not None for unit in units):
        verdict = Verdict()  # in which of its places the layer is listed is not known
    else:
        verdict = decide_by_reference(
            group.weights, part.children, flags=False, ordered=like.ordered, apart=True
        )
    if verdict.reading is None:
        raise Undecided(
            f"the reference model does not tell in which order it loads the nested model {part.path[-1]!r}",
            where=like.where,
            hint=_SAVE_WEIGHTS + ", in a session that has built nothing before",
        )
    read = {
        unit.path: _of(span) for unit, span in zip(iter_layers((theirs,)), verdict.reading.spans, strict=True)
    }
    at: dict[int, int] = {}
    for unit, span in zip(units, owned, strict=True):
        places = read.get(unit.path if matched is None else matched[unit.path].path, ())
        if len(_of(span)) != len(places):
            raise _another_model(like)
        at.update(zip(places, _of(span), strict=True))
    if at.keys() != set(range(len(group.weights))):
        raise _another_model(like)
    return tuple(at[index] for index in range(len(group.weights)))


def _as_listed(nest: ExpectedSubmodel, like: Reference) -> ExpectedModel:
    """Give the layers of a nested model with the flags by which its group is listed."""
    return nest.children if like.ordered or nest.trainable else _all_frozen(nest.children)


def _all_frozen(outline: ExpectedModel) -> ExpectedModel:
    return tuple(
        replace(part, children=_all_frozen(part.children))
        if isinstance(part, ExpectedSubmodel)
        else replace(part, splits=(0,))
        for part in outline
    )


def _another_model(like: Reference) -> Undecided:
    return Undecided(
        "the reference model is another model than the checkpoint's: its layers have other weights",
        where=like.where,
        hint=_SAME_CODE,
    )


def _matched(
    outline: ExpectedModel, like: Reference
) -> dict[tuple[str, ...], ExpectedLayer | ExpectedSubmodel]:
    """Find for each layer of an outline the same layer of the reference model: by name, else by place."""
    ours, theirs = dict(_walked(outline)), dict(_walked(like.outline))
    if ours.keys() == theirs.keys():
        pairs = [(part, theirs[path]) for path, part in ours.items()]
    else:
        pairs = list(zip(ours.values(), theirs.values(), strict=False)) if like.ordered else []
        if len(pairs) != len(ours) or len(pairs) != len(theirs):
            raise _another_model(like)
    if not all(itertools.starmap(_alike, pairs)):
        raise _another_model(like)
    return {part.path: other for part, other in pairs}


def _walked(outline: ExpectedModel) -> Iterator[tuple[tuple[str, ...], ExpectedLayer | ExpectedSubmodel]]:
    for part in outline:
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
    if ours.open or theirs.open or ours.same_as is not None:
        return True
    return [slot.leaf for slot in ours.slots] == [slot.leaf for slot in theirs.slots]


def _lists_by_flags(
    part: ExpectedSubmodel,
    owned: Sequence[Span],
    theirs: Mapping[tuple[str, ...], ExpectedLayer | ExpectedSubmodel],
    like: Reference,
    shown: frozenset[tuple[str, ...]],
) -> tuple[int, ...]:
    """List a nested model by the flags of the reference model's config."""
    units = list(iter_layers((part,)))
    choices = [
        _counts(unit, theirs[unit.path], span, known=unit.path in shown)
        for unit, span in zip(units, owned, strict=True)
    ]
    if prod(map(len, choices)) > _MOST_COMBINATIONS:
        raise _untold(part, like)
    # A reference model may list the same layers in another order: Keras 3 sorts branches by rules of its own.
    nest = theirs[part.path]
    place = {theirs[unit.path].path: number for number, unit in enumerate(units)}
    turn = [place[unit.path] for unit in iter_layers((nest,))]
    if len(turn) != len(units):
        raise _another_model(like)
    lists = set()
    for counts in itertools.product(*choices):
        for whole in _whole_models(nest, like):
            sides = [
                (_of(span)[:count], _of(span)[count:]) for span, count in zip(owned, counts, strict=True)
            ]
            lists.add(whole(nest, iter([sides[number] for number in turn])))
    if len(lists) != 1:
        raise _untold(part, like)
    return lists.pop()


def _counts(
    unit: ExpectedLayer, theirs: ExpectedLayer | ExpectedSubmodel, span: Span, *, known: bool
) -> tuple[int, ...]:
    """Say how many weights of a layer train in the reference model; several where its config leaves that open."""
    if not isinstance(theirs, ExpectedLayer):
        return (0,)
    count = len(_of(span))
    if unit.open:
        if not theirs.splits[0]:
            return (0,)
        # Where its weights stand in one piece, the part that trains may end anywhere in it.
        apart = span.length > 0 and span.others > 0 and span.other != span.start + span.length
        return (span.length,) if apart or known or not count else tuple(range(count + 1))
    splits = tuple(dict.fromkeys(min(split, count) for split in theirs.splits))
    # A wrapper and what it wraps may have different flags; which one counts the checkpoint's Keras has shown.
    return (span.length,) if span.length in splits else splits


def _untold(part: ExpectedSubmodel, like: Reference) -> Undecided:
    return Undecided(
        f"the reference model's config does not tell which weights of the nested model {part.path[-1]!r} are trainable",
        where=like.where,
        hint=_SAVE_WEIGHTS,
    )


_Lister = Callable[[ExpectedLayer | ExpectedSubmodel, Iterator[Sides]], tuple[int, ...]]


def _whole_models(theirs: ExpectedLayer | ExpectedSubmodel, like: Reference) -> tuple[_Lister, ...]:
    """Say in which ways the flags of models themselves may count."""
    frozen = frozenset(nest.path for nest in _nests(theirs) if not nest.trainable)
    if not like.ordered:
        return (_one_by_one,) if theirs.path in frozen else (_by_layers(frozenset()),)
    # JSON has the flag, but a model that is built from it does not: the two may expect different orders.
    return (_by_layers(frozenset()), _by_layers(frozen)) if frozen else (_by_layers(frozenset()),)


def _nests(part: ExpectedLayer | ExpectedSubmodel) -> Iterator[ExpectedSubmodel]:
    if isinstance(part, ExpectedSubmodel):
        yield part
        for child in part.children:
            yield from _nests(child)


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
