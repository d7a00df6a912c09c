"""Which of several readings of a flat list holds: what fits alone, what the names confirm, or none."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Literal

from remap.assignment.expected import ExpectedLayer, ExpectedModel, free_flags
from remap.assignment.reading import Candidates, Lists, Problem, Reading, disorder, distinction, keep_tidier
from remap.assignment.search import TooManyReadings, read_list
from remap.checkpoint import Weight
from remap.weight_names import clean, family, layer_scope, runs, split_number

__all__ = [
    "Basis",
    "Verdict",
    "by_inner_rank",
    "by_listed_name",
    "by_rank",
    "by_scope",
    "by_scope_or_suffix",
    "by_suffix",
    "decide",
    "decide_by_reference",
]


def by_listed_name(case: Problem) -> Candidates:
    """Speak for the unit whose like-file lists a weight of that very name."""
    owners: dict[str, set[int]] = defaultdict(set)
    for index, unit in enumerate(case.units):
        for name in unit.names:
            owners[_slotless(name)].add(index)
    return tuple(frozenset(owners.get(name.partition(":")[0], ())) for name in case.names)


def by_scope(case: Problem) -> Candidates:
    """Speak for the unit that bears the scope's name."""
    return _testify(case, lambda run: (run,))


def by_suffix(case: Problem) -> Candidates:
    """Speak for the unit whose name is the scope's less a counter.

    TensorFlow 1 counts a scope up that is opened twice: after `cpu_relocation`, a second build or a second
    `load_model` in one session ``fc1`` lives in ``fc1_1``.
    """
    return _testify(case, _without_suffix)


def by_scope_or_suffix(case: Problem) -> Candidates:
    """Speak for either: a file of which only a part was built twice.

    Where ``dense_1`` bears its layer's name, ``dense_4`` is not taken for a second ``dense``: automatic names of another
    session are numbered on.
    """
    keys = {key for unit in case.units for key in unit.keys}
    named = (next((run for run in runs(path) if run in keys), None) for path in set(case.scopes) if path)
    kins = {family(run)[0] for run in named if run is not None}
    return _testify(case, lambda run: (run, *(() if family(run)[0] in kins else _without_suffix(run))))


def by_rank(case: Problem) -> Candidates:
    """Speak for the unit that is as far on in its family of automatic names as the scope is.

    ``dense_4, dense_5`` of one session are ``dense, dense_1`` of another (tf.keras starts without a number).
    A family that has more members on one side than on the other says nothing, nor does the user's own class,
    of which other layers may have weights than do in the file.
    """
    return _ranked(case, [path.partition("/")[0] for path in case.scopes], lambda key: key)


def by_inner_rank(case: Problem) -> Candidates:
    """Speak for the unit of that rank, told by the ends of scopes: ``tower/dense_4`` is as far on as ``dense_4``.

    Where two scopes end alike the ends say nothing.
    """
    scopes = [layer_scope(name) for name in case.names]
    keys = {key for unit in case.units if not unit.open for key in unit.keys}
    if any(len(set(map(_end, paths))) < len(paths) for paths in (set(scopes), keys)):
        return tuple(frozenset() for _ in scopes)
    return _ranked(case, list(map(_end, scopes)), _end)


def _end(path: str) -> str:
    return path.rpartition("/")[2]


def _ranked(case: Problem, heads: Sequence[str], named: Callable[[str], str]) -> Candidates:
    theirs = _ranks({head for head in heads if head})
    ours = _ranks({named(key) for unit in case.units if not unit.open for key in unit.keys})
    sizes: dict[str, int] = defaultdict(int)
    for kin, _ in ours.values():
        sizes[kin] += 1
    owners: dict[tuple[str, int], set[int]] = defaultdict(set)
    for index, unit in enumerate(case.units):
        for key in () if unit.open else unit.keys:
            owners[ours[named(key)]].add(index)
    counts: dict[str, int] = defaultdict(int)
    for kin, _ in theirs.values():
        counts[kin] += 1
    return tuple(
        frozenset(owners.get(theirs[head], ()))
        if head and counts[theirs[head][0]] == sizes.get(theirs[head][0])
        else frozenset()
        for head in heads
    )


def _testify(case: Problem, variants: Callable[[str], Iterable[str]]) -> Candidates:
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
    units: Sequence[ExpectedLayer],
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


Basis = Literal["fit", "names", "custom", "flags"]
_Witness = Callable[[Problem], Candidates]


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """One reading and what settled it, or why there is none.

    `basis` is ``fit`` when positions, leaf names and shapes leave one reading, ``names`` when names chose
    among several, ``custom`` when they had to tell layers of the user's own classes apart, ``flags`` when the
    trainable flags of a like-file chose and the names did not object. Without a reading, `fits` tells
    "several fit equally well" from "none fits".
    """

    reading: Reading | None = None
    basis: Basis = "fit"
    fits: bool = True


_MISFIT = Verdict(fits=False)
_UNDECIDED = Verdict()


def decide(weights: Sequence[Weight], outline: ExpectedModel, *, apart: bool) -> Verdict:
    """Settle a list by an architecture with the very flags of the model that was saved.

    With `apart` the layers inside nested models are told apart; without, only the saved order of each group counts.
    """
    return _decide(Problem(weights, outline, apart=apart))


def _decide(case: Problem) -> Verdict:
    named = cache(lambda: _named(case))
    fitting = _readings(case, brief=True)
    if fitting is None:
        # Names choose only among what fits, so they may be asked first where that is much: it is faster.
        verdict = _choose(case, named())
        if verdict.reading is not None:
            return verdict
        fitting = _readings(case, brief=False)
    if fitting is not None and len(fitting) < 2:
        return Verdict(reading=fitting[0]) if fitting else _MISFIT
    return _choose(case, named() or fitting or [])


def _named(case: Problem) -> list[Reading]:
    """Find the readings that names confirm, by the strictest way of asking that confirms any."""
    for witnesses, strict in (
        ((by_scope, by_suffix), True),
        ((by_scope_or_suffix,), True),
        ((by_scope_or_suffix,), False),
    ):
        found = _confirmed(case, witnesses, strict=strict)
        if not strict:
            found = [reading for reading in found if not disorder(case, reading)]
        if found:
            return found
    return []


def decide_by_reference(
    weights: Sequence[Weight], outline: ExpectedModel, *, flags: bool, ordered: bool, apart: bool
) -> Verdict:
    """Settle a list by an architecture that someone gave for it.

    `flags` says that the outline has trainable flags and the layers of models inside the model; the flags may
    still differ from those of the checkpoint. `ordered` says that its Keras orders layers as the Keras of the
    checkpoint did. So the flags count only where the names do not object, names count only where the flags
    do not, and what alone fits counts without names only where nothing but flags can differ.
    """
    free = Problem(weights, free_flags(outline), apart=apart)
    by_names = cache(lambda: _by_names_or_flags(free.flagged(outline), free, flags=flags, ordered=ordered))
    fitting = _readings(free, brief=True)
    if fitting is None:
        verdict = by_names()  # first, as above
        if verdict.reading is not None:
            return verdict
        fitting = _readings(free, brief=False)
    if fitting == []:
        return _MISFIT
    if fitting is not None and len(fitting) == 1 and ((flags and ordered) or _unopposed(free)):
        return Verdict(reading=fitting[0])
    return by_names()


def _by_names_or_flags(case: Problem, free: Problem, *, flags: bool, ordered: bool) -> Verdict:
    """Choose among the readings of an outline with free flags by names and by the flags it came with."""
    listed = _confirmed(free, (by_listed_name,), strict=True)
    if len(listed) == 1:
        return Verdict(reading=listed[0], basis="names")
    given = _decide(case).reading if flags else None
    named = _confirmed(free, (by_scope, by_suffix, by_rank, by_inner_rank), strict=True)
    if not named:
        named = _confirmed(free, (by_scope_or_suffix,), strict=True)
    if named:
        verdict = _choose(free, named)
        if verdict.reading is not None and disorder(free, verdict.reading):
            return _UNDECIDED  # a custom layer would own the weights of several
        same = (
            given is None
            or verdict.reading is None
            or distinction(free, verdict.reading) == distinction(free, given)
        )
        return verdict if same else _UNDECIDED
    if given is None or not ordered or not _ascending(free):
        return _UNDECIDED
    if disorder(free, given):
        return _UNDECIDED
    # A model that was built anew and not frozen has flags too; they are nobody's word.
    if _opposed(free, given) and (not _any_frozen(case) or _names_suffice(free)):
        return _UNDECIDED
    return Verdict(reading=given, basis="flags")


def _unopposed(case: Problem) -> bool:
    """Tell whether the names allow what alone fits."""
    return bool(
        _confirmed(case, (by_rank,), strict=True)
        or (
            _confirmed(case, (by_listed_name,), strict=False)
            and _confirmed(case, (by_scope_or_suffix,), strict=False)
            and _confirmed(case, (by_rank,), strict=False)
        )
    )


def _opposed(case: Problem, reading: Reading) -> bool:
    """Tell whether a name speaks for another layer than the reading gives its weight to."""
    spoken, ranked = _heard(case, by_scope_or_suffix), _heard(case, by_rank)
    return any(
        spoken[index] and number not in spoken[index] | ranked[index]
        for number, span in enumerate(reading.spans)
        for index in (*span.trainable, *span.rest)
    )


def _any_frozen(case: Problem) -> bool:
    return any(unit.natural and unit.splits[0] < unit.natural for unit in case.units)


def _names_suffice(case: Problem) -> bool:
    """Tell whether names make a reading, but for weights without a scope in layers of the user's own class."""
    custom = frozenset(number for number, unit in enumerate(case.units) if unit.open)
    testimony = tuple(owners or custom for owners in _heard(case, by_scope_or_suffix))
    try:
        return bool(read_list(case, testimony=testimony, brief=True))
    except TooManyReadings:
        return True


def _readings(case: Problem, *, brief: bool) -> list[Reading] | None:
    """Find what fits without a look at scopes; None when that is too much to tell apart."""
    try:
        return list(read_list(case, brief=brief).values())
    except TooManyReadings:
        return None


def _confirmed(case: Problem, witnesses: Iterable[_Witness], *, strict: bool) -> list[Reading]:
    """Find the readings that some witness confirms."""
    found: dict[Lists, Reading] = {}
    for testimony in dict.fromkeys(_heard(case, witness) for witness in witnesses):
        try:
            readings = read_list(case, testimony=testimony, strict=strict)
        except TooManyReadings:
            continue
        for listed, reading in readings.items():
            keep_tidier(found, case, listed, reading)
    return list(found.values())


def _heard(case: Problem, witness: _Witness) -> Candidates:
    if witness not in case.heard:
        case.heard[witness] = witness(case)
    return case.heard[witness]


def _choose(case: Problem, readings: Sequence[Reading]) -> Verdict:
    """Take the one reading; among several that differ in custom layers only, the one that hangs together."""
    if len(readings) < 2:
        return Verdict(reading=readings[0], basis="names") if readings else _UNDECIDED
    closed = [number for number, unit in enumerate(case.units) if not unit.open]
    if len({tuple(_owned(reading, closed)) for reading in readings}) > 1:
        return _UNDECIDED
    tidy = [reading for reading in readings if not disorder(case, reading)]
    return Verdict(reading=tidy[0], basis="custom") if len(tidy) == 1 else _UNDECIDED


def _owned(reading: Reading, numbers: Iterable[int]) -> Iterable[tuple[int, ...]]:
    return ((*reading.spans[number].trainable, *reading.spans[number].rest) for number in numbers)


def _ascending(case: Problem) -> bool:
    """Tell whether the automatic numbers rise along the list, as they do where nothing was frozen."""
    last: dict[str, int] = {}
    seen: set[str] = set()
    for path in case.scopes:
        head = path.partition("/")[0]
        if head in seen:
            continue
        seen.add(head)
        kin, number = family(head)
        if last.setdefault(kin, number) > number:
            return False
        last[kin] = number
    return True
