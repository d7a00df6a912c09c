"""The JSON documents as docs/json.md describes them, and whether a document is one of them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

__all__ = ["choices", "described", "referenced", "require_documented"]

_PAGE = Path(__file__).parent.parent / "docs" / "json.md"
_SIMPLE = {"string": str, "boolean": bool, "null": type(None)}


def require_documented(document: dict[str, Any]) -> None:
    """Assert that a document has exactly the fields of its description, each of the type described."""
    name = document["format"].removeprefix("h5remap-")
    _require(document, name, described(), name)


def described() -> dict[str, dict[str, str]]:
    """Give for each section of the page its fields, and for each field its type."""
    sections: dict[str, dict[str, str]] = {}
    fields: dict[str, str] = {}
    for line in _PAGE.read_text(encoding="utf-8").splitlines():
        if line.startswith("## "):
            fields = sections.setdefault(line[3:], {})
        elif (match := re.match(r"\| (\w+) \| ((?:[^|]|\\\|)+?) \|", line)) and match[1] != "field":
            fields[match[1]] = match[2].replace("\\|", "|")
    return sections


def choices(kind: str) -> list[str]:
    """List the types of which a described type allows any; those of its elements for a list."""
    return choices(kind[1:-1]) if kind.startswith("[") and kind.endswith("]") else _split(kind)


def referenced(kind: str) -> set[str]:
    """Give the sections that a described type refers to."""
    return set(re.findall(r"[a-z]+", re.sub(r'"[^"]*"', "", kind))) - {*_SIMPLE, "integer", "number"}


def _require(value: Any, kind: str, sections: dict[str, dict[str, str]], where: str) -> None:
    assert any(_fits(value, choice, sections, where) for choice in _split(kind)), (
        f"{where}: {value!r} is no {kind}"
    )


def _fits(value: Any, kind: str, sections: dict[str, dict[str, str]], where: str) -> bool:
    if kind.startswith("["):
        if not isinstance(value, list):
            return False
        for number, item in enumerate(value):
            _require(item, kind[1:-1], sections, f"{where}[{number}]")
        return True
    if kind.startswith('"') or kind.isdigit():
        return bool(value == (kind[1:-1] if kind.startswith('"') else int(kind)))
    if kind in ("integer", "number"):
        numbers = int if kind == "integer" else (int, float)
        return isinstance(value, numbers) and not isinstance(value, bool)
    if kind in _SIMPLE:
        return isinstance(value, _SIMPLE[kind])
    if not isinstance(value, dict):
        return False
    fields = sections[kind]
    assert list(value) == list(fields) or set(value) == set(fields), f"{where}: {set(value) ^ set(fields)}"
    for name, inner in fields.items():
        _require(value[name], inner, sections, f"{where}.{name}")
    return True


def _split(kind: str) -> list[str]:
    """Split at the bars that stand outside all brackets."""
    parts, depth, start = [], 0, 0
    for place, char in enumerate(kind):
        depth += (char == "[") - (char == "]")
        if char == "|" and not depth:
            parts.append(kind[start:place].strip())
            start = place + 1
    return [*parts, kind[start:].strip()]
