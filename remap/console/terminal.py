"""Where text goes: how wide it may be, whether it is coloured, which characters it may use."""

from __future__ import annotations

import os
from collections.abc import Iterable

from rich.console import Console
from rich.text import Text

__all__ = ["Terminal"]


class Terminal:
    """An output stream for lines that are already as wide as they shall be.

    `width` is None where nothing has to fit: a pipe or a file, unless COLUMNS says otherwise. Colours and
    other attributes go to a terminal only, and not with NO_COLOR or TERM=dumb.
    """

    def __init__(self, *, stderr: bool = False) -> None:
        # Rich would leave bold and dim with NO_COLOR, and colours with TERM=dumb.
        bare = bool(os.environ.get("NO_COLOR")) or os.environ.get("TERM") in ("dumb", "unknown")
        self.console = Console(
            stderr=stderr, color_system=None if bare else "auto", highlight=False, markup=False, emoji=False
        )
        self.live = self.console.is_terminal and not self.console.is_dumb_terminal
        fits = self.console.is_terminal or "COLUMNS" in os.environ
        self.width = self.console.width if fits else None
        self.plain = self.console.options.ascii_only

    def print(self, lines: Iterable[Text]) -> None:
        """Print lines."""
        for line in lines:
            self.console.print(line, overflow="ignore", crop=False, no_wrap=True)
