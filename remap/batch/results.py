"""What came out of each file of a batch, as a value and as JSON."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Literal, get_args

from remap.errors import NothingToExtract, RemapError
from remap.results import Report

__all__ = ["FORMATS", "FormatName", "Progress", "Result", "Status", "status_of"]

FormatName = Literal["h5", "keras", "weights.h5"]
FORMATS: tuple[FormatName, ...] = get_args(FormatName)
Status = Literal["written", "already done", "already single", "refused", "failed"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """How the conversion of one file ended.

    Attributes:
        source: The checkpoint.
        target: The output that it has, or would have had.
        size: Bytes of the checkpoint, 0 if it could not be found.
        status: ``written``; ``already done`` for an output that was there, made from the same input by the same
            settings; ``already single`` for a file from which nothing has to be extracted; ``refused`` for a file
            that was refused, crashed the HDF5 library or met a limit; ``failed`` for a bug or a lost process.
        report: What was written, None if nothing was.
        error: Why nothing was written, None if something was or is there already.
    """

    source: str
    target: str
    size: int
    status: Status
    report: Report | None = None
    error: RemapError | None = None

    @property
    def exit_code(self) -> int:
        """Give the status with which a command for this file alone would end."""
        return self.error.exit_code if self.error is not None else 0

    def to_json(self) -> dict[str, Any]:
        """Give the result as a JSON document; its `version` rises when a field changes its meaning."""
        return {
            "format": "h5remap-result",
            "version": 1,
            "source": self.source,
            "target": self.target,
            "size": self.size,
            "status": self.status,
            "report": self.report.to_json() if self.report is not None else None,
            "error": _error_json(self.error) if self.error is not None else None,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far a batch is: files, and bytes of input, that are done and that there are in all."""

    files_done: int
    files: int
    bytes_done: int
    bytes: int


def status_of(error: RemapError) -> Status:
    """Name the status of a file that ended with an error."""
    if isinstance(error, NothingToExtract):
        return "already single"
    return "failed" if type(error) is RemapError else "refused"


def _error_json(error: RemapError) -> dict[str, Any]:
    return {
        "kind": re.sub(r"(?<!^)(?=[A-Z])", "-", type(error).__name__).lower(),
        "exit_code": error.exit_code,
        "what": error.what,
        "where": error.where,
        "hint": error.hint,
        "remedies": [remedy.to_json() for remedy in error.remedies],
    }
