"""A checkpoint of old Keras, multi-GPU or single, as a model in the formats of Keras 3."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from remap.architecture import Layer, dtype_name
from remap.assignment.reference import Request
from remap.checkpoint import Checkpoint
from remap.conversion_plan import Plan, PlannedLayer
from remap.errors import InputRefused
from remap.keras3.custom_objects import custom_object_names, name_lambda_functions
from remap.keras3.graph import makes_mask
from remap.keras3.known_functions import replace_known_functions
from remap.keras3.layer import WEIGHTS_ONLY
from remap.keras3.masks import mask_problems
from remap.keras3.model import build_model
from remap.keras3.tensors import Translation
from remap.layers import SEQUENTIAL
from remap.layers.declaration import Setting, Writer

__all__ = ["to_keras3", "translate"]

_NO_SHAPE = "build the model in Keras 3 with an Input, and load the weights"


def translate(
    architecture: Layer, planned: Sequence[PlannedLayer], *, keras_version: str | None
) -> Translation:
    """Convert a model of Keras 2 or tf.keras to Keras 3.

    Args:
        architecture: The model.
        planned: The weights of its layers, those of nested models by their own layers.
        keras_version: The version in the file.

    Raises:
        InputRefused: The weights do not belong to the architecture.
    """
    architecture, known = replace_known_functions(architecture)
    setting = Setting(
        floatx=_float_type(architecture, planned),
        writer=Writer(keras_version),
        masks=any(makes_mask(layer) for layer in architecture.walk()),
    )
    built = build_model(architecture, architecture.name or "model", planned, setting)
    problems = (*built.problems, *mask_problems(architecture, setting.writer))
    if not _has_input_shape(built.entry):
        problems = (
            *problems,
            InputRefused(
                "nothing in the file gives the shape of the model's input",
                hint=_NO_SHAPE,
                remedies=WEIGHTS_ONLY,
            ),
        )
    loading_notes = () if problems else name_lambda_functions(built.entry)
    return Translation(
        config=built.entry,
        groups=built.groups,
        notes=(*known, *built.notes),
        problems=problems,
        custom_objects=custom_object_names(built.entry),
        loading_notes=loading_notes,
    )


def _has_input_shape(entry: dict[str, Any]) -> bool:
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


def to_keras3(checkpoint: Checkpoint, request: Request) -> tuple[Plan, Translation]:
    """Plan the model of a checkpoint, and write it for Keras 3.

    Args:
        checkpoint: What was read of the input.
        request: What the caller wants.

    Returns:
        The plan, and the model as Keras 3 describes it.

    Raises:
        Undecided: If no architecture is known, or if a choice or a reference model is needed.
        InputRefused: If Keras 3 does not have what the model needs.
    """
    # Imported here because `translate` alone, which `check` calls, does not need them.
    from remap.keras3.training import add_training
    from remap.planning import compose_for_keras3
    from remap.training_state import output_names

    plan = compose_for_keras3(checkpoint, request)
    architecture = plan.architecture
    assert architecture is not None  # noqa: S101 - without one there is no plan for Keras 3
    translation = translate(architecture, plan.layers, keras_version=plan.keras_version)
    if plan.training_config is not None:
        translation = add_training(
            translation,
            plan.layers,
            training_config=plan.training_config,
            optimizer=[weight.source for weight in plan.optimizer] if plan.optimizer is not None else None,
            outputs=output_names(architecture),
        )
    return replace(plan, notes=(*plan.notes, *translation.notes)), translation
