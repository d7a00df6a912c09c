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

    `name` is what Keras 3 notes as the object's name. The first `trainable` of the variables are trained.
    """

    path: str
    name: str
    variables: tuple[OutputTensor, ...] = ()
    trainable: int = 0

    def under(self, above: str) -> Group:
        """Give the same group further down in the file."""
        return replace(self, path=f"{above}/{self.path}" if self.path else above)


@dataclass(frozen=True, slots=True, kw_only=True)
class Translation:
    """A model for Keras 3.

    `config` is what config.json of a `.keras` file holds. `groups` are the variables with their places in
    `.weights.h5`. `notes` say what is not as it was. `problems` are the reasons why `config` cannot be
    used; the variables can all the same. `custom_objects` are the names of the functions and classes without which
    `config` cannot be loaded, and `loading_notes` say which functions these are.
    """

    config: dict[str, Any]
    groups: tuple[Group, ...]
    notes: tuple[str, ...] = ()
    problems: tuple[RemapError, ...] = ()
    custom_objects: tuple[str, ...] = ()
    loading_notes: tuple[str, ...] = ()

    @property
    def variables(self) -> tuple[tuple[str, OutputTensor], ...]:
        """List every variable with its path in the file, in the order of Keras 3's own variables."""
        return tuple(
            (f"{group.path}/vars/{index}".lstrip("/"), variable)
            for group in self.groups
            for index, variable in enumerate(group.variables)
        )
