"""The options of a conversion, as a caller gives them."""

from __future__ import annotations

from dataclasses import dataclass

from remap.errors import UsageRefused

__all__ = ["Options"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What a caller chooses, the same for one file and for many; `remap.extract` describes each.

    Raises:
        UsageRefused: If options exclude each other.
    """

    like: str | None = None
    plain: bool = False
    keep_flags: bool = False
    submodel: str | None = None
    weights_only: bool = False
    overwrite: bool = False

    def __post_init__(self) -> None:
        """Refuse options that exclude each other."""
        if self.like is not None and self.plain:
            raise UsageRefused(
                "`plain` and `like` exclude each other: a reference model tells what `plain` asks to assume",
                hint="leave one of them out",
            )
