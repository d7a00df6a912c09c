"""docs/json.md lists every document, every field of it and every value of a closed set."""

from __future__ import annotations

import re
import typing
from dataclasses import fields, is_dataclass
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal

import pytest

import remap
from remap.checking import Verdict
from remap.comparison.results import ComparedTensor, Comparison, MovedLayer, Movement
from remap.errors import GIVE_JSON, Remedy
from remap.inner_wrappers import InnerWrapper
from remap.loaders import LoaderVerdict
from remap.results import InspectedLayer, InspectedWeight, Inspection, Move, Report
from remap.stats import Stats
from tests.documented import choices, described, referenced

SECTIONS = described()
PACKAGE = Path(remap.__file__).parent
HEAD = {"format", "version"}
OBJECTS: dict[str, type[Any]] = {
    "inspection": Inspection,
    "layer": InspectedLayer,
    "weight": InspectedWeight,
    "stats": Stats,
    "report": Report,
    "move": Move,
    "loader": LoaderVerdict,
    "comparison": Comparison,
    "compared": ComparedTensor,
    "moved": MovedLayer,
    "movement": Movement,
    "wrapper": InnerWrapper,
}
"""The sections that are a dataclass turned into JSON as it is; the others are compared with documents in other tests."""
SIMPLE = {str: "string", bool: "boolean", int: "integer", float: "number", NoneType: "null"}


def test_every_document_has_a_section() -> None:
    code = "".join(path.read_text(encoding="utf-8") for path in PACKAGE.rglob("*.py"))
    formats = set(re.findall(r'"h5remap-(\w+)"', code)) - {"record"}  # a file beside the outputs of a batch
    assert formats
    for name in formats:
        assert SECTIONS[name]["format"] == f'"h5remap-{name}"'
        assert SECTIONS[name]["version"] == "1"
    assert {name for name, listed in SECTIONS.items() if HEAD & set(listed)} == formats


def test_every_section_is_used_and_every_type_has_one() -> None:
    documents = {name for name, listed in SECTIONS.items() if "format" in listed}
    used = {kind for listed in SECTIONS.values() for kind in referenced(" ".join(listed.values()))}
    assert used | documents == set(SECTIONS)


@pytest.mark.parametrize("name", OBJECTS)
def test_every_field_is_listed_with_its_type(name: str) -> None:
    hints = typing.get_type_hints(OBJECTS[name], localns={"Stats": Stats})
    listed = {field: kind for field, kind in SECTIONS[name].items() if field not in HEAD}
    assert list(listed) == [field.name for field in fields(OBJECTS[name])]
    for field, kind in listed.items():
        assert compatible(kind, hints[field]), f"{name}.{field}: {kind} for {hints[field]}"


def test_every_field_of_a_remedy_is_listed() -> None:
    assert list(SECTIONS["remedy"]) == list(GIVE_JSON.to_json())


def compatible(kind: str, hint: Any) -> bool:
    """Compare a described type with a Python type.

    The page may be narrower: strings listed where the code says `str`, or some of the strings that the code allows.
    """
    if typing.get_origin(hint) is tuple:
        return kind.startswith("[") and compatible(kind[1:-1], typing.get_args(hint)[0])
    found, allowed = set(choices(kind)), set(python_choices(hint))
    if "string" in allowed and "string" not in found:
        found = {choice for choice in found if not choice.startswith('"')} | {"string"}
    return found <= allowed and all(choice.startswith('"') for choice in allowed - found)


def python_choices(hint: Any) -> list[str]:
    if typing.get_origin(hint) in (UnionType, typing.Union):
        return [choice for part in typing.get_args(hint) for choice in python_choices(part)]
    if typing.get_origin(hint) is Literal:
        values = typing.get_args(hint)
        return [f'"{value}"' if isinstance(value, str) else SIMPLE[type(value)] for value in values]
    if typing.get_origin(hint) is tuple:
        return [f"[{' | '.join(python_choices(typing.get_args(hint)[0]))}]"]
    if is_dataclass(hint):
        return ["remedy" if hint is Remedy else next(name for name, kind in OBJECTS.items() if kind is hint)]
    return [SIMPLE[hint]]


def test_a_plan_is_a_report_with_a_mapping() -> None:
    same = {"target": "null", "size": "0", "format": '"h5remap-plan"', "mapping": "[move]"}
    assert SECTIONS["plan"] == SECTIONS["report"] | same


def test_an_error_lists_every_class_and_exit_code() -> None:
    errors = remap.RemapError.__subclasses__()
    names = {re.sub(r"(?<=[a-z])(?=[A-Z])", "-", error.__name__).lower() for error in errors}
    assert set(choices(SECTIONS["error"]["kind"])) == {f'"{name}"' for name in names}
    assert set(choices(SECTIONS["error"]["exit_code"])) == {str(error.exit_code) for error in errors}


def test_a_check_lists_every_verdict() -> None:
    assert set(choices(SECTIONS["check"]["verdict"])) == {
        f'"{verdict}"' for verdict in typing.get_args(Verdict)
    }
