"""Lines of styled text, and numbers, shapes and types as text."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from unicodedata import combining, east_asian_width

__all__ = [
    "TIE",
    "Line",
    "bytes_in_words",
    "cell_width",
    "count",
    "dtype",
    "elided",
    "labelled",
    "parameters",
    "shape",
    "wrapped",
]

TIE = "\u00a0"


class Line:
    """A line of text that consists of spans, each with a style in the notation of Rich (``bold red``)."""

    __slots__ = ("spans",)

    def __init__(self, *spans: str | tuple[str, str]) -> None:
        self.spans: list[tuple[str, str]] = []
        for span in spans:
            self.add(span) if isinstance(span, str) else self.add(*span)

    def add(self, text: str, style: str = "") -> None:
        """Add a span at the end."""
        if text:
            self.spans.append((text, style))

    def pad(self, width: int) -> None:
        """Add blanks up to a number of columns."""
        self.add(" " * (width - self.width))

    @property
    def plain(self) -> str:
        """Give the text without styles and without blanks at its end."""
        return "".join(text for text, _ in self.spans).rstrip(" ")

    @property
    def width(self) -> int:
        """Count the columns that the line takes on a terminal."""
        return sum(cell_width(text) for text, _ in self.spans)


def cell_width(text: str) -> int:
    """Count the columns that a text takes: characters of East Asia take two, accents none."""
    if text.isascii():
        return len(text)
    return sum(0 if combining(char) else 2 if east_asian_width(char) in ("W", "F") else 1 for char in text)


def elided(text: str, room: int | None, dots: str) -> str:
    """Leave out the middle of a text that is too wide: names differ most at their ends."""
    if room is None or cell_width(text) <= room:
        return text
    head, tail = text, ""
    keep = max(room - cell_width(dots), 2)
    while cell_width(head) > keep - keep // 2:
        head = head[:-1]
    tail = text[len(head) :]
    while cell_width(tail) > keep // 2:
        tail = tail[1:]
    return head + dots + tail


def wrapped(text: str, style: str, width: int | None, *, first: str = "", rest: str = "") -> Iterator[Line]:
    """Break a sentence at its blanks to fit into a width; `first` and `rest` stand before the lines.

    A no-break space (TIE) becomes a blank at which it is not broken.
    """
    current, empty = first, True
    for word in text.split(" "):
        longer = current + word if empty else f"{current} {word}"
        if width is not None and not empty and cell_width(longer) > width:
            yield Line((current.replace(TIE, " "), style))
            longer = rest + word
        current, empty = longer, False
    yield Line((current.replace(TIE, " "), style))


def labelled(
    label: str, text: str, width: int | None, *, label_style: str = "", style: str = ""
) -> Iterator[Line]:
    """Put a label before a sentence, and go on below the sentence where it has to be broken."""
    room = None if width is None else width - cell_width(label)
    for number, line in enumerate(wrapped(text, style, room)):
        yield Line(" " * cell_width(label) if number else (label, label_style), *line.spans)


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
