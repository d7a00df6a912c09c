"""The names Keras 3 gives and allows."""

from __future__ import annotations

import re
from collections.abc import Iterable

__all__ = ["number_names", "snake_case", "valid_names"]


def snake_case(class_name: str) -> str:
    """Write a class name as Keras 3's saving library does (`to_snake_case` in keras/src/utils/naming.py)."""
    name = re.sub(r"\W+", "", class_name)
    name = re.sub(r"(.)([A-Z][a-z]+)", r"\1_\2", name)
    return re.sub(r"([a-z])([A-Z])", r"\1_\2", name).lower()


def number_names(names: Iterable[str]) -> list[str]:
    """Tell equal names apart as `_get_unique_name` in saving_lib.py does: dense, dense_1, dense_2."""
    seen: dict[str, int] = {}
    numbered = []
    for name in names:
        count = seen.get(name)
        seen[name] = 0 if count is None else count + 1
        numbered.append(name if count is None else f"{name}_{count + 1}")
    return numbered


# What Keras 3 may call the steps by which it makes and joins masks; no layer beside them may be called so.
_STEP = re.compile(r"(any|concatenate|expand_dims|logical_or|not_equal|ones_like|zeros_like)(_\d+)?")


def valid_names(names: Iterable[tuple[str, str]], *, masks: bool = False) -> list[str]:
    """Make (name, class name) pairs into names that Keras 3 takes: not empty, no slash, none twice.

    Where there are `masks`, names are changed that the steps by which Keras 3 makes them may get.
    """
    pairs = list(names)
    sound = {name for name, _ in pairs if name and "/" not in name and not (masks and _STEP.fullmatch(name))}
    taken = set(sound)
    valid = []
    numbers: dict[str, int] = {}
    for name, class_name in pairs:
        if name in sound:
            valid.append(name)
            continue
        wanted = name.replace("/", "_") or snake_case(class_name)
        if _STEP.fullmatch(wanted):
            wanted += "_layer"
        # From the last number on: those before stay taken, so that all names are found in linear work.
        number = numbers.get(wanted, 0)
        free = f"{wanted}_{number}" if number else wanted
        while free in taken:
            number += 1
            free = f"{wanted}_{number}"
        numbers[wanted] = number
        taken.add(free)
        valid.append(free)
    return valid
