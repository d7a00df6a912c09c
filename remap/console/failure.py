"""A refusal as a person reads it, and as a program does."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

from remap.console.advice import commands_in
from remap.console.line import Line
from remap.errors import RemapError
from remap.hdf5.identify import show

__all__ = ["failure_json", "failure_lines"]


def failure_lines(error: RemapError, invocation: Sequence[str]) -> Iterator[Line]:
    """Say what, where, and what to do, each on one line however long; then commands, ready to paste."""
    yield Line(("Error: ", "bold red"), (show(error.what), "red"))
    if error.where:
        yield Line(("   in: ", "bold"), show(error.where))
    if error.hint:
        yield Line(("  try: ", "bold"), show(error.hint))
    for line in commands_in(error.hint, invocation):
        yield Line("       ", (line, "cyan"))


def failure_json(error: RemapError, invocation: Sequence[str]) -> dict[str, Any]:
    """Give a refusal as a JSON document; its `version` rises when a field changes its meaning."""
    return {
        "format": "h5remap-error",
        "version": 1,
        "kind": re.sub(r"(?<!^)(?=[A-Z])", "-", type(error).__name__).lower(),
        "exit_code": error.exit_code,
        "what": error.what,
        "where": error.where,
        "hint": error.hint,
        "commands": commands_in(error.hint, invocation),
    }
