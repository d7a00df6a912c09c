"""The terminal: its width, colours and characters, and a progress bar."""

from __future__ import annotations

import os
import shutil
import sys
import time
from collections.abc import Iterable
from types import TracebackType
from typing import TYPE_CHECKING, TextIO

from remap.console.text import Line

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

__all__ = ["ProgressBar", "Terminal", "drop_rest"]


def drop_rest(stream: TextIO) -> None:
    """Discard what a stream still holds, and all that follows, if it cannot be written."""
    try:
        stream.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


class Terminal:
    """An output stream for lines that already fit its width.

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
        """Print lines; a message that cannot be written to stderr is dropped."""
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
        # Imported here because Rich takes a fifth of a short command's time.
        from remap.console.rendering import print_coloured

        print_coloured(lines, self._stream)


_DELAY = 0.5  # seconds


class ProgressBar:
    """A progress bar on stderr with bytes, rate and time left, once the work has taken a while.

    Call it with bytes done and bytes in all. A context manager that takes the bar away at the end.
    """

    def __init__(self, terminal: Terminal, label: str, *, at_once: bool = False) -> None:
        self.live = terminal.live
        self._label = label
        self._at_once = at_once
        self._started = time.monotonic()
        self._bar: tuple[Progress, TaskID] | None = None

    def __enter__(self) -> ProgressBar:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar[0].stop()

    def __call__(self, done: int, total: int, note: str = "") -> None:
        """Show how far the work is; `note` says what bytes do not."""
        if not self.live:
            return
        if self._bar is None:
            if not self._at_once and time.monotonic() - self._started < _DELAY:
                return
            self._bar = self._show(total)
        progress, task = self._bar
        progress.update(task, completed=done, total=total, note=note)

    def print(self, text: str) -> None:
        """Print a line above the bar."""
        if self._bar is not None:
            self._bar[0].console.print(text, markup=False, highlight=False, soft_wrap=True)

    def _show(self, total: int) -> tuple[Progress, TaskID]:
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            DownloadColumn,
            Progress,
            TextColumn,
            TimeRemainingColumn,
            TransferSpeedColumn,
        )

        progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.fields[note]}"),
            DownloadColumn(),
            TransferSpeedColumn(),
            TimeRemainingColumn(),
            console=Console(stderr=True),
            transient=True,
        )
        progress.start()
        return progress, progress.add_task(self._label, total=total, note="")
