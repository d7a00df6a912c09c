"""Choose among the readings of a flat list: the only one that fits, the one that names confirm, or none."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Literal

from remap.assignment.expected import ExpectedModel, free_flags, stored_once
from remap.assignment.name_rules import (
    by_counter,
    by_inner_rank,
    by_listed_name,
    by_rank,
    by_scope,
    by_scope_or_suffix,
    by_suffix,
)
from remap.assignment.reading import Candidates, Lists, Problem, Reading, disorder, distinction, keep_better
from remap.assignment.search import TooManyReadings, read_list
from remap.checkpoint import Weight
from remap.weight_names import family

__all__ = [
    "Basis",
    "Choice",
    "decide",
    "decide_by_reference",
    "decide_or_once",
]


Basis = Literal["fit", "names", "custom", "flags"]
_Rule = Callable[[Problem], Candidates]


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """The chosen reading and why it was chosen, or why there is none.

    Attributes:
        reading: The reading; None if none was chosen.
        basis: ``fit`` if positions, leaf names and shapes allow only this one; ``names`` if names chose among several;
            ``custom`` if names had to separate the weights of custom layers; ``flags`` if the trainable flags of the
            reference model chose and no name contradicts.
        fits: Whether any reading fits.
    """

    reading: Reading | None = None
    basis: Basis = "fit"
    fits: bool = True


_MISFIT = Choice(fits=False)
_UNDECIDED = Choice()


def decide(weights: Sequence[Weight], expected: ExpectedModel, *, inside: bool) -> Choice:
    """Read a list by an architecture that has the trainable flags of the model that was saved.

    Args:
        weights: The list.
        expected: The architecture.
        inside: Whether the weights of each layer inside nested models have to be known, and not only the saved order of
            each group.
    """
    return _decide(Problem(weights, expected, inside=inside))


def _decide(problem: Problem) -> Choice:
    named = cache(lambda: _named(problem))
    fitting = _readings(problem, brief=True)
    if fitting is None:
        # Names choose only among readings that fit, so they may be compared first where there are many: it is faster.
        choice = _choose(problem, named())
        if choice.reading is not None:
            return choice
        fitting = _readings(problem, brief=False)
    if fitting is not None and len(fitting) < 2:
        return Choice(reading=fitting[0]) if fitting else _MISFIT
    return _choose(problem, named() or fitting or [])


def _named(problem: Problem) -> list[Reading]:
    """Find the readings that names confirm, by the strictest rules that confirm any."""
    for rules, strict in (
        ((by_scope, by_suffix), True),
        ((by_scope_or_suffix,), True),
        ((by_scope_or_suffix,), False),
    ):
        found = _confirmed(problem, rules, strict=strict)
        if not strict:
            found = [reading for reading in found if not disorder(problem, reading)]
        if found:
            return found
    return []


def decide_by_reference(
    weights: Sequence[Weight], expected: ExpectedModel, *, flags: bool, ordered: bool, inside: bool
) -> Choice:
    """Read a list by a reference model.

    The trainable flags of the reference model may differ from those of the checkpoint. So flags count only if no name
    contradicts, names count only if no flag contradicts, and a reading that is the only one to fit counts without names
    only if nothing but flags can differ.

    Args:
        weights: The list.
        expected: The layers of the reference model.
        flags: Whether it has trainable flags and the layers of nested models.
        ordered: Whether it lists layers in the order of the Keras that wrote the checkpoint.
        inside: As for `decide`.
    """
    free = Problem(weights, free_flags(expected), inside=inside)
    by_names = cache(lambda: _by_names_or_flags(free.flagged(expected), free, flags=flags, ordered=ordered))
    fitting = _readings(free, brief=True)
    if fitting is None:
        choice = by_names()  # first, as above
        if choice.reading is not None:
            return choice
        fitting = _readings(free, brief=False)
    if fitting == []:
        return _MISFIT
    if fitting is not None and len(fitting) == 1 and ((flags and ordered) or _uncontradicted(free)):
        return Choice(reading=fitting[0])
    return by_names()


def decide_or_once(
    expected: ExpectedModel, read: Callable[[ExpectedModel], Choice]
) -> tuple[ExpectedModel, Choice]:
    """Read a list in which a shared layer stands in each of its places, or else in the first only.

    Args:
        expected: The layers, with a shared layer in each of its places.
        read: Reads the list by such layers.

    Returns:
        The layers by which the list was read, and the choice.
    """
    choice = read(expected)
    if not choice.fits and (once := stored_once(expected)) is not None:
        return once, read(once)
    return expected, choice


def _by_names_or_flags(problem: Problem, free: Problem, *, flags: bool, ordered: bool) -> Choice:
    """Choose among the readings under any trainable flags, by names and by the flags of the reference model."""
    listed = _confirmed(free, (by_listed_name,), strict=True)
    if len(listed) == 1:
        return Choice(reading=listed[0], basis="names")
    given = _decide(problem).reading if flags else None
    named = _confirmed(free, (by_scope, by_suffix, by_rank, by_inner_rank), strict=True)
    if not named:
        named = _confirmed(free, (by_scope_or_suffix,), strict=True)
    if named:
        choice = _choose(free, named)
        if choice.reading is not None and disorder(free, choice.reading):
            return _UNDECIDED  # a custom layer would own the weights of several
        if choice.reading is None and given is not None and _any_frozen(problem):
            allowed = any(distinction(free, reading) == distinction(free, given) for reading in named)
            if allowed and _counters(free, given):
                return Choice(reading=given, basis="flags")
            return _UNDECIDED
        same = (
            given is None
            or choice.reading is None
            or distinction(free, choice.reading) == distinction(free, given)
        )
        return choice if same else _UNDECIDED
    if given is None or disorder(free, given):
        return _UNDECIDED
    agree = _counters(free, given)
    if agree and _any_frozen(problem):
        return Choice(reading=given, basis="flags")
    if agree is False or not ordered or not _ascending(free) or _unscoped(free, given):
        return _UNDECIDED
    # A model that was built again and not frozen has flags too, which say nothing about the checkpoint.
    if _contradicted(free, given) and (not _any_frozen(problem) or _names_suffice(free)):
        return _UNDECIDED
    return Choice(reading=given, basis="flags")


def _counters(free: Problem, given: Reading) -> bool | None:
    """Tell whether the counters of scopes agree with a reading; None if they tell nothing.

    Nested models with the same names inside have the same names of weights but for the counters. There the flags alone are
    not enough: if such models have equal shapes, the flags of a reference model that froze another one fit as well.
    """
    counted = _confirmed(free, (by_counter,), strict=True)
    return (
        {distinction(free, reading) for reading in counted} == {distinction(free, given)} if counted else None
    )


def _uncontradicted(problem: Problem) -> bool:
    """Tell whether the names allow the only reading that fits."""
    return bool(
        _confirmed(problem, (by_rank,), strict=True)
        or (
            _confirmed(problem, (by_listed_name,), strict=False)
            and _confirmed(problem, (by_scope_or_suffix,), strict=False)
            and _confirmed(problem, (by_rank,), strict=False)
        )
    )


def _unscoped(problem: Problem, reading: Reading) -> bool:
    """Tell whether a custom layer has weights without a scope in a reading, which may be those of one that has none."""
    owned = [reading.spans[number].indices for number, layer in enumerate(problem.layers) if layer.custom]
    return not all(owned) and any(not problem.scopes[index] for indices in owned for index in indices)


def _contradicted(problem: Problem, reading: Reading) -> bool:
    """Tell whether the name of a weight matches another layer than the one that has it in a reading."""
    named, ranked = _by_rule(problem, by_scope_or_suffix), _by_rule(problem, by_rank)
    return any(
        named[index] and number not in named[index] | ranked[index]
        for number, span in enumerate(reading.spans)
        for index in span.indices
    )


def _any_frozen(problem: Problem) -> bool:
    return any(layer.trainable and layer.splits[0] < layer.trainable for layer in problem.layers)


def _names_suffice(problem: Problem) -> bool:
    """Tell whether names allow a reading, except for weights without a scope in custom layers."""
    custom = frozenset(number for number, layer in enumerate(problem.layers) if layer.custom)
    candidates = tuple(owners or custom for owners in _by_rule(problem, by_scope_or_suffix))
    try:
        return bool(read_list(problem, candidates=candidates, brief=True))
    except TooManyReadings:
        return True


def _readings(problem: Problem, *, brief: bool) -> list[Reading] | None:
    """Find the readings that fit, whatever the scopes are; None if there are too many."""
    try:
        return list(read_list(problem, brief=brief).values())
    except TooManyReadings:
        return None


def _confirmed(problem: Problem, rules: Iterable[_Rule], *, strict: bool) -> list[Reading]:
    """Find the readings that a rule confirms."""
    found: dict[Lists, Reading] = {}
    for candidates in dict.fromkeys(_by_rule(problem, rule) for rule in rules):
        try:
            readings = read_list(problem, candidates=candidates, strict=strict)
        except TooManyReadings:
            continue
        for listed, reading in readings.items():
            keep_better(found, problem, listed, reading)
    return list(found.values())


def _by_rule(problem: Problem, rule: _Rule) -> Candidates:
    if rule not in problem.candidates:
        problem.candidates[rule] = rule(problem)
    return problem.candidates[rule]


def _choose(problem: Problem, readings: Sequence[Reading]) -> Choice:
    """Take the only reading; of several that differ in custom layers only, the one that keeps scopes together."""
    if len(readings) < 2:
        return Choice(reading=readings[0], basis="names") if readings else _UNDECIDED
    known = [number for number, layer in enumerate(problem.layers) if not layer.custom]
    if len({tuple(_owned(reading, known)) for reading in readings}) > 1:
        return _UNDECIDED
    ordered_readings = [reading for reading in readings if not disorder(problem, reading)]
    return Choice(reading=ordered_readings[0], basis="custom") if len(ordered_readings) == 1 else _UNDECIDED


def _owned(reading: Reading, numbers: Iterable[int]) -> Iterable[tuple[int, ...]]:
    return (reading.spans[number].indices for number in numbers)


def _ascending(problem: Problem) -> bool:
    """Tell whether the automatic numbers rise along the list, as they do if nothing was frozen."""
    last: dict[str, int] = {}
    seen: set[str] = set()
    for path in problem.scopes:
        head = path.partition("/")[0]
        if head in seen:
            continue
        seen.add(head)
        kind, number = family(head)
        if last.setdefault(kind, number) > number:
            return False
        last[kind] = number
    return True
