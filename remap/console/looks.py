"""What `inspect` and `check` show of many files: a row for each, and how they differ."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from remap.batch.summary import worst
from remap.console.advice import failure_json
from remap.console.invocation import Command, Invocation
from remap.console.terminal import Terminal
from remap.console.text import Line, count, dtype, shape, wrapped
from remap.errors import RemapError
from remap.hdf5.identify import show
from remap.results import Inspection

if TYPE_CHECKING:
    from remap.batch.look import Look
    from remap.checking import Check

__all__ = ["Differences", "show_looks"]

_MOST_LISTED = 10
_MOST_GROUPS = 20
_HEADS = {
    "inspect": ("kind", "layers", "parameters", "settled by", "template", "file"),
    "check": ("verdict", "layers", "file"),
}
_WIDTHS = {"inspect": (16, 7, 14, 13, 16), "check": (14, 7)}
_FACTS = {
    "kind": "kind",
    "content": "content",
    "class": "class_name",
    "template": "template",
    "replicas": "replicas",
    "settled by": "settled_by",
    "Keras": "keras_version",
    "optimizer": "optimizer",
}


def show_looks(command: Command, looks: Iterable[Look[Any]], *, as_json: bool) -> int:
    """Print a row for each file as it comes, and at the end how they differ; or a line of JSON for each.

    Args:
        command: ``inspect`` or ``check``.
        looks: The results.
        as_json: Whether to write JSON.

    Returns:
        The exit code: that of the worst file.
    """
    terminal, messages = Terminal(), Terminal(stderr=True)
    differences = Differences()
    code = 0
    if not as_json:
        terminal.print([Line((_row(command, _HEADS[command]), "bold"))])
    for look in looks:
        code = worst(code, _exit_code(look))
        if as_json:
            sys.stdout.write(json.dumps(_document(command, look), allow_nan=False) + "\n")
            sys.stdout.flush()
        elif look.value is not None:
            terminal.print([Line(_row(command, _cells(look.value)))])
            differences.add(look.value)
        else:
            cells = ("refused", *[""] * (len(_HEADS[command]) - 2), show(look.source))
            terminal.print([Line(("refused", "red"), _row(command, cells).removeprefix("refused"))])
            what = look.error.what if look.error is not None else ""
            messages.print([Line(("Error: ", "bold red"), show(f"{what}; in {look.source}"))])
    if not as_json:
        terminal.print(differences.lines(terminal.width))
    return code


def _document(command: Command, look: Look[Any]) -> dict[str, Any]:
    if look.error is None and look.value is not None:
        document: dict[str, Any] = look.value.to_json()
        return document
    error = look.error or RemapError("nothing was found")
    return {**failure_json(error, Invocation(command=command, source=look.source)), "source": look.source}


def _exit_code(look: Look[Any]) -> int:
    if look.error is not None:
        return look.error.exit_code
    verdict = getattr(look.value, "verdict", "loads")
    return 0 if verdict == "loads" else 4 if verdict == "cannot tell" else 3


def _row(command: Command, cells: tuple[str, ...]) -> str:
    *short, last = cells
    numbers = ("layers", "parameters")
    aligned = [
        cell.rjust(width) if name in numbers else cell.ljust(width)
        for cell, width, name in zip(short, _WIDTHS[command], _HEADS[command], strict=False)
    ]
    return "  ".join((*aligned, last))


def _cells(value: Inspection | Check) -> tuple[str, ...]:
    if not isinstance(value, Inspection):
        layers = sum(1 for step in value.loading.steps if step.expected is not None)
        return value.verdict, f"{layers:,}", show(value.source)
    model = next((layer for layer in value.models if layer.name == value.template), None)
    layers = len(value.layers if model is None or not model.layers else model.layers)
    settled = value.settled_by or ("open" if value.question else "")
    name = show(value.template or value.name)
    return value.kind, f"{layers:,}", f"{value.parameters:,}", settled, name, show(value.source)


@dataclass(slots=True, kw_only=True)
class _Group:
    """Files that are alike; `lines` tells how they differ from the first file."""

    lines: list[str]
    count: int = 0
    sources: list[str] = field(default_factory=list)


class Differences:
    """Groups files that are alike; takes the same memory for any number of files."""

    def __init__(self) -> None:
        self._groups: dict[bytes, _Group] = {}
        self._first: Mapping[str, str] = {}
        self._others = 0

    def add(self, value: Inspection | Check) -> None:
        """Take one more file into account.

        Args:
            value: What was found in it.
        """
        facts = _facts(value)
        key = hashlib.sha256(json.dumps(facts).encode()).digest()
        group = self._groups.get(key)
        if group is None:
            if len(self._groups) == _MOST_GROUPS:
                self._others += 1
                return
            if not self._groups:
                self._first = facts
            group = self._groups[key] = _Group(lines=list(_differing(self._first, facts)))
        group.count += 1
        if len(group.sources) < _MOST_LISTED:
            group.sources.append(value.source)

    def lines(self, width: int | None) -> Iterator[Line]:
        """Say which files are alike, and how the others differ from the first.

        Args:
            width: The width of the terminal.

        Yields:
            Lines.
        """
        groups = list(self._groups.values())
        total = sum(group.count for group in groups) + self._others
        if total < 2:
            return
        yield Line()
        if len(groups) == 1 and not self._others:
            which = "Both files" if total == 2 else f"All {count(total, 'file')}"
            yield Line(f"{which} are alike: the same layers, shapes and types.")
            return
        yield from wrapped(
            f"{_named(groups[0])} are alike." if groups[0].count > 1 else "No other file is like the first.",
            "",
            width,
        )
        for group in groups[1:]:
            verb = "differ" if group.count > 1 else "differs"
            yield Line()
            yield from wrapped(f"{_named(group)} {verb} from {show(groups[0].sources[0])}:", "", width)
            for text in group.lines[:_MOST_LISTED]:
                yield from wrapped(text, "", width, first="  ", rest="    ")
            if len(group.lines) > _MOST_LISTED:
                yield Line(f"  and {len(group.lines) - _MOST_LISTED:,} more differences")
        if self._others:
            yield Line()
            yield Line(f"{count(self._others, 'more file')} differ in other ways: --json tells all of them")


def _named(group: _Group) -> str:
    listed = ", ".join(map(show, group.sources))
    return (
        listed
        if group.count == len(group.sources)
        else f"{listed} and {group.count - len(group.sources):,} more"
    )


def _facts(value: Inspection | Check) -> dict[str, str]:
    """List what may differ between files, and is worth a line."""
    if not isinstance(value, Inspection):
        facts: dict[str, str] = {"verdict": value.verdict}
        facts |= {f"message {number}": words for number, words in enumerate(value.words, 1)}
        return facts | {f"warning {number}": words for number, words in enumerate(value.warnings, 1)}
    found = {name: getattr(value, attribute) for name, attribute in _FACTS.items()}
    facts = {name: "none" if one is None else str(one) for name, one in found.items()}
    for layer in value.layers:
        for part in layer.walk():
            for weight in part.weights:
                facts[f"{part.name}, {weight.name}"] = f"{shape(weight.shape)} {dtype(weight.dtype)}"
    return facts


def _differing(first: Mapping[str, str], facts: Mapping[str, str]) -> Iterator[str]:
    for name, value in facts.items():
        if name not in first:
            yield show(f"{name}: {value}, not in the first")
        elif first[name] != value:
            yield show(f"{name}: {value}, not {first[name]}")
    for name, value in first.items():
        if name not in facts:
            yield show(f"{name}: missing, {value} in the first")
