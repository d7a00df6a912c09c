"""The output, reopened through the gate and compared with what it should be."""

from __future__ import annotations

from typing import TYPE_CHECKING

from remap.errors import OutputRefused
from remap.keras.checkpoint import Checkpoint, LayerGroup, Weight

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from remap.hdf5.reader import OpenedCheckpoint
    from remap.keras.plan import Plan, PlannedWeight

__all__ = ["verify"]

_BLOCK = 256 << 10
"""Bytes compared at a time: two blocks stay in the cache of a processor's core."""

_LOST = "nothing was published: this disk loses data, or h5remap has a bug, which please report"


def verify(
    plan: Plan, opened: OpenedCheckpoint, written: OpenedCheckpoint, report: Callable[[int], None]
) -> None:
    """Compare everything in an output with the plan, and every byte of its tensors with the input's.

    `report` is told of every number of bytes compared. Raises OutputRefused at the first difference.
    """
    expected, found = _expected(plan), written.checkpoint
    if found != expected:
        raise OutputRefused(
            f"what was written reads back differently: {_difference(expected, found)}",
            hint=_LOST,
        )
    ours, theirs = bytearray(_BLOCK), bytearray(_BLOCK)
    for planned, weight in zip(_planned(plan), _weights(found), strict=True):
        given, got = opened.extent(planned.source), written.extent(weight)
        for place in range(0, got.size, _BLOCK):
            size = min(_BLOCK, got.size - place)
            written.source.read_into(memoryview(ours)[:size], got.offset + place)
            opened.source.read_into(memoryview(theirs)[:size], given.offset + place)
            # Whole byte arrays are compared at the speed of memory, views of them byte by byte.
            if ours != theirs if size == _BLOCK else ours[:size] != theirs[:size]:
                raise OutputRefused(
                    "a tensor that was written reads back differently",
                    where=f"{weight.path}, within {size:,} bytes from byte {place:,} of it",
                    hint=_LOST,
                )
            report(size)


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


def _planned(plan: Plan) -> list[PlannedWeight]:
    return [weight for layer in plan.layers for weight in layer.weights] + list(plan.optimizer or ())


def _weights(checkpoint: Checkpoint) -> list[Weight]:
    return [weight for layer in checkpoint.layers for weight in layer.weights] + list(
        checkpoint.optimizer or ()
    )


def _difference(expected: Checkpoint, found: Checkpoint) -> str:
    different = [name for name in Checkpoint.__slots__ if getattr(expected, name) != getattr(found, name)]
    return f"its {different[0].replace('_', ' ')}"
