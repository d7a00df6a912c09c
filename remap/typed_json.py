"""JSON from a file, read once, checked, and given out through typed accessors only.

Keras reads its JSON with Python's `json`, so this reads the same: of keys that occur twice in one object the last
counts, and `NaN` and `Infinity` are numbers. What no Keras writes is refused: deep nesting, text that is not
Unicode, integers of very many digits. Every refusal names the file and the JSON path of the value.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Any, Final, Literal, NamedTuple, NoReturn, TypeVar, final

from remap.errors import InputRefused

__all__ = ["REQUIRED", "Config", "Json", "KerasObject", "Kind", "Required", "Value", "read_json"]

# A nested model costs five levels of JSON; no real model comes near this, and json's own parser recurses.
_DEEPEST = 200
_LONGEST_TEXT = 64 << 20
_MOST_DIGITS = 100
_LARGEST_INTEGER = 2**63 - 1
_MOST_ITEMS = 1_000_000
_OUTSIDE_BRACKETS = re.compile(r"[^\[\]{}]+")
_SURROGATE_ESCAPE = re.compile(r"\\u[dD][89a-fA-F]")
_PLAIN_KEY = re.compile(r"[A-Za-z_]\w*", re.ASCII)

Kind = Literal["object", "list", "text", "integer", "number", "flag", "null"]
"""What a JSON value is: integers are told from other numbers as Python's `json` does."""

_KINDS: dict[type, Kind] = {
    dict: "object",
    list: "list",
    str: "text",
    int: "integer",
    float: "number",
    bool: "flag",
    type(None): "null",
}
_ARTICLES: dict[Kind, str] = {
    "object": "an object",
    "list": "a list",
    "text": "text",
    "integer": "an integer",
    "number": "a number",
    "flag": "true or false",
    "null": "null",
}

Json = Any
"""A part of JSON that is made to be written; what comes out of a file is an `object`, which nothing looks into."""

D = TypeVar("D")
T = TypeVar("T")


@final
class Required:
    """The type of `REQUIRED`."""


REQUIRED: Final = Required()
"""In place of a default: the key must be there."""


class _Place(NamedTuple):
    """Where a value stands: the file, or a step down from the value above it."""

    above: _Place | None
    step: str | int

    def below(self, step: str | int) -> _Place:
        return _Place(self, step)

    def __str__(self) -> str:
        steps = []
        place = self
        while place.above is not None:
            steps.append(_shown_step(place.step))
            place = place.above
        return f"{place.step}, ${''.join(reversed(steps))}"


def _shown_step(step: str | int) -> str:
    if isinstance(step, int):
        return f"[{step}]"
    return f".{step}" if _PLAIN_KEY.fullmatch(step) and len(step) <= 80 else f"[{_shown(step)}]"


def _shown(value: object) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


@dataclass(frozen=True, slots=True, repr=False)
class Value:
    """One JSON value of a file; equal to another that holds the same JSON, wherever it stands.

    Made by `read_json` and by the accessors only. `json()` gives the JSON back, for writing it into a file again;
    everything else asks through the accessors, which raise InputRefused when the value is something else.
    """

    _raw: Any
    _place: _Place = field(compare=False)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({_shown(self._raw)})"

    @property
    def where(self) -> str:
        """Name the file and the JSON path of the value, for messages."""
        return str(self._place)

    @property
    def kind(self) -> Kind:
        """Tell what the value is."""
        return _KINDS[type(self._raw)]

    def json(self) -> object:
        """Give the JSON as Python's `json` reads it, to be written into a file as it stands."""
        return self._raw

    def plain(self) -> object:
        """Give the JSON, to be written for Keras 3, with tuples and arrays of old Keras as lists."""
        if self.kind == "object":
            items, place = self._listed()
            if items is self._raw:
                return self.object().plain()
            return [item.plain() for item in Value(items, place).values()] if type(items) is list else items
        return [item.plain() for item in self.values()] if self.kind == "list" else self._raw

    def is_one_of(self, values: Collection[bool | int | float | str | None]) -> bool:
        """Tell whether the value is equal to one of some that are not lists or objects."""
        return self.kind not in {"object", "list"} and self._raw in values

    def refuse(self, what: str, *, hint: str = "") -> NoReturn:
        """Raise InputRefused for this value."""
        raise InputRefused(what, where=self.where, hint=hint)

    def integer(self, *, at_least: int = -_LARGEST_INTEGER, at_most: int = _LARGEST_INTEGER) -> int:
        """Give an integer within bounds."""
        if type(self._raw) is not int:
            self._expected("an integer")
        if not at_least <= self._raw <= at_most:
            bounds = f"at least {at_least}" if at_most == _LARGEST_INTEGER else f"{at_least} to {at_most}"
            self._expected(f"an integer of {bounds}")
        return self._raw

    def number(self, *, at_least: float = -math.inf, at_most: float = math.inf) -> float:
        """Give a finite number within bounds, which may be written as an integer."""
        if type(self._raw) not in {int, float} or not math.isfinite(self._raw):
            self._expected("a finite number")
        if not at_least <= self._raw <= at_most:
            bounds = f"at least {at_least}" if at_most == math.inf else f"{at_least} to {at_most}"
            self._expected(f"a number of {bounds}")
        return float(self._raw)

    def flag(self) -> bool:
        """Give true or false, which Python programs also write as 1 and 0."""
        if type(self._raw) is not bool and not (type(self._raw) is int and self._raw in {0, 1}):
            self._expected("true or false")
        return bool(self._raw)

    def text(self) -> str:
        """Give text."""
        if type(self._raw) is not str:
            self._expected("text")
        return self._raw

    def name(self) -> str:
        """Give text that can be printed, as names of layers and classes can."""
        name = self.text()
        if not name.isprintable():
            self._expected("a name of characters that can be printed")
        return name

    def choice(self, allowed: Collection[str]) -> str:
        """Give text that is one of those allowed."""
        if type(self._raw) is not str or self._raw not in allowed:
            self._expected(f"one of {', '.join(sorted(allowed))}")
        return self._raw

    def values(self, *, at_most: int = _MOST_ITEMS) -> tuple[Value, ...]:
        """Give the items of a list.

        A tuple that tf.keras wrote as ``{"class_name": "__tuple__", "items": [..]}`` (or ``TensorShape``) and an
        array that Keras wrote as ``{"type": "ndarray", "value": [..]}`` are lists, too.
        """
        items, place = self._listed()
        if not isinstance(items, list):
            self._expected("a list")
        if len(items) > at_most:
            self._expected(f"a list of at most {at_most:,} items")
        return tuple(Value(item, place.below(index)) for index, item in enumerate(items))

    def integers(
        self,
        *,
        length: int | None = None,
        at_least: int = -_LARGEST_INTEGER,
        at_most: int = _LARGEST_INTEGER,
        repeat: bool = False,
    ) -> tuple[int, ...]:
        """Give a list of integers within bounds.

        With `length` the list has as many items; with `repeat` one integer may stand for `length` equal ones.
        """
        if repeat and length is not None and type(self._raw) is int:
            return (self.integer(at_least=at_least, at_most=at_most),) * length
        found = tuple(item.integer(at_least=at_least, at_most=at_most) for item in self.values())
        if length is not None and len(found) != length:
            self._expected(f"a list of {length} integers")
        return found

    def shape(self) -> tuple[int | None, ...]:
        """Give a shape in elements: a list of integers from 0 on, and of nulls where a size is open."""
        return tuple(
            None if size.kind == "null" else size.integer(at_least=0) for size in self.values(at_most=64)
        )

    def texts(self) -> tuple[str, ...]:
        """Give a list of texts."""
        return tuple(item.text() for item in self.values())

    def object(self) -> Config:
        """Give an object."""
        if type(self._raw) is not dict:
            self._expected("an object")
        return Config(self._raw, self._place)

    def objects(self) -> tuple[Config, ...]:
        """Give a list of objects."""
        return tuple(item.object() for item in self.values())

    def keras_object(self) -> KerasObject:
        """Give what Keras's `serialize_keras_object` writes: a class's name and its config."""
        entry = self.object()
        return KerasObject(class_name=entry.name("class_name"), config=entry.object("config"))

    def keras_objects(self) -> tuple[KerasObject, ...]:
        """Give a list of objects that Keras serialized."""
        return tuple(item.keras_object() for item in self.values())

    def _listed(self) -> tuple[Any, _Place]:
        raw = self._raw
        if type(raw) is dict:
            if raw.get("class_name") in ("__tuple__", "TensorShape") and "items" in raw:
                return [] if raw["items"] is None else raw["items"], self._place.below("items")
            if raw.get("type") == "ndarray" and "value" in raw:
                return raw["value"], self._place.below("value")
        return raw, self._place

    def _expected(self, wanted: str) -> NoReturn:
        shown = f" {_shown(self._raw)}" if self.kind in {"integer", "number", "text", "flag"} else ""
        self.refuse(f"{wanted} was expected and {_ARTICLES[self.kind]}{shown} was found")


@dataclass(frozen=True, slots=True, repr=False)
class Config:
    """One JSON object of a file, asked key by key.

    Each accessor raises InputRefused for a value of another type or range, and for an absent key, unless the caller
    says what its absence means in the Keras release that wrote it (`default`). A null is a wrong type, too; only
    where the default is None does it count as absent.
    """

    _fields: dict[str, Any]
    _place: _Place = field(compare=False)

    def __repr__(self) -> str:
        return f"Config({_shown(self._fields)})"

    @property
    def where(self) -> str:
        """Name the file and the JSON path of the object, for messages."""
        return str(self._place)

    def json(self) -> object:
        """Give the JSON as Python's `json` reads it, to be written into a file as it stands."""
        return self._fields

    def plain(self) -> object:
        """Give the JSON, to be written for Keras 3, with tuples and arrays of old Keras as lists."""
        return {key: value.plain() for key, value in self.items()}

    def refuse(self, what: str, *, hint: str = "") -> NoReturn:
        """Raise InputRefused for this object."""
        raise InputRefused(what, where=self.where, hint=hint)

    def has(self, key: str) -> bool:
        """Tell whether the key is there, with any value."""
        return key in self._fields

    def given(self, key: str) -> bool:
        """Tell whether the key is there and does not hold null."""
        return self._fields.get(key) is not None

    def keys(self) -> tuple[str, ...]:
        """List the keys in the file's order."""
        return tuple(self._fields)

    def items(self) -> Iterator[tuple[str, Value]]:
        """Yield the keys and their values in the file's order."""
        return ((key, Value(item, self._place.below(key))) for key, item in self._fields.items())

    def without(self, *keys: str) -> Config:
        """Give the object without some of its keys."""
        kept = {key: item for key, item in self._fields.items() if key not in keys}
        return Config(kept, self._place)

    def replaced(self, **values: Json) -> Config:
        """Give the object with other values under some of its keys, or with further keys."""
        return Config({**self._fields, **values}, self._place)

    def holds(self, key: str, value: bool | int | float | str | None) -> bool:
        """Tell whether the key is there and its value is equal to one that is not a list or an object."""
        return key in self._fields and self.value(key).is_one_of([value])

    def value(self, key: str) -> Value:
        """Give the value of a key, whatever it is."""
        if key not in self._fields:
            self.refuse(f"the key {_shown(key)} is not there")
        return Value(self._fields[key], self._place.below(key))

    def integer(
        self,
        key: str,
        *,
        at_least: int = -_LARGEST_INTEGER,
        at_most: int = _LARGEST_INTEGER,
        default: D | Required = REQUIRED,
    ) -> int | D:
        """Give an integer within bounds."""
        return self._read(key, default, lambda value: value.integer(at_least=at_least, at_most=at_most))

    def number(
        self,
        key: str,
        *,
        at_least: float = -math.inf,
        at_most: float = math.inf,
        default: D | Required = REQUIRED,
    ) -> float | D:
        """Give a finite number within bounds, which may be written as an integer."""
        return self._read(key, default, lambda value: value.number(at_least=at_least, at_most=at_most))

    def flag(self, key: str, *, default: D | Required = REQUIRED) -> bool | D:
        """Give true or false."""
        return self._read(key, default, Value.flag)

    def text(self, key: str, *, default: D | Required = REQUIRED) -> str | D:
        """Give text."""
        return self._read(key, default, Value.text)

    def name(self, key: str, *, default: D | Required = REQUIRED) -> str | D:
        """Give text that can be printed, as names of layers and classes can."""
        return self._read(key, default, Value.name)

    def optional_text(self, key: str) -> str | None:
        """Give text, or None where the key is absent or null."""
        return self.text(key, default=None)

    def choice(self, key: str, allowed: Collection[str], *, default: D | Required = REQUIRED) -> str | D:
        """Give text that is one of those allowed."""
        return self._read(key, default, lambda value: value.choice(allowed))

    def values(
        self, key: str, *, at_most: int = _MOST_ITEMS, default: D | Required = REQUIRED
    ) -> tuple[Value, ...] | D:
        """Give the items of a list, a tuple or an array."""
        return self._read(key, default, lambda value: value.values(at_most=at_most))

    def integers(
        self,
        key: str,
        *,
        length: int | None = None,
        at_least: int = -_LARGEST_INTEGER,
        at_most: int = _LARGEST_INTEGER,
        repeat: bool = False,
        default: D | Required = REQUIRED,
    ) -> tuple[int, ...] | D:
        """Give a list of integers within bounds.

        With `length` the list has as many items; with `repeat` one integer may stand for `length` equal ones.
        """
        return self._read(
            key,
            default,
            lambda value: value.integers(length=length, at_least=at_least, at_most=at_most, repeat=repeat),
        )

    def shape(self, key: str, *, default: D | Required = REQUIRED) -> tuple[int | None, ...] | D:
        """Give a shape in elements, None where a size is open."""
        return self._read(key, default, Value.shape)

    def texts(self, key: str, *, default: D | Required = REQUIRED) -> tuple[str, ...] | D:
        """Give a list of texts."""
        return self._read(key, default, Value.texts)

    def object(self, key: str, *, default: D | Required = REQUIRED) -> Config | D:
        """Give an object."""
        return self._read(key, default, Value.object)

    def objects(self, key: str, *, default: D | Required = REQUIRED) -> tuple[Config, ...] | D:
        """Give a list of objects."""
        return self._read(key, default, Value.objects)

    def keras_object(self, key: str, *, default: D | Required = REQUIRED) -> KerasObject | D:
        """Give what Keras's `serialize_keras_object` writes: a class's name and its config."""
        return self._read(key, default, Value.keras_object)

    def keras_objects(self, key: str, *, default: D | Required = REQUIRED) -> tuple[KerasObject, ...] | D:
        """Give a list of objects that Keras serialized."""
        return self._read(key, default, Value.keras_objects)

    def _read(self, key: str, default: D | Required, read: Callable[[Value], T]) -> T | D:
        raw = self._fields.get(key, REQUIRED)
        if isinstance(raw, Required) or (raw is None and default is None):
            if isinstance(default, Required):
                self.refuse(f"the key {_shown(key)} is not there")
            return default
        return read(Value(raw, self._place.below(key)))


@dataclass(frozen=True, slots=True, kw_only=True)
class KerasObject:
    """An object of Keras as its JSON describes it: a cell, an initializer, an optimizer."""

    class_name: str
    config: Config


def read_json(text: str, *, where: str) -> Value:
    """Read the JSON that a file holds.

    Args:
        text: The JSON.
        where: What to call the file, or the place in it, in messages.

    Raises:
        InputRefused: The text is not JSON, too long or nested too deeply, not Unicode, or holds an integer of very
            many digits.
    """
    if len(text) > _LONGEST_TEXT:
        raise InputRefused(
            f"the JSON is {len(text):,} characters long, which no architecture is", where=where
        )
    _require_unicode(text, where)
    _require_shallow(text, where)
    place = _Place(None, where)
    try:
        raw = json.loads(text, parse_int=_integer)
    except ValueError as error:
        raise InputRefused(f"not valid JSON: {error}", where=where) from None
    if _SURROGATE_ESCAPE.search(text):
        _require_unicode_inside(raw, where)
    return Value(raw, place)


def _integer(digits: str) -> int:
    if len(digits) > _MOST_DIGITS:
        raise ValueError(f"an integer of {len(digits):,} digits")
    return int(digits)


def _require_unicode(text: str, where: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise InputRefused("the JSON is not Unicode text", where=where) from None


def _require_unicode_inside(raw: object, where: str) -> None:
    """Refuse halves of surrogate pairs, which JSON can write and no file of Keras or HDF5 can hold."""
    pending = [raw]
    while pending:
        one = pending.pop()
        if isinstance(one, str):
            _require_unicode(one, where)
        elif isinstance(one, list):
            pending.extend(one)
        elif isinstance(one, dict):
            pending.extend(one)
            pending.extend(one.values())


def _require_shallow(text: str, where: str) -> None:
    """Refuse deep nesting before the parser, which recurses, sees it; linear in the length of the text."""
    unescaped = text.replace("\\\\", "").replace('\\"', "")
    outside = "".join(unescaped.split('"')[::2])
    brackets = _OUTSIDE_BRACKETS.sub("", outside)
    deepest = max(accumulate(1 if bracket in "[{" else -1 for bracket in brackets), default=0)
    if deepest > _DEEPEST:
        raise InputRefused(f"the JSON is nested {deepest:,} levels deep, which no model is", where=where)
