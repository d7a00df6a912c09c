"""What `compare` shows: the verdict, a table of the tensors that differ, what could not be told."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import chain

from remap.comparison.results import ComparedTensor, Comparison
from remap.console.movement import movement_lines
from remap.console.text import Line, cell_width, count, dtype, elided, shape, wrapped
from remap.hdf5.identify import show

__all__ = ["comparison_lines"]

_MOST_ROWS = 40
_MATCHED_BY = {
    "paths": "the paths of layers in the files, as Keras 3 does",
    "architecture": "the architecture in the files",
    "names": "the names of layers and weights",
    "order": "the order of layers with weights, as Keras 2 does",
    "content": "the content of the tensors alone",
}
_HEAD = ("", "layer", "tensor", "shape", "elements", "largest difference", "relative")


def comparison_lines(
    found: Comparison, *, width: int | None, ascii_only: bool, every: bool = False
) -> Iterator[Line]:
    """Lay out a comparison: the verdict, counts, the tensors that differ (or all), notes."""
    dots = "..." if ascii_only else "…"
    yield _verdict(found)
    yield from _entry("a", f"{show(found.a)} ({found.form_a})", width)
    yield from _entry("b", f"{show(found.b)} ({found.form_b})", width)
    yield from _entry("weights", _counts(found.tensors), width)
    yield from _entry("matched by", _MATCHED_BY[found.matched_by], width)
    if found.optimizer is not None:
        yield from _entry("optimizer", _counts(found.optimizer_tensors), width)
    if found.layers is not None:
        yield Line()
        yield from movement_lines(
            found.layers, width=width, ascii_only=ascii_only, most=None if every else _MOST_ROWS
        )
    rows = [tensor for tensor in chain(found.tensors, found.optimizer_tensors) if every or not tensor.equal]
    if found.layers is not None and not every:
        rows = []
    if rows:
        yield Line()
        yield from _table(rows if every else rows[:_MOST_ROWS], width, dots)
        if not every and len(rows) > _MOST_ROWS:
            yield Line((f"{dots} {count(len(rows) - _MOST_ROWS, 'more tensor')}; --all shows them", "dim"))
    if found.question:
        yield from wrapped(f"Undecided: {show(found.question)}.", "yellow", width, rest="  ")
    for note in found.notes:
        yield from wrapped(f"Note: {show(note)}", "yellow", width, rest="      ")
    yield from wrapped(
        "Only weights and optimizer states are compared, not how layers are connected.", "dim", width
    )


def _verdict(found: Comparison) -> Line:
    if found.verdict == "equal":
        converted = any(tensor.status == "converted" for tensor in chain(found.tensors))
        how = "bit for bit, but for the conversion to Keras 3" if converted else "bit for bit"
        return Line(("Equal: ", "bold green"), f"both files hold the same weights, {how}")
    if found.verdict == "different":
        return Line(("Different.", "bold red"))
    return Line(("Undecided.", "bold yellow"))


def _counts(tensors: Sequence[ComparedTensor]) -> str:
    counted = Counter(tensor.status for tensor in tensors)
    words = {"converted": "equal after conversion", "other shape": "of another shape"}
    parts = (f"{number:,} {words.get(status, status)}" for status, number in counted.most_common())
    return f"{count(len(tensors), 'tensor')}: {', '.join(parts)}" if tensors else "none"


def _entry(label: str, text: str, width: int | None) -> Iterator[Line]:
    yield from wrapped(text, "", width, first=f"  {label:<12}", rest=" " * 14)


def _table(tensors: Sequence[ComparedTensor], width: int | None, dots: str) -> Iterator[Line]:
    cells = list(map(_cells, tensors))
    used_columns = [column for column in range(len(_HEAD)) if column < 4 or any(row[column] for row in cells)]
    rows = [[row[column] for column in used_columns] for row in (_HEAD, *cells)]
    sizes = [max(cell_width(row[column]) for row in rows) for column in range(len(used_columns))]
    if width is not None:
        over = max(sum(sizes) + 2 * (len(sizes) - 1) - width, 0)
        # Names give way first, the longer one more; numbers are never cut.
        for column in sorted((1, 2), key=lambda column: -sizes[column]):
            less = min(over, max(sizes[column] - 12, 0))
            sizes[column] -= less
            over -= less
    for number, row in enumerate(rows):
        line = Line()
        used = 0
        for column, cell in enumerate(row):
            line.pad(used)
            style = "" if number else "bold"
            if number and column == 0:
                style = "green" if cell in ("equal", "converted") else "bold red"
            line.add(elided(cell, sizes[column], dots), style)
            used += sizes[column] + 2
        yield line


def _cells(tensor: ComparedTensor) -> tuple[str, ...]:
    path = tensor.a or tensor.b or ""
    return (
        tensor.status,
        show("/".join(tensor.layer)) or "-",
        show(path.rpartition("/vars/")[2] if "/vars/" in path else path.rpartition("/")[2]),
        _both(
            None if tensor.shape_a is None else shape(tensor.shape_a),
            None if tensor.shape_b is None else shape(tensor.shape_b),
        )
        + _dtypes(tensor),
        f"{tensor.differing:,}" if tensor.differing else "",
        "" if tensor.largest_absolute is None else f"{tensor.largest_absolute:.3g}",
        "" if tensor.largest_relative is None else f"{tensor.largest_relative:.3g}",
    )


def _both(ours: str | None, theirs: str | None) -> str:
    if ours == theirs or theirs is None:
        return ours or ""
    return theirs if ours is None else f"{ours} / {theirs}"


def _dtypes(tensor: ComparedTensor) -> str:
    if tensor.dtype_a is None or tensor.dtype_b is None or tensor.dtype_a == tensor.dtype_b:
        return ""
    return f" {dtype(tensor.dtype_a)} / {dtype(tensor.dtype_b)}"
