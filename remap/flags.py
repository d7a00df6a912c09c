"""What is out of the ordinary about a layer."""

from __future__ import annotations

from collections.abc import Sequence

from remap.inspection import Flag
from remap.keras.checkpoint import Weight
from remap.keras.config import Layer
from remap.layers.owned import owned_weights

__all__ = ["flags_of"]

# Keras splits a list of names whose fixed-length form is longer (HDF5_OBJECT_HEADER_LIMIT in
# keras/engine/saving.py).
_LONGEST_LIST = 64512


def flags_of(layer: Layer | None, weights: Sequence[Weight], *, replicated: bool = False) -> tuple[Flag, ...]:
    """Say what is out of the ordinary about a layer; that a wrapper calls its template often is not."""
    flags: list[Flag] = []
    if layer is not None:
        wrapped = [layer]
        while (inner := wrapped[-1].wrapped) is not None:
            wrapped.append(inner)
        classes = [part.declared for part in wrapped if part.declared is not None]
        nested = wrapped[-1].children is not None
        custom = not nested and owned_weights(layer) is None
        marks: dict[Flag, bool] = {
            "nested": nested and not replicated,
            "shared": len(layer.nodes) > 1 and not replicated,
            "frozen": bool(weights) and not all(part.trainable for part in wrapped),
            "custom": custom,
            "cudnn": any(declared.needs_cudnn for declared in classes),
            "code": any(declared.calls_function for declared in classes),
        }
        flags += [flag for flag, holds in marks.items() if holds]
    longest = max((len(weight.name.encode()) for weight in weights), default=0)
    if longest * len(weights) > _LONGEST_LIST:
        flags.append("split names")
    return tuple(flags)
