"""Numbers, types and commands as people read and paste them."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from remap.hdf5.identify import show

__all__ = ["bytes_in_words", "command", "count", "dtype", "parameters", "shape"]

_KINDS = {"f": "float", "i": "int", "u": "uint", "b": "bool"}


def count(number: int, noun: str) -> str:
    """Count something: ``1 layer``, ``2 layers``."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def parameters(number: int) -> str:
    """Give a number of parameters: ``5,412`` up to a million, ``25.6 M`` above."""
    if number < 1_000_000:
        return f"{number:,}"
    return f"{number / 1e6:.1f} M" if number < 999_950_000 else f"{number / 1e9:.2f} G"


def bytes_in_words(number: int) -> str:
    """Give a number of bytes in decimal units, as most systems list them."""
    if number < 1000:
        return f"{number} bytes"
    size, units = number / 1000, ["kB", "MB", "GB", "TB"]
    while size >= 999.5 and len(units) > 1:
        size, units = size / 1000, units[1:]
    return f"{size:.1f} {units[0]}" if size < 99.95 else f"{size:.0f} {units[0]}"


def shape(sides: Sequence[int | None]) -> str:
    """Give a shape as Python would, with ``?`` for a side that is not known."""
    inside = ", ".join("?" if side is None else str(side) for side in sides)
    return f"({inside},)" if len(sides) == 1 else f"({inside})"


def dtype(short: str) -> str:
    """Give numpy's short form of a type in words: ``float32`` for ``<f4``."""
    kind = _KINDS[short[1]]
    name = kind if kind == "bool" else f"{kind}{8 * int(short[2:])}"
    return f"{name} big-endian" if short[0] == ">" else name


def command(*words: str) -> str:
    """Give a command that can be pasted into a shell."""
    return show(" ".join(("h5remap", *(shlex.quote(word) for word in words))))
