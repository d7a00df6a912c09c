"""A view kept as a file: a picture or a web page."""

from __future__ import annotations

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
from remap.errors import OutputRefused
from remap.hdf5.identify import show
from remap.hdf5.output import new_file

__all__ = ["html_page", "print_coloured", "require_new", "save_html", "save_svg", "svg_picture"]

_NARROWEST = 60


def print_coloured(lines: Iterable[Line], stream: TextIO) -> None:
    """Print lines to a terminal, with as many colours as it has."""
    # Whether colours are wanted is decided by our caller: Rich before 14 takes an empty NO_COLOR for set.
    _print(lines, Console(file=stream, force_terminal=True, no_color=False))


def svg_picture(lines: Iterable[Line], *, title: str) -> str:
    """Draw lines as a terminal window, in whatever fixed-width font the viewer has."""
    # Rich would derive the id from its own rendering; a fixed one makes the same picture every time.
    text = _recorded(list(lines)).export_svg(title=show(title), theme=MONOKAI, unique_id="h5remap")
    # Its fonts would come over the network, from a place that the viewer of a picture did not ask for.
    return re.sub(r"\s*@font-face \{.*?\}", "", text, flags=re.DOTALL)


def html_page(lines: Iterable[Line]) -> str:
    """Give lines as a web page."""
    return _recorded(list(lines)).export_html(theme=MONOKAI)


def _recorded(lines: list[Line]) -> Console:
    width = max((line.width for line in lines), default=0)
    console = Console(
        record=True,
        file=io.StringIO(),
        width=max(width, _NARROWEST),
        force_terminal=True,
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


def save_html(lines: Sequence[Line], target: Path) -> None:
    """Write lines as a web page; raises OutputRefused when the file is there or cannot be written."""
    _create(target, html_page(lines))


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
