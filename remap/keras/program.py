"""An outline laid out as one sequence of instructions for whoever reads a list."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from remap.keras.outline import Nest, Outline, Unit

__all__ = ["Instruction", "lay_out"]


class Instruction(NamedTuple):
    """A layer to read (`unit`), the beginning of a nested model (`nest`), or without either its end."""

    unit: Unit | None
    nest: Nest | None
    number: int  # of the unit, or of the instruction that ends the nested model
    depth: int


def lay_out(outline: Outline, numbers: Iterator[int], depth: int, offset: int = 0) -> Iterator[Instruction]:
    """Lay the outline out as one sequence."""
    position = offset
    for part in outline:
        if isinstance(part, Unit):
            yield Instruction(part, None, next(numbers), depth)
            position += 1
        else:
            inside = list(lay_out(part.children, numbers, depth + 1, position + 1))
            position += len(inside) + 1
            yield Instruction(None, part, position, depth)
            yield from inside
            yield Instruction(None, None, position, depth)
            position += 1
