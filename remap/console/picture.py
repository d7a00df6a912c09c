"""A view as a picture or a web page, drawn by Rich."""

from __future__ import annotations

import io
import os
from collections.abc import Sequence
from pathlib import Path

from rich.cells import cell_len
from rich.console import Console
from rich.terminal_theme import MONOKAI
from rich.text import Text

from remap.errors import OutputRefused
from remap.hdf5.identify import show

__all__ = ["draw_html", "draw_svg"]

_NARROWEST = 60


def draw_svg(lines: Sequence[Text], target: Path, *, title: str) -> None:
    """Draw lines as a terminal window; raises OutputRefused as `draw_html` does."""
    # Rich would derive the id from its own rendering; a fixed one makes the same picture every time.
    _create(target, _recorded(lines).export_svg(title=show(title), theme=MONOKAI, unique_id="h5remap"))


def draw_html(lines: Sequence[Text], target: Path) -> None:
    """Write lines as a web page; raises OutputRefused when the file is there or cannot be written."""
    _create(target, _recorded(lines).export_html(theme=MONOKAI))


def _recorded(lines: Sequence[Text]) -> Console:
    width = max((cell_len(line.plain) for line in lines), default=0)
    console = Console(
        record=True,
        file=io.StringIO(),
        width=max(width, _NARROWEST),
        force_terminal=True,
        color_system="truecolor",
        highlight=False,
        markup=False,
        emoji=False,
    )
    for line in lines:
        console.print(line, overflow="ignore", crop=False, no_wrap=True)
    return console


def _create(target: Path, text: str) -> None:
    try:
        with target.open("x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        raise OutputRefused(
            "the picture is there already", where=show(os.fspath(target)), hint="give another name"
        ) from None
    except OSError as error:
        raise OutputRefused(
            f"the picture cannot be written: {error.strerror or error}",
            where=show(os.fspath(target)),
            hint="write to another directory",
        ) from None
