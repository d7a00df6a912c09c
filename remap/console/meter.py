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
    """A progress bar with bytes and rate that appears once the work has taken half a second.

    Call it with bytes done and bytes in all. A context manager that removes the bar.
    """

    def __init__(self, terminal: Terminal, label: str) -> None:
        self._terminal = terminal
        self._label = label
        self._started = time.monotonic()
        self._bar: Progress | None = None
        self._task: TaskID | None = None

    def __enter__(self) -> Meter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def __call__(self, done: int, total: int) -> None:
        """Show how far the work is."""
        if self._bar is None or self._task is None:
            if not self._terminal.live or time.monotonic() - self._started < _PATIENCE:
                return
            self._bar, self._task = self._appear(total)
        self._bar.update(self._task, completed=done)

    def _appear(self, total: int) -> tuple[Progress, TaskID]:
        from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

        bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            DownloadColumn(),
            TransferSpeedColumn(),
            console=self._terminal.console,
            transient=True,
        )
        bar.start()
        return bar, bar.add_task(self._label, total=total)
