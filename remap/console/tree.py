"""A tree of rows, as lines of text in columns."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

from remap.console.text import Line, cell_width, elided, wrapped

__all__ = ["Row", "Run", "folded", "tree_lines"]

Item = TypeVar("Item")

_LONGEST_CYCLE = 24
_LEAST_HIDDEN = 6


@dataclass(frozen=True, slots=True)
class Run:
    """So many items from `start` on that repeat the `cycle` items before them."""

    start: int
    count: int
    cycle: int


def folded(items: Sequence[Item], key: Callable[[Item], Hashable]) -> Iterator[Item | Run]:
    """Yield the items, with a Run in place of the repetitions of a cycle of equal items.

    A cycle is shown once. Only what comes three times or more and hides six items or more is folded.
    """
    keys = [key(item) for item in items]
    place = 0
    while place < len(items):
        cycle, repeats = _cycle(keys, place)
        hidden = cycle * (repeats - 1)
        if repeats < 3 or hidden < _LEAST_HIDDEN:
            yield items[place]
            place += 1
            continue
        yield from items[place : place + cycle]
        yield Run(place + cycle, hidden, cycle)
        place += cycle + hidden


def _cycle(keys: Sequence[Hashable], start: int) -> tuple[int, int]:
    """Find the cycle that covers most from `start` on: its length and how often it comes."""
    best = (1, 1)
    for length in range(1, min(_LONGEST_CYCLE, (len(keys) - start) // 2) + 1):
        end = start + length
        while end < len(keys) and keys[end] == keys[end - length]:
            end += 1
        repeats = (end - start) // length
        if repeats > 1 and repeats * length > best[0] * best[1]:
            best = (length, repeats)
    return best


_WIDEST_NAME = 44


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A row of a tree: name, kind and size in columns, a remark behind them, details below, rows inside.

    A detail is a list of items that may be broken between any two of them. A row with a name only may be as
    long as it likes.
    """

    name: str
    style: str = ""
    kind: str = ""
    size: str = ""
    remark: str = ""
    remark_style: str = ""
    details: tuple[tuple[str, ...], ...] = ()
    rows: tuple[Row, ...] = ()


def tree_lines(rows: Sequence[Row], *, width: int | None, ascii_only: bool) -> Iterator[Line]:
    """Draw the rows, no wider than `width` unless a single item is."""
    every = list(_walk(rows, 1))
    name = max((4 * level + cell_width(row.name) for level, row in every if row.kind), default=0)
    if width is not None:
        name = min(name, _WIDEST_NAME)
    kind = max((cell_width(row.kind) for _, row in every), default=0)
    size = max((cell_width(row.size) for _, row in every), default=0)
    art = ("+-- ", "`-- ", "|   ", "...") if ascii_only else ("├── ", "└── ", "│   ", "…")
    yield from _Drawing(width, (name, kind, size), art).branch(rows, "")


def _walk(rows: Iterable[Row], level: int) -> Iterator[tuple[int, Row]]:
    for row in rows:
        yield level, row
        yield from _walk(row.rows, level + 1)


class _Drawing:
    def __init__(
        self, width: int | None, columns: tuple[int, int, int], art: tuple[str, str, str, str]
    ) -> None:
        self._width = width
        self._name, self._kind, self._size = columns
        self._tee, self._corner, self._bar, self._dots = art

    def branch(self, rows: Sequence[Row], above: str) -> Iterator[Line]:
        for number, row in enumerate(rows):
            last = number == len(rows) - 1
            below = above + ("    " if last else self._bar)
            inner = below + (self._bar if row.rows else "")
            yield from self._row(row, above + (self._corner if last else self._tee), inner)
            for detail in row.details:
                yield from self._detail(detail, inner)
            yield from self.branch(row.rows, below)

    def _row(self, row: Row, guide: str, inner: str) -> Iterator[Line]:
        """Keep to the columns where that fits, else to the first one; what does not fit goes below."""
        room = None if self._width is None else self._width - cell_width(guide)
        head = Line((guide, "dim"), (elided(row.name, room, self._dots), row.style))
        parts = [(text, style) for text, style in ((row.kind.strip(), ""), (row.size, "")) if text]
        remark = (row.remark, row.remark_style)
        if not parts and not row.remark:
            yield from self._sentence(row, guide, inner) if " " in row.name else (head,)
            return
        whole = self._in_columns(head, row)
        if self._fits(whole, remark):
            yield self._with(whole, [remark])
        elif self._fits(whole):
            yield whole
            yield from self._below(remark, inner)
        elif self._fits(self._padded(head), *parts, remark):
            yield self._with(self._padded(head), [*parts, remark])
        else:
            closed_up = self._padded(head) if self._fits(self._padded(head), *parts) else head
            yield from self._flowing(closed_up, parts, inner)
            yield from self._below(remark, inner)

    def _fits(self, line: Line, *parts: tuple[str, str]) -> bool:
        width = cell_width(self._with(line, parts).plain)
        return self._width is None or width <= self._width

    @staticmethod
    def _with(line: Line, parts: Iterable[tuple[str, str]]) -> Line:
        longer = Line(*line.spans)
        for text, style in parts:
            if text:
                longer.add("  ")
                longer.add(text, style)
        return longer

    def _padded(self, head: Line) -> Line:
        line = Line(*head.spans)
        line.pad(self._name)
        return line

    def _in_columns(self, head: Line, row: Row) -> Line:
        line = self._padded(head)
        self._add(line, row.kind, self._kind, "dim" if row.style == "dim" else "")
        if row.size or row.remark:
            self._add(line, row.size.rjust(self._size), self._size, "")
        return line

    def _flowing(self, head: Line, parts: Iterable[tuple[str, str]], inner: str) -> Iterator[Line]:
        line = head
        for part in parts:
            if not self._fits(line, part):
                yield line
                line = Line((inner, "dim"))
            line = self._with(line, [part])
        yield line

    def _below(self, remark: tuple[str, str], inner: str) -> Iterator[Line]:
        text, style = remark
        start = f"{inner}  "
        if text and self._width is not None:
            for line in wrapped(text, style, self._width - cell_width(start)):
                yield Line((start, "dim"), *line.spans)

    def _sentence(self, row: Row, guide: str, inner: str) -> Iterator[Line]:
        """Break a row that is a sentence between words."""
        room = None if self._width is None else self._width - cell_width(inner) - 2
        for number, line in enumerate(wrapped(row.name, row.style, room)):
            yield Line((f"{inner}  " if number else guide, "dim"), *line.spans)

    @staticmethod
    def _add(line: Line, text: str, column: int, style: str) -> None:
        if column or text:
            width = line.width + 2 + column
            line.add("  ")
            line.add(text, style)
            line.pad(width)

    def _detail(self, items: Sequence[str], inner: str) -> Iterator[Line]:
        indent = f"{inner}  "
        room = None if self._width is None else self._width - cell_width(indent)
        text = ""
        for item in (elided(item, room, self._dots) for item in items):
            longer = f"{text}  {item}" if text else item
            if text and room is not None and cell_width(longer) > room:
                yield Line((indent + text, "dim"))
                longer = item
            text = longer
        yield Line((indent + text, "dim"))
