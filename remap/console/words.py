"""Numbers, types and commands as people read and paste them."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

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


def command(name: str, file: str, *options: str) -> str:
    """Give a command that can be pasted into a shell: its name, the file, its options."""
    # What begins with a dash would be taken for an option.
    path = f"./{file}" if file.startswith("-") else file
    return " ".join(("h5remap", *map(_quoted, (name, path, *options))))


def _quoted(word: str) -> str:
    """Quote a word for a shell, and escape what no terminal should be sent, as $'...' of bash and zsh does."""
    if word.isprintable():
        return shlex.quote(word)
    escaped = (
        char
        if char.isprintable() and char not in "\\'"
        else "".join(f"\\{byte:03o}" for byte in _encoded(char))
        for char in word
    )
    return f"$'{''.join(escaped)}'"


def _encoded(char: str) -> bytes:
    """Encode a character; a byte of a file name that is no UTF-8 is itself."""
    return char.encode("utf-8", "surrogateescape" if "\udc80" <= char <= "\udcff" else "surrogatepass")
