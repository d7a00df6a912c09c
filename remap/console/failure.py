"""A refusal as a person reads it: what, where, and what to run."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

from rich.text import Text

from remap.console.words import command
from remap.errors import RemapError
from remap.hdf5.identify import show

__all__ = ["Invocation", "failure_json", "failure_lines"]

# Options that a hint may name, each with the value to show where the hint gives none of its own.
_OPTION = re.compile(r"(--(?:like|plain|submodel|overwrite|weights-only))(?: ([A-Za-z0-9_./-]+))?")
_VALUED = {"--like": "model.json", "--submodel": "NAME"}

Invocation = Sequence[str]
"""The command line that was refused, without the program's name."""


def failure_lines(error: RemapError, invocation: Invocation) -> Iterator[Text]:
    """Say what, where, and what to do, each on a line of its own; then the commands, ready to paste."""
    yield Text.assemble(("Error: ", "bold red"), (show(error.what), "red"))
    if error.where:
        yield Text.assemble(("   in: ", "bold"), show(error.where))
    if error.hint:
        yield Text.assemble(("  try: ", "bold"), show(error.hint))
    for line in commands(error, invocation):
        yield Text.assemble("       ", (line, "cyan"))


def failure_json(error: RemapError, invocation: Invocation) -> dict[str, Any]:
    """Give a refusal as a JSON document; its `version` rises when a field changes its meaning."""
    return {
        "format": "h5remap-error",
        "version": 1,
        "kind": _kind(error),
        "exit_code": error.exit_code,
        "what": error.what,
        "where": error.where,
        "hint": error.hint,
        "commands": commands(error, invocation),
    }


def commands(error: RemapError, invocation: Invocation) -> list[str]:
    """Turn the options that a hint names into whole commands."""
    found = []
    for option, value in _OPTION.findall(error.hint):
        if option in invocation:
            continue
        words = [option]
        if option in _VALUED:
            words.append(_VALUED[option] if value in ("", "FILE", "NAME") else value)
        found.append(command(*invocation, *words))
    return list(dict.fromkeys(found))


def _kind(error: RemapError) -> str:
    """Name the class in the manner of options: ``input-refused``."""
    return re.sub(r"(?<!^)(?=[A-Z])", "-", type(error).__name__).lower()
