"""How far long work is, on a terminal only."""

from __future__ import annotations

import time
from types import TracebackType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

    from remap.console.terminal import Terminal

__all__ = ["Meter"]

_PATIENCE = 0.5


class Meter:
    """A progress bar with bytes and rate that appears on stderr once the work has taken half a second.

    Call it with bytes done and bytes in all. A context manager that takes the bar away at the end.
    """

    def __init__(self, terminal: Terminal, label: str) -> None:
        self._live = terminal.live
        self._label = label
        self._started = time.monotonic()
        self._bar: tuple[Progress, TaskID] | None = None

    def __enter__(self) -> Meter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar[0].stop()

    def __call__(self, done: int, total: int) -> None:
        """Show how far the work is."""
        if not self._live:
            return
        if self._bar is None:
            if time.monotonic() - self._started < _PATIENCE:
                return
            self._bar = self._appear(total)
        progress, task = self._bar
        progress.update(task, completed=done)

    def _appear(self, total: int) -> tuple[Progress, TaskID]:
        from rich.console import Console
        from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

        progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            DownloadColumn(),
            TransferSpeedColumn(),
            console=Console(stderr=True),
            transient=True,
        )
        progress.start()
        return progress, progress.add_task(self._label, total=total)
