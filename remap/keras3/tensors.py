"""A model in the form of Keras 3: its config, and the variables of its objects."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from remap.errors import RemapError
from remap.output_tensors import OutputTensor

__all__ = ["Group", "Translation"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """The variables of one object of Keras 3, stored at `<path>/vars/0`, `1`, ...

    `name` is what Keras 3 notes as the object's name. The first `trainable` of the recipes are trained.
    """

    path: str
    name: str
    recipes: tuple[OutputTensor, ...] = ()
    trainable: int = 0

    def under(self, above: str) -> Group:
        """Give the same group further down in the file."""
        return replace(self, path=f"{above}/{self.path}" if self.path else above)


@dataclass(frozen=True, slots=True, kw_only=True)
class Translation:
    """A model for Keras 3.

    `config` is what config.json of a `.keras` file holds. `groups` are the variables with their places in
    `.weights.h5`. `notes` say what is not as it was. `problems` are the reasons why `config` cannot be
    used; the variables can all the same.
    """

    config: dict[str, Any]
    groups: tuple[Group, ...]
    notes: tuple[str, ...] = ()
    problems: tuple[RemapError, ...] = ()

    @property
    def variables(self) -> tuple[tuple[str, OutputTensor], ...]:
        """List every variable with its path in the file, in the order of Keras 3's own variables."""
        return tuple(
            (f"{group.path}/vars/{index}".lstrip("/"), recipe)
            for group in self.groups
            for index, recipe in enumerate(group.recipes)
        )
