"""A refusal as a person reads it, and as a program does."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

from remap.console.advice import commands_in
from remap.console.line import Line
from remap.console.words import command
from remap.errors import OutputRefused, RemapError, UsageRefused
from remap.hdf5.identify import show

__all__ = ["failure_json", "failure_lines"]


def failure_lines(error: RemapError, invocation: Sequence[str]) -> Iterator[Line]:
    """Say what, where, and what to do, each on one line however long; then commands, ready to paste.

    `invocation` is the command that was refused: its name, the file, its options.
    """
    yield Line(("Error: ", "bold red"), (show(error.what), "red"))
    if error.where:
        yield Line(("   in: ", "bold"), show(_place(error, invocation)))
    if error.hint:
        hint = error.hint.replace("h5remap inspect FILE", command("inspect", invocation[1]))
        yield Line(("  try: ", "bold"), show(hint))
    for line in commands_in(error.hint, invocation):
        yield Line("       ", (line, "cyan"))


def _place(error: RemapError, invocation: Sequence[str]) -> str:
    """Name the file as well where an error knows only the place in it."""
    files = [invocation[1], *(word for word in invocation[2:] if not word.startswith("-"))]
    inside = not isinstance(error, UsageRefused | OutputRefused)
    return (
        f"{error.where} in {files[0]}"
        if inside and not any(show(word) in show(error.where) for word in files)
        else error.where
    )


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
