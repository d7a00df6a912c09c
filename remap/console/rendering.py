"""Lines with Rich: in colour on a terminal, as a picture, as a web page, in a notebook."""

from __future__ import annotations

import html
import io
import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TextIO

from rich.console import Console
from rich.terminal_theme import MONOKAI
from rich.text import Text

from remap.console.text import Line
from remap.errors import OutputRefused, UsageRefused
from remap.hdf5.identify import show
from remap.hdf5.output import new_file

__all__ = [
    "html_fragment",
    "html_page",
    "print_coloured",
    "require_extensions",
    "require_new",
    "save_html",
    "save_plot",
    "save_svg",
    "svg_picture",
]

_NARROWEST = 60
_FONTS = "font-family:Menlo,'DejaVu Sans Mono',consolas,'Courier New',monospace"
# The styles of a notebook would wrap long lines, which breaks the columns.
_PRE = f'<pre style="{_FONTS};line-height:normal;white-space:pre;overflow-x:auto;padding:0.5em;'
# A replacement field of Rich stands in single braces.
_FRAGMENT = _PRE + 'color:{foreground};background-color:{background}">{code}</pre>'
_PAGE = (
    """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="UTF-8">
<title>TITLE</title>
<style>
{stylesheet}
body {{ color: {foreground}; background-color: {background}; }}
</style>
</head>
<body>
"""
    + _PRE
    + """">{code}</pre>
</body>
</html>
"""
)


def print_coloured(lines: Iterable[Line], stream: TextIO) -> None:
    """Print lines to a terminal, with as many colours as it has."""
    # Whether colours are wanted is decided by our caller: Rich before 14 takes an empty NO_COLOR for set.
    _print(lines, Console(file=stream, force_terminal=True, no_color=False))


def svg_picture(lines: Iterable[Line], *, title: str) -> str:
    """Draw lines as a terminal window, in whatever fixed-width font the viewer has."""
    # Rich draws no more of the last line than another clips, so an empty one is put after it.
    recorded = _recorded([*lines, Line()])
    # Rich would derive the id from its own rendering; a fixed one makes the same picture every time.
    text = recorded.export_svg(title=show(title), theme=MONOKAI, unique_id="h5remap")
    # Its fonts would be fetched over the network, from a place that the viewer of a picture did not ask for.
    return re.sub(r"\s*@font-face \{.*?\}", "", text, flags=re.DOTALL)


def html_page(lines: Iterable[Line], *, title: str) -> str:
    """Give lines as a web page."""
    escaped = html.escape(show(title)).replace("{", "{{").replace("}", "}}")
    page = _PAGE.replace("TITLE", escaped)
    return _recorded(list(lines)).export_html(theme=MONOKAI, code_format=page)


def html_fragment(lines: Iterable[Line]) -> str:
    """Give lines as a part of a web page, with all its styles inside."""
    recorded = _recorded(list(lines))
    return recorded.export_html(theme=MONOKAI, code_format=_FRAGMENT, inline_styles=True)


def require_extensions(svg: Path | None, html: Path | None) -> None:
    """Refuse a name for a picture or a web page that says it is another format.

    Raises:
        UsageRefused: If one of the names has another extension.
    """
    for target, format_name, extensions in (
        (svg, "an SVG picture", (".svg",)),
        (html, "a web page", (".html", ".htm")),
    ):
        if target is not None and target.suffix.lower() not in extensions:
            raise UsageRefused(
                f"this option writes {format_name}, and the extension says otherwise",
                where=show(str(target)),
                hint=f"give a name that ends in {extensions[0]}",
            )


def _recorded(lines: list[Line]) -> Console:
    width = max((line.width for line in lines), default=0)
    console = Console(
        record=True,
        file=io.StringIO(),
        width=max(width, _NARROWEST),
        force_terminal=True,
        force_jupyter=False,  # in a notebook Rich would show every line at once, before the whole is asked for
        color_system="standard",
    )
    _print(lines, console)
    return console


def _print(lines: Iterable[Line], console: Console) -> None:
    for line in lines:
        console.print(Text.assemble(*line.spans), overflow="ignore", crop=False, no_wrap=True)


def save_svg(lines: Sequence[Line], target: Path, *, title: str) -> None:
    """Draw lines as a terminal window; raises OutputRefused when the file is there or cannot be written."""
    _create(target, svg_picture(lines, title=title))


def save_html(lines: Sequence[Line], target: Path, *, title: str) -> None:
    """Write lines as a web page; raises OutputRefused when the file is there or cannot be written."""
    _create(target, html_page(lines, title=title))


def save_plot(svg: str, target: Path) -> None:
    """Write a plot; raises OutputRefused when the file is there or cannot be written."""
    _create(target, svg)


def require_new(target: Path) -> None:
    """Raise OutputRefused when there is a file of that name already."""
    if os.path.lexists(target):
        raise OutputRefused(
            "there is a file of that name already", where=show(str(target)), hint="give another name"
        )


def _create(target: Path, text: str) -> None:
    require_new(target)
    with new_file(target, overwrite=False) as file:
        content = memoryview(text.encode("utf-8"))
        while content:
            content = content[file.write(content) or 0 :]
