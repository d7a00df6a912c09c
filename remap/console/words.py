"""Numbers, names and commands as people read and paste them."""

from __future__ import annotations

import os
import re
import shlex
from pathlib import Path

from remap.hdf5.identify import show

__all__ = ["bytes_in_words", "command", "count", "output_name", "parameters", "shape"]


def count(number: int, noun: str) -> str:
    """Count something: ``1 layer``, ``2 layers``."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def parameters(number: int) -> str:
    """Give a number of parameters: ``5,412`` up to a million, ``25.6 M`` above."""
    if number < 1_000_000:
        return f"{number:,}"
    return f"{number / 1e6:.1f} M" if number < 999_950_000 else f"{number / 1e9:.2f} G"


def bytes_in_words(number: int) -> str:
    """Give a number of bytes in decimal units, as the tools of most systems list them."""
    if number < 1000:
        return f"{number} bytes"
    size = float(number)
    for unit in ("kB", "MB", "GB"):
        size /= 1000
        if size < 999.5:
            return f"{size:.3g} {unit}" if size < 99.95 else f"{size:.0f} {unit}"
    return f"{size / 1000:.3g} TB"


def shape(sides: tuple[int | None, ...]) -> str:
    """Give a shape as Python would, ``?`` for a side that is not known."""
    inside = ", ".join("?" if side is None else str(side) for side in sides)
    return f"({inside},)" if len(sides) == 1 else f"({inside})"


def output_name(source: str) -> str:
    """Suggest what to call the single model of a file."""
    stem = re.sub(r"(\.weights)?\.[^.]*$", "", Path(source).name) or "model"
    return f"{stem}_single.h5"


def command(*words: str | os.PathLike[str]) -> str:
    """Give a command that can be pasted into a shell."""
    quoted = (shlex.quote(os.fspath(word)) for word in words)
    return " ".join(("h5remap", *(show(word) for word in quoted)))
