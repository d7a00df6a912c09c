"""Where text goes: how wide it may be, whether it is coloured, which characters it may use."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterable
from typing import TextIO

from remap.console.line import Line

__all__ = ["Terminal", "drop_rest"]


def drop_rest(stream: TextIO) -> None:
    """Let what a stream still holds, and all that follows, go nowhere, where nobody takes it."""
    try:
        stream.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


class Terminal:
    """An output stream for lines that are already as wide as they shall be.

    `width` is None where nothing has to fit: in a pipe or a file, unless COLUMNS says otherwise. Colours and
    other attributes go to a terminal only (`styled`), and not with NO_COLOR or TERM=dumb; what moves the
    cursor (`live`) not with TERM=dumb. `ascii_only` says that the stream's encoding has no box characters.
    """

    def __init__(self, *, stderr: bool = False) -> None:
        self._stream = sys.stderr if stderr else sys.stdout
        screen = self._stream.isatty()
        dumb = os.environ.get("TERM", "") in ("dumb", "unknown")
        self.live = screen and not dumb
        self.styled = self.live and not os.environ.get("NO_COLOR")
        fits = screen or os.environ.get("COLUMNS", "").isdigit()
        self.width = max(shutil.get_terminal_size().columns, 40) if fits else None
        self.ascii_only = not (self._stream.encoding or "").lower().startswith("utf")

    def print(self, lines: Iterable[Line]) -> None:
        """Print lines; a message that stderr does not take is dropped, for there is nobody to tell."""
        try:
            self._write(lines)
            self._stream.flush()
        except OSError:
            if self._stream is not sys.stderr:
                raise
            drop_rest(self._stream)

    def _write(self, lines: Iterable[Line]) -> None:
        if not self.styled:
            self._stream.writelines(f"{line.plain}\n" for line in lines)
            return
        # Not before: loading Rich takes a fifth of a short command's time.
        from remap.console.colour import print_coloured

        print_coloured(lines, self._stream)
