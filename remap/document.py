"""Values as JSON has them."""

from __future__ import annotations

from dataclasses import fields, is_dataclass
from typing import Any

__all__ = ["as_json"]


def as_json(value: Any) -> Any:
    """Turn dataclasses into dictionaries and tuples into lists, all the way down."""
    if is_dataclass(value):
        return {field.name: as_json(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, tuple):
        return [as_json(item) for item in value]
    return value
