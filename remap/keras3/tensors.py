"""A model in the form of Keras 3: its config, and the variables of its objects."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from remap.errors import RemapError
from remap.output_tensors import OutputTensor

__all__ = ["Translation", "VariableGroup"]


@dataclass(frozen=True, slots=True, kw_only=True)
class VariableGroup:
    """The variables of one object of Keras 3.

    Attributes:
        path: The group of the object in the file: the variables are `<path>/vars/0`, `<path>/vars/1` and so on.
        name: The name of the object, an attribute of its group.
        variables: The variables.
        trainable: How many of them, counted from the first, are trainable.
    """

    path: str
    name: str
    variables: tuple[OutputTensor, ...] = ()
    trainable: int = 0

    def under(self, above: str) -> VariableGroup:
        """Put the group below another one."""
        return replace(self, path=f"{above}/{self.path}" if self.path else above)


@dataclass(frozen=True, slots=True, kw_only=True)
class Translation:
    """A model for Keras 3.

    Attributes:
        config: The content of config.json in a `.keras` file.
        groups: The variables with their places in a `.weights.h5` file.
        notes: What differs from the old model.
        problems: Why no `.keras` file can be written; a `.weights.h5` file can.
        custom_objects: The names of functions and classes that `load_model` must be given.
        loading_notes: What these functions are.
    """

    config: dict[str, Any]
    groups: tuple[VariableGroup, ...]
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
