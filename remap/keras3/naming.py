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


def valid_names(names: Iterable[tuple[str, str]]) -> list[str]:
    """Make (name, class name) pairs into names that Keras 3 takes: not empty, no slash, none twice."""
    pairs = list(names)
    taken = {name for name, _ in pairs if name and "/" not in name}
    valid = []
    for name, class_name in pairs:
        if name and "/" not in name:
            valid.append(name)
            continue
        wanted = name.replace("/", "_") or snake_case(class_name)
        free, number = wanted, 0
        while free in taken:
            number += 1
            free = f"{wanted}_{number}"
        taken.add(free)
        valid.append(free)
    return valid
