"""The output, reopened through the gate and compared with what it should be."""

from __future__ import annotations

from typing import TYPE_CHECKING

from remap.errors import OutputRefused
from remap.hdf5.stored import LOST
from remap.keras.checkpoint import Checkpoint, LayerGroup, Weight

if TYPE_CHECKING:
    from collections.abc import Iterable

    from remap.hdf5.layout import Place
    from remap.hdf5.reader import OpenedCheckpoint
    from remap.keras.plan import Plan, PlannedWeight

__all__ = ["verify"]


def verify(plan: Plan, written: OpenedCheckpoint, places: Iterable[Place]) -> None:
    """Compare everything in an output but the bytes of its tensors with the plan.

    Those were compared at their `places`; that they are where the output itself says they are is seen to here. Raises
    OutputRefused at the first difference.
    """
    expected, found = _expected(plan), written.checkpoint
    if found != expected:
        raise OutputRefused(
            f"what was written reads back differently: {_difference(expected, found)}",
            hint=LOST,
        )
    known = {place.path: place.offset for place in places}
    for path, extent in written.extents.items():
        if extent.size and extent.offset != known.get(path):
            raise OutputRefused("a tensor that was written reads back from elsewhere", where=path, hint=LOST)


def _expected(plan: Plan) -> Checkpoint:
    full = plan.model_config is not None
    root = "/model_weights" if full else "/"
    prefix = root.rstrip("/")
    return Checkpoint(
        root=root,
        layers=tuple(
            LayerGroup(name=layer.name, weights=_expect(f"{prefix}/{layer.name}", layer.weights))
            for layer in plan.layers
        ),
        backend=plan.backend,
        keras_version=plan.keras_version,
        file_backend=plan.file_backend if full else None,
        file_keras_version=plan.file_keras_version if full else None,
        model_config=plan.model_config,
        training_config=plan.training_config,
        optimizer=None if plan.optimizer is None else _expect("/optimizer_weights", plan.optimizer),
    )


def _expect(group: str, weights: Iterable[PlannedWeight]) -> tuple[Weight, ...]:
    return tuple(
        Weight(
            name=weight.name,
            path=f"{group}/{weight.name}",
            shape=weight.source.shape,
            dtype=weight.source.dtype,
        )
        for weight in weights
    )


def _difference(expected: Checkpoint, found: Checkpoint) -> str:
    different = [name for name in Checkpoint.__slots__ if getattr(expected, name) != getattr(found, name)]
    return f"its {different[0].replace('_', ' ')}"
