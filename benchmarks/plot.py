"""Lines on logarithmic axes, as SVG that both light and dark pages show well."""

from __future__ import annotations

from math import ceil, floor, log10

__all__ = ["plot"]

_WIDTH, _HEIGHT = 720, 400
_LEFT, _RIGHT, _TOP, _BOTTOM = 70, 170, 40, 50
_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#8a8a8a")


def plot(title: str, across: str, up: str, series: dict[str, list[tuple[float, float]]]) -> str:
    """Draw named series of points; both axes are logarithmic."""
    points = [point for line in series.values() for point in line]
    low_x, high_x = log10(min(x for x, _ in points)), log10(max(x for x, _ in points))
    low_y, high_y = floor(log10(min(y for _, y in points))), ceil(log10(max(y for _, y in points)))

    def place(x: float, y: float) -> tuple[float, float]:
        along = (log10(x) - low_x) / (high_x - low_x)
        above = (log10(y) - low_y) / (high_y - low_y)
        return (
            _LEFT + along * (_WIDTH - _LEFT - _RIGHT),
            _HEIGHT - _BOTTOM - above * (_HEIGHT - _TOP - _BOTTOM),
        )

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}">',
        "<style>text { font: 13px sans-serif }</style>",
        f'<rect width="{_WIDTH}" height="{_HEIGHT}" fill="#ffffff"/>',
        f'<text x="{_LEFT}" y="22" font-size="15">{title}</text>',
        f'<text x="{_LEFT}" y="{_HEIGHT - 10}">{across}</text>',
        f'<text x="14" y="{_TOP - 4}">{up}</text>',
    ]
    for exponent in range(low_y, high_y + 1):
        _, y = place(10**low_x, 10**exponent)
        parts.append(f'<path d="M{_LEFT} {y:.1f}H{_WIDTH - _RIGHT}" stroke="#dddddd"/>')
        parts.append(f'<text x="{_LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{10**exponent:g}</text>')
    for x in sorted({x for x, _ in points}):
        along, _ = place(x, 10**low_y)
        parts.append(
            f'<text x="{along:.1f}" y="{_HEIGHT - _BOTTOM + 18}" text-anchor="middle">{_short(x)}</text>'
        )
    for number, line in enumerate(series.values()):
        colour = _COLOURS[number % len(_COLOURS)]
        path = " ".join("{:.1f},{:.1f}".format(*place(*point)) for point in line)
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        for point in line:
            x, y = place(*point)
            parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"/>')
    ends = sorted((place(*line[-1])[1], number) for number, line in enumerate(series.values()))
    last = 0.0
    for y, number in ends:
        last = max(y + 4, last + 16)  # names must not lie on each other
        colour, name = _COLOURS[number % len(_COLOURS)], list(series)[number]
        parts.append(f'<text x="{_WIDTH - _RIGHT + 8}" y="{last:.1f}" fill="{colour}">{name}</text>')
    return "\n".join([*parts, "</svg>", ""])


def _short(number: float) -> str:
    for limit, letter in ((1 << 30, "Gi"), (1 << 20, "Mi")):
        if number >= limit:
            return f"{number / limit:g} {letter}"
    return f"{number:,.0f}"
