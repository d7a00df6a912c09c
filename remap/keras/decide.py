"""Which of several readings of a flat list holds: what fits alone, what the names confirm, or none."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Literal

from remap.keras.case import Case, Testimony
from remap.keras.checkpoint import Weight
from remap.keras.evidence import (
    by_listed_name,
    by_rank,
    by_scope,
    by_scope_or_suffix,
    by_suffix,
)
from remap.keras.match import TooManyReadings
from remap.keras.naming import family
from remap.keras.outline import Outline, free_flags
from remap.keras.reading import Lists, Reading, disorder, distinction, keep_tidier
from remap.keras.search import read_list

__all__ = ["Basis", "Verdict", "decide", "decide_by_like"]

Basis = Literal["fit", "names", "custom", "flags"]
_Witness = Callable[[Case], Testimony]


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


def decide(weights: Sequence[Weight], outline: Outline, *, apart: bool) -> Verdict:
    """Settle a list by an architecture with the very flags of the model that was saved.

    With `apart` the layers inside nested models are told apart; without, only the saved order of each group counts.
    """
    return _decide(Case(weights, outline, apart=apart))


def _decide(case: Case) -> Verdict:
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


def _named(case: Case) -> list[Reading]:
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


def decide_by_like(
    weights: Sequence[Weight], outline: Outline, *, flags: bool, ordered: bool, apart: bool
) -> Verdict:
    """Settle a list by an architecture that someone gave for it.

    `flags` says that the outline has trainable flags and the layers of models inside the model; the flags may
    still differ from those of the checkpoint. `ordered` says that its Keras orders layers as the Keras of the
    checkpoint did. So the flags count only where the names do not object, names count only where the flags
    do not, and what alone fits counts without names only where nothing but flags can differ.
    """
    free = Case(weights, free_flags(outline), apart=apart)
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


def _by_names_or_flags(case: Case, free: Case, *, flags: bool, ordered: bool) -> Verdict:
    """Choose among the readings of an outline with free flags by names and by the flags it came with."""
    listed = _confirmed(free, (by_listed_name,), strict=True)
    if len(listed) == 1:
        return Verdict(reading=listed[0], basis="names")
    given = _decide(case).reading if flags else None
    named = _confirmed(free, (by_scope, by_suffix, by_rank), strict=True)
    if not named:
        named = _confirmed(free, (by_scope_or_suffix,), strict=True)
    if named:
        verdict = _choose(free, named)
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


def _unopposed(case: Case) -> bool:
    """Tell whether the names allow what alone fits."""
    return bool(
        _confirmed(case, (by_rank,), strict=True)
        or (
            _confirmed(case, (by_listed_name,), strict=False)
            and _confirmed(case, (by_scope_or_suffix,), strict=False)
            and _confirmed(case, (by_rank,), strict=False)
        )
    )


def _opposed(case: Case, reading: Reading) -> bool:
    """Tell whether a name speaks for another layer than the reading gives its weight to."""
    spoken, ranked = _heard(case, by_scope_or_suffix), _heard(case, by_rank)
    return any(
        spoken[index] and number not in spoken[index] | ranked[index]
        for number, span in enumerate(reading.spans)
        for index in (*span.trainable, *span.rest)
    )


def _any_frozen(case: Case) -> bool:
    return any(unit.natural and unit.splits[0] < unit.natural for unit in case.units)


def _names_suffice(case: Case) -> bool:
    """Tell whether names make a reading, but for weights without a scope in layers of the user's own class."""
    custom = frozenset(number for number, unit in enumerate(case.units) if unit.open)
    testimony = tuple(owners or custom for owners in _heard(case, by_scope_or_suffix))
    try:
        return bool(read_list(case, testimony=testimony, brief=True))
    except TooManyReadings:
        return True


def _readings(case: Case, *, brief: bool) -> list[Reading] | None:
    """Find what fits without a look at scopes; None when that is too much to tell apart."""
    try:
        return list(read_list(case, brief=brief).values())
    except TooManyReadings:
        return None


def _confirmed(case: Case, witnesses: Iterable[_Witness], *, strict: bool) -> list[Reading]:
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


def _heard(case: Case, witness: _Witness) -> Testimony:
    if witness not in case.heard:
        case.heard[witness] = witness(case)
    return case.heard[witness]


def _choose(case: Case, readings: Sequence[Reading]) -> Verdict:
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


def _ascending(case: Case) -> bool:
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
