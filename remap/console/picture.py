"""A view kept as a file: a picture or a web page."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from remap.console.colour import html_page, svg_picture
from remap.console.line import Line
from remap.errors import OutputRefused
from remap.hdf5.draft import new_file
from remap.hdf5.identify import show

__all__ = ["require_new", "save_html", "save_svg"]


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
