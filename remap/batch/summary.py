"""What came out of a batch as a whole: how many files of each status, reasons of refusals, the exit code."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from remap.errors import RemapError

if TYPE_CHECKING:
    from remap.batch.results import Result, Status

__all__ = ["RefusalGroup", "Summary", "worst"]

# From best to worst. A bug is the worst; a single model needs no extraction, which is hardly a failure.
_SEVERITY = (0, 5, 4, 3, 6, 2, 1)
_MOST_GROUPS = 50
_MOST_SOURCES = 20


def worst(*codes: int) -> int:
    """Choose the exit code of several files."""
    return max(codes, key=_SEVERITY.index)


@dataclass(slots=True, kw_only=True)
class RefusalGroup:
    """Files that were refused for the same reason; `sources` names the first of them.

    `error` is that of the first file; the place in it is not part of the reason.
    """

    error: RemapError
    count: int = 0
    sources: list[str] = field(default_factory=list)


class Summary:
    """Adds up results; takes the same memory for any number of them."""

    def __init__(self) -> None:
        self.counts: Counter[Status] = Counter()
        self.written = 0
        """Bytes of all outputs that were written."""
        self.exit_code = 0
        """The worst of all files."""
        self.ungrouped = 0
        """Refused files with reasons beyond those that are kept."""
        self._groups: dict[tuple[object, ...], RefusalGroup] = {}

    @property
    def groups(self) -> list[RefusalGroup]:
        """List the reasons of refusals and failures, the most frequent first."""
        return sorted(self._groups.values(), key=lambda group: -group.count)

    def add(self, result: Result) -> None:
        """Take one more result into account.

        Args:
            result: The result.
        """
        self.counts[result.status] += 1
        if result.report is not None and result.status == "written":
            self.written += result.report.size
        self.exit_code = worst(self.exit_code, result.exit_code)
        error = result.error
        if error is None or result.status == "already single":
            return
        key = (type(error), error.what, error.hint, error.remedies)
        if key not in self._groups and len(self._groups) >= _MOST_GROUPS:
            self.ungrouped += 1
            return
        group = self._groups.setdefault(key, RefusalGroup(error=error))
        group.count += 1
        if len(group.sources) < _MOST_SOURCES:
            group.sources.append(result.source)
