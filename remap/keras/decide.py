"""Which of several readings of a flat list holds: what fits alone, what the names confirm, or none."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Literal

from remap.keras.checkpoint import Weight
from remap.keras.evidence import (
    Testimony,
    by_listed_name,
    by_rank,
    by_scope,
    by_scope_or_suffix,
    by_suffix,
)
from remap.keras.naming import clean, family, scope
from remap.keras.outline import Outline, Unit, free_flags, units_of
from remap.keras.reading import Lists, Reading, disorder, keep_tidiest, lists
from remap.keras.search import TooManyReadings, read_list

__all__ = ["Basis", "Verdict", "decide", "decide_by_like"]

Basis = Literal["fit", "names", "custom", "flags"]
_Witness = Callable[[Sequence[str], Sequence[Unit]], Testimony]


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


def decide(weights: Sequence[Weight], outline: Outline) -> Verdict:
    """Settle a list by an architecture with the very flags of the model that was saved."""
    named = cache(lambda: _named(weights, outline))
    fitting = _readings(weights, outline, brief=True)
    if fitting is None:
        # Names choose only among what fits, so they may be asked first where that is much: it is faster.
        verdict = _choose(weights, outline, named())
        if verdict.reading is not None:
            return verdict
        fitting = _readings(weights, outline, brief=False)
    if fitting is not None and len(fitting) < 2:
        return Verdict(reading=fitting[0]) if fitting else _MISFIT
    return _choose(weights, outline, named() or fitting or [])


def _named(weights: Sequence[Weight], outline: Outline) -> list[Reading]:
    """Find the readings that names confirm, by the strictest way of asking that confirms any."""
    for witnesses, strict in (
        ((by_scope, by_suffix), True),
        ((by_scope_or_suffix,), True),
        ((by_scope_or_suffix,), False),
    ):
        found = _confirmed(weights, outline, witnesses, strict=strict)
        if not strict:
            found = [reading for reading in found if not disorder(weights, outline, reading)]
        if found:
            return found
    return []


def decide_by_like(weights: Sequence[Weight], outline: Outline, *, flags: bool, ordered: bool) -> Verdict:
    """Settle a list by an architecture that someone gave for it.

    `flags` says that the outline has trainable flags and the layers of models inside the model; the flags may
    still differ from those of the checkpoint. `ordered` says that its Keras orders layers as the Keras of the
    checkpoint did. So the flags count only where the names do not object, names count only where the flags
    do not, and what alone fits counts without names only where nothing but flags can differ.
    """
    free = free_flags(outline)
    by_names = cache(lambda: _by_names_or_flags(weights, outline, free, flags=flags, ordered=ordered))
    fitting = _readings(weights, free, brief=True)
    if fitting is None:
        verdict = by_names()  # first, as above
        if verdict.reading is not None:
            return verdict
        fitting = _readings(weights, free, brief=False)
    if fitting == []:
        return _MISFIT
    if fitting is not None and len(fitting) == 1 and ((flags and ordered) or _unopposed(weights, free)):
        return Verdict(reading=fitting[0])
    return by_names()


def _by_names_or_flags(
    weights: Sequence[Weight], outline: Outline, free: Outline, *, flags: bool, ordered: bool
) -> Verdict:
    """Choose among the readings of an outline with free flags by names and by the flags it came with."""
    listed = _confirmed(weights, free, (by_listed_name,), strict=True)
    if len(listed) == 1:
        return Verdict(reading=listed[0], basis="names")
    given = decide(weights, outline).reading if flags else None
    named = _confirmed(weights, free, (by_scope, by_suffix, by_rank), strict=True)
    if not named:
        named = _confirmed(weights, free, (by_scope_or_suffix,), strict=True)
    if named:
        verdict = _choose(weights, free, named)
        same = given is None or verdict.reading is None or lists(free, verdict.reading) == lists(free, given)
        return verdict if same else _UNDECIDED
    if given is None or not ordered or not _ascending(weights):
        return _UNDECIDED
    if disorder(weights, free, given):
        return _UNDECIDED
    # A model that was built anew and not frozen has flags too; they are nobody's word.
    if _opposed(weights, free, given) and (not _any_frozen(outline) or _names_suffice(weights, free)):
        return _UNDECIDED
    return Verdict(reading=given, basis="flags")


def _unopposed(weights: Sequence[Weight], outline: Outline) -> bool:
    """Tell whether the names allow what alone fits."""
    return bool(
        _confirmed(weights, outline, (by_rank,), strict=True)
        or (
            _confirmed(weights, outline, (by_listed_name,), strict=False)
            and _confirmed(weights, outline, (by_scope_or_suffix,), strict=False)
        )
    )


def _opposed(weights: Sequence[Weight], outline: Outline, reading: Reading) -> bool:
    """Tell whether a name speaks for another layer than the reading gives its weight to."""
    names, units = [weight.name for weight in weights], list(units_of(outline))
    spoken, ranked = by_scope_or_suffix(names, units), by_rank(names, units)
    return any(
        spoken[index] and number not in spoken[index] | ranked[index]
        for number, span in enumerate(reading.spans)
        for index in (*span.trainable, *span.rest)
    )


def _any_frozen(outline: Outline) -> bool:
    return any(unit.natural and unit.splits[0] < unit.natural for unit in units_of(outline))


def _names_suffice(weights: Sequence[Weight], outline: Outline) -> bool:
    """Tell whether names make a reading, but for weights without a scope in layers of the user's own class."""
    units = list(units_of(outline))
    custom = frozenset(number for number, unit in enumerate(units) if unit.open)
    spoken = by_scope_or_suffix([weight.name for weight in weights], units)
    testimony = tuple(owners or custom for owners in spoken)
    try:
        return bool(read_list(weights, outline, testimony=testimony, brief=True))
    except TooManyReadings:
        return True


def _readings(weights: Sequence[Weight], outline: Outline, *, brief: bool) -> list[Reading] | None:
    """Find what fits without a look at scopes; None when that is too much to tell apart."""
    try:
        return read_list(weights, outline, brief=brief)
    except TooManyReadings:
        return None


def _confirmed(
    weights: Sequence[Weight], outline: Outline, witnesses: Iterable[_Witness], *, strict: bool
) -> list[Reading]:
    """Find the readings that some witness confirms."""
    names = [weight.name for weight in weights]
    units = list(units_of(outline))
    found: dict[Lists, Reading] = {}
    for testimony in dict.fromkeys(witness(names, units) for witness in witnesses):
        try:
            readings = read_list(weights, outline, testimony=testimony, strict=strict)
        except TooManyReadings:
            continue
        keep_tidiest(found, weights, outline, readings)
    return list(found.values())


def _choose(weights: Sequence[Weight], outline: Outline, readings: Sequence[Reading]) -> Verdict:
    """Take the one reading; among several that differ in custom layers only, the one that hangs together."""
    if len(readings) < 2:
        return Verdict(reading=readings[0], basis="names") if readings else _UNDECIDED
    units = list(units_of(outline))
    closed = [number for number, unit in enumerate(units) if not unit.open]
    if len({tuple(_owned(reading, closed)) for reading in readings}) > 1:
        return _UNDECIDED
    tidy = [reading for reading in readings if not disorder(weights, outline, reading)]
    return Verdict(reading=tidy[0], basis="custom") if len(tidy) == 1 else _UNDECIDED


def _owned(reading: Reading, numbers: Iterable[int]) -> Iterable[tuple[int, ...]]:
    return ((*reading.spans[number].trainable, *reading.spans[number].rest) for number in numbers)


def _ascending(weights: Sequence[Weight]) -> bool:
    """Tell whether the automatic numbers rise along the list, as they do where nothing was frozen."""
    last: dict[str, int] = {}
    seen: set[str] = set()
    for weight in weights:
        head = scope(clean(weight.name)).partition("/")[0]
        if head in seen:
            continue
        seen.add(head)
        kin, number = family(head)
        if last.setdefault(kin, number) > number:
            return False
        last[kin] = number
    return True
