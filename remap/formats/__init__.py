"""The formats of the output: declared once, chosen by the output's name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from remap.errors import UsageRefused
from remap.formats import keras2, keras3
from remap.formats.description import FileDescription

if TYPE_CHECKING:
    from remap.conversion_plan import Plan
    from remap.keras3.tensors import Translation

__all__ = ["DEFAULT", "EXTENSIONS", "FORMATS", "Format", "format_of"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Format:
    """A format of the output.

    Attributes:
        extensions: How the names of its files end, the usual one first.
        has_model: Whether its files hold the architecture; else only weights are asked of a plan.
        from_plan: What describes the file of a plan; None for a format of Keras 3.
        from_translation: What describes the file of a translation to Keras 3; None for a format that needs none.
    """

    extensions: tuple[str, ...]
    has_model: bool
    from_plan: Callable[[Plan], FileDescription] | None = None
    from_translation: Callable[[Translation], FileDescription] | None = None


DEFAULT = Format(
    extensions=(".h5", ".hdf5"),
    has_model=True,
    from_plan=keras2.describe,
)
"""The format of Keras 2: that of the input."""
# Where the names of two formats end alike, the longer extension stands later.
FORMATS = (
    DEFAULT,
    Format(
        extensions=(".keras",),
        has_model=True,
        from_translation=keras3.describe_archive,
    ),
    Format(
        extensions=(".weights.h5",),
        has_model=False,
        from_translation=keras3.describe_weights,
    ),
)
_USUAL = [form.extensions[0] for form in FORMATS]
EXTENSIONS = f"{', '.join(_USUAL[:-1])} or {_USUAL[-1]}"
"""The usual extensions, for messages."""


def format_of(name: str) -> Format:
    """Choose the format by the name of the output file, as Keras does: by its extension in lower case.

    Raises:
        UsageRefused: No format has files of that name.

    >>> format_of("single.weights.h5").extensions
    ('.weights.h5',)
    """
    matches = [form for form in FORMATS if name.endswith(form.extensions)]
    if not matches:
        dot, extension = name.rpartition(".")[1:]
        what = f"unknown output extension {dot + extension!r}" if dot else "the output name has no extension"
        raise UsageRefused(f"{what}; use {EXTENSIONS}", where=name)
    return matches[-1]
