"""What `compare --stats` shows: how far each layer moved, as a table and as a plot."""

from __future__ import annotations

import html
import math
from collections.abc import Callable, Iterator, Sequence

from remap.comparison.results import Comparison, MovedLayer
from remap.console.text import Line, cell_width, count, elided
from remap.hdf5.identify import show

__all__ = ["movement_lines", "movement_plot"]

_HEAD = ("layer", "elements", "norm in a", "norm in b", "distance", "relative", "cosine", "")
_BAR = 16
_UNMOVED = "did not move"
_NO_PARTNER = "no tensor of its shape"


def movement_lines(
    layers: Sequence[MovedLayer], *, width: int | None, ascii_only: bool, most: int | None
) -> Iterator[Line]:
    """Lay out how far layers moved, `most` of them at most."""
    dots = "..." if ascii_only else "…"
    shown = layers if most is None else layers[:most]
    largest = max((_relative(layer) for layer in layers), default=0.0)
    rows = [_HEAD, *(_cells(layer, largest, "#" if ascii_only else "█") for layer in shown)]
    sizes = [max(cell_width(row[column]) for row in rows) for column in range(len(_HEAD))]
    # Bars give way first, then names: numbers are never cut.
    if width is not None and _total(sizes) > width:
        rows = [(*row[:-1], row[-1] if row[-1] in (_UNMOVED, _NO_PARTNER) else "") for row in rows]
        sizes[-1] = max(cell_width(row[-1]) for row in rows)
        sizes[0] = max(min(sizes[0], width - _total(sizes[1:]) - 2), 8)
    for number, row in enumerate(rows):
        line = Line()
        still = row[-1] == _UNMOVED
        line.add(elided(row[0], sizes[0], dots), "bold" if not number else "dim" if still else "")
        used = sizes[0] + 2
        for column in range(1, len(_HEAD) - 1):
            line.pad(used + sizes[column] - cell_width(row[column]))
            line.add(row[column], "bold" if not number else "dim" if still else "")
            used += sizes[column] + 2
        if row[-1]:
            line.pad(used)
            line.add(row[-1], "bold cyan" if still else "green")
        yield line
    if len(shown) < len(layers):
        yield Line((f"{dots} {count(len(layers) - len(shown), 'more layer')}; --all shows them", "dim"))
    yield Line((_summary(layers), ""))


def _total(sizes: Sequence[int]) -> int:
    return sum(sizes) + 2 * (len(sizes) - 1)


def _summary(layers: Sequence[MovedLayer]) -> str:
    still = sum(1 for layer in layers if layer.unmoved)
    bad = sum(layer.movement.not_finite for layer in layers if layer.movement is not None)
    left_out = f"; {count(bad, 'element')} NaN or infinite in one of the files, left out" if bad else ""
    return f"{still:,} of {count(len(layers), 'layer')} did not move{left_out}"


def _relative(layer: MovedLayer) -> float:
    found = None if layer.movement is None else layer.movement.relative
    return 0.0 if found is None else found


def _cells(layer: MovedLayer, largest: float, block: str) -> tuple[str, ...]:
    moved = layer.movement
    name = show("/".join(layer.layer))
    if moved is None:
        return name, "", "", "", "", "", "", _NO_PARTNER
    relative = _relative(layer)
    bar = block * max(round(_BAR * relative / largest), 1) if largest and relative else ""
    return (
        name,
        f"{moved.elements:,}",
        f"{moved.norm_a:.4g}",
        f"{moved.norm_b:.4g}",
        f"{moved.distance:.3g}",
        "" if moved.relative is None else _percent(moved.relative),
        "" if moved.cosine is None else f"{moved.cosine:.6f}",
        _UNMOVED if layer.unmoved else bar,
    )


def _percent(share: float) -> str:
    return f"{100 * share:.3g} %"


_ROW = 20
_LEFT, _MIDDLE, _RIGHT, _TOP, _BOTTOM = 250, 420, 110, 58, 42
_LONGEST_NAME = 34
_MOVED, _STILL, _TEXT, _GRID = "#0072b2", "#d55e00", "#222222", "#dddddd"
_DECADES = 6


def movement_plot(found: Comparison) -> str:
    """Draw a bar for each layer, as long as its relative change on a logarithmic axis; unmoved layers have a mark."""
    layers = found.layers or ()
    changes = [math.log10(_relative(layer)) for layer in layers if _relative(layer)]
    high = math.ceil(max(changes, default=0.0))
    low = min(max(math.floor(min(changes, default=-1.0)), high - _DECADES), high - 1)

    def along(exponent: float) -> float:
        return _LEFT + _MIDDLE * min(max((exponent - low) / (high - low), 0.0), 1.0)

    width, height = _LEFT + _MIDDLE + _RIGHT, _TOP + _ROW * len(layers) + _BOTTOM
    end = height - _BOTTOM
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}">',
        f"<style>text {{ font: 12px sans-serif; fill: {_TEXT} }}</style>",
        f'<rect width="{width}" height="{height}" fill="#ffffff"/>',
        f'<text x="12" y="20" font-weight="bold">{_escaped(f"{found.a} → {found.b}")}</text>',
        f'<text x="12" y="40">{_escaped(_summary(layers))}</text>',
        f'<text x="{_LEFT}" y="{height - 8}">distance / norm in a</text>',
    ]
    for exponent in range(low, high + 1):
        x = along(exponent)
        label = f"{10.0**exponent:g}" if abs(exponent) < 4 else f"1e{exponent}"
        parts.append(f'<path d="M{x:.1f} {_TOP}V{end}" stroke="{_GRID}"/>')
        parts.append(f'<text x="{x:.1f}" y="{end + 16}" text-anchor="middle">{label}</text>')
    for number, layer in enumerate(layers):
        parts += _bar(layer, _TOP + _ROW * number, along)
    return "\n".join([*parts, "</svg>", ""])


def _bar(layer: MovedLayer, top: int, along: Callable[[float], float]) -> Iterator[str]:
    name = elided("/".join(layer.layer), _LONGEST_NAME, "…")
    middle = top + 14
    yield f'<text x="{_LEFT - 10}" y="{middle}" text-anchor="end">{_escaped(name)}</text>'
    change = _relative(layer)
    if layer.unmoved or not change:
        word = _UNMOVED if layer.unmoved else _NO_PARTNER if layer.movement is None else "from zero"
        yield f'<circle cx="{_LEFT}" cy="{top + 10}" r="5" fill="{_STILL}"/>'
        yield f'<text x="{_LEFT + 12}" y="{middle}" style="fill:{_STILL}">{word}</text>'
        return
    end = max(along(math.log10(change)), _LEFT + 2)
    yield f'<rect x="{_LEFT}" y="{top + 3}" width="{end - _LEFT:.1f}" height="{_ROW - 6}" fill="{_MOVED}"/>'
    yield f'<text x="{end + 6:.1f}" y="{middle}">{_percent(change)}</text>'


def _escaped(text: str) -> str:
    return html.escape(show(text))
