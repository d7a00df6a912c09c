"""From a plan to what a file for Keras 3 holds."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from remap.errors import InputRefused, RemapError
from remap.keras.config import Layer
from remap.keras.inputs import dtype_name
from remap.keras.plan import PlannedLayer
from remap.keras3.graph import makes_mask
from remap.keras3.masks import mask_problems
from remap.keras3.model import build_model
from remap.keras3.recipe import Group, Recipe
from remap.layers.catalogue import SEQUENTIAL
from remap.layers.declaration import Setting, Writer

__all__ = ["Translation", "translate"]


_NO_SHAPE = "convert to .weights.h5 instead, and load that into the model once it is built"


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
    def variables(self) -> tuple[tuple[str, Recipe], ...]:
        """List every variable with its path in the file, in the order of Keras 3's own variables."""
        return tuple(
            (f"{group.path}/vars/{index}".lstrip("/"), recipe)
            for group in self.groups
            for index, recipe in enumerate(group.recipes)
        )


def translate(
    architecture: Layer, planned: Sequence[PlannedLayer], *, keras_version: str | None
) -> Translation:
    """Write a model of Keras 2 or tf.keras for Keras 3.

    `planned` are the weights of the model's layers, told apart down to the innermost. Raises InputRefused
    when they do not belong to the architecture.
    """
    setting = Setting(
        floatx=_float_type(architecture, planned),
        writer=Writer(keras_version),
        masks=any(makes_mask(layer) for layer in architecture.walk()),
    )
    built = build_model(architecture, architecture.name or "model", planned, setting)
    problems = (*built.problems, *mask_problems(architecture, setting.writer))
    if not _tells_input(built.entry):
        problems = (*problems, InputRefused("nothing tells the shape of the model's input", hint=_NO_SHAPE))
    return Translation(config=built.entry, groups=built.groups, notes=built.notes, problems=problems)


def _tells_input(entry: dict[str, Any]) -> bool:
    return entry["class_name"] != SEQUENTIAL or "build_input_shape" in entry["config"]


def _float_type(architecture: Layer, planned: Sequence[PlannedLayer]) -> str:
    """Find the float type of the model: of most weights, else of the inputs."""
    found = Counter(
        f"float{8 * int(weight.source.dtype[2:])}"
        for layer in planned
        for weight in layer.weights
        if weight.source.dtype[1] == "f"
    )
    if found:
        return found.most_common(1)[0][0]
    for layer in architecture.walk():
        if layer.is_input:
            name = dtype_name(layer.config) or ""
            if name.startswith("float"):
                return name
    return "float32"
