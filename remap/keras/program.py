"""An outline laid out as one sequence of instructions for whoever reads a list."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from remap.keras.outline import Nest, Outline, Unit

__all__ = ["Instruction", "lay_out"]


@dataclass(frozen=True, slots=True)
class Instruction:
    """A layer to read, or the beginning or end (`part` None) of a nested model."""

    part: Unit | Nest | None
    number: int  # of the unit, or of the instruction that ends the nested model
    depth: int


def lay_out(outline: Outline, numbers: Iterator[int], depth: int, offset: int = 0) -> Iterator[Instruction]:
    """Lay the outline out as one sequence."""
    position = offset
    for part in outline:
        if isinstance(part, Unit):
            yield Instruction(part, next(numbers), depth)
            position += 1
        else:
            inside = list(lay_out(part.children, numbers, depth + 1, position + 1))
            position += len(inside) + 1
            yield Instruction(part, position, depth)
            yield from inside
            yield Instruction(None, position, depth)
            position += 1
