"""What the names of weights say about the layers they belong to.

A witness reads every name under one assumption and says for each weight which units it may belong to: an
empty set where the name says nothing. No witness is believed alone; a reading by position has to agree.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence

from remap.keras.case import Case, Testimony
from remap.keras.naming import clean, family, runs, split_number
from remap.keras.outline import Unit

__all__ = [
    "by_listed_name",
    "by_rank",
    "by_scope",
    "by_scope_or_suffix",
    "by_suffix",
]


def by_listed_name(case: Case) -> Testimony:
    """Speak for the unit whose like-file lists a weight of that very name."""
    owners: dict[str, set[int]] = defaultdict(set)
    for index, unit in enumerate(case.units):
        for name in unit.names:
            owners[_slotless(name)].add(index)
    return tuple(frozenset(owners.get(name.partition(":")[0], ())) for name in case.names)


def by_scope(case: Case) -> Testimony:
    """Speak for the unit that bears the scope's name."""
    return _testify(case, lambda run: (run,))


def by_suffix(case: Case) -> Testimony:
    """Speak for the unit whose name is the scope's less a counter.

    TensorFlow 1 counts a scope up that is opened twice: after `cpu_relocation`, a second build or a second
    `load_model` in one session ``fc1`` lives in ``fc1_1``.
    """
    return _testify(case, _without_suffix)


def by_scope_or_suffix(case: Case) -> Testimony:
    """Speak for either: a file of which only a part was built twice."""
    return _testify(case, lambda run: (run, *_without_suffix(run)))


def by_rank(case: Case) -> Testimony:
    """Speak for the unit that is as far on in its family of automatic names as the scope is.

    ``dense_4, dense_5`` of one session are ``dense, dense_1`` of another (tf.keras starts without a number).
    A family that has more members on one side than on the other says nothing, nor does the user's own class,
    of which other layers may have weights than do in the file.
    """
    heads = [path.partition("/")[0] for path in case.scopes]
    theirs = _ranks({head for head in heads if head})
    ours = _ranks({key for unit in case.units if not unit.open for key in unit.keys})
    sizes: dict[str, int] = defaultdict(int)
    for kin, _ in ours.values():
        sizes[kin] += 1
    owners: dict[tuple[str, int], set[int]] = defaultdict(set)
    for index, unit in enumerate(case.units):
        for key in () if unit.open else unit.keys:
            owners[ours[key]].add(index)
    counts: dict[str, int] = defaultdict(int)
    for kin, _ in theirs.values():
        counts[kin] += 1
    return tuple(
        frozenset(owners.get(theirs[head], ()))
        if head and counts[theirs[head][0]] == sizes.get(theirs[head][0])
        else frozenset()
        for head in heads
    )


def _testify(case: Case, variants: Callable[[str], Iterable[str]]) -> Testimony:
    bearers: dict[str, set[int]] = defaultdict(set)
    for index, unit in enumerate(case.units):
        for key in unit.keys:
            bearers[key].add(index)
    known: dict[str, frozenset[int]] = {}
    for path in case.scopes:
        if path not in known:
            known[path] = _nearest(path, case.units, bearers, variants)
    return tuple(known[path] for path in case.scopes)


def _nearest(
    path: str,
    units: Sequence[Unit],
    bearers: Mapping[str, set[int]],
    variants: Callable[[str], Iterable[str]],
) -> frozenset[int]:
    """Find who bears the likeliest stretch of the scope; among several, who is inside a model it names."""
    if not path:
        return frozenset()
    for run in runs(path):
        found = {index for variant in variants(run) for index in bearers.get(variant, ())}
        if found:
            parts = set(path.split("/"))
            placed = {index for index in found if parts & set(units[index].path[:-1])}
            return frozenset(placed or found)
    return frozenset()


def _without_suffix(run: str) -> tuple[str, ...]:
    bare, number = split_number(run, "_")
    return (bare,) if number else ()


def _slotless(name: str) -> str:
    """Drop the device slot, which Keras 3 does not write."""
    return clean(name).partition(":")[0]


def _ranks(members: Iterable[str]) -> dict[str, tuple[str, int]]:
    """Rank the members of each family from 0 in the order of their own numbers.

    Releases write one class's automatic name in several ways: ``conv_lst_m2d`` and ``conv_lstm2d``,
    ``batch_normalization_v1`` and ``batch_normalization``.
    """
    families: dict[str, list[tuple[int, str]]] = defaultdict(list)
    for member in members:
        kin, number = family(member)
        families[kin.replace("_", "").removesuffix("v1")].append((number, member))
    return {
        member: (kin, rank)
        for kin, numbered in families.items()
        for rank, (_, member) in enumerate(sorted(numbered))
    }
