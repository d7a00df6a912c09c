"""Which weights a layer owns: trainable and not, in Keras's order."""

from __future__ import annotations

from remap.keras.config import Layer
from remap.layers.weights import OwnedWeights, joined

__all__ = ["is_weightless", "owned_weights"]


def owned_weights(layer: Layer) -> OwnedWeights | None:
    """Say which weights a layer that is not a model owns, or None where that is not known: for custom classes above all.

    A wrapper owns what its inner layer owns (`keras/layers/wrappers.py`): a Bidirectional that twice, forward
    before backward.

    Raises InputRefused for a config of a built-in class that no Keras writes.
    """
    declared = layer.declared
    if declared is None:
        return None
    if not declared.directions:
        return None if layer.wrapped is not None else declared.weights(layer.config)
    if layer.wrapped is None or layer.wrapped.children is not None:
        return None
    parts = [layer.wrapped, layer.backward or layer.wrapped][: declared.directions]
    known = [owned for part in parts if (owned := owned_weights(part)) is not None]
    return joined(known) if len(known) == len(parts) else None


def is_weightless(layer: Layer) -> bool:
    """Tell whether the class is one of Keras's that never own a weight."""
    return layer.declared is not None and layer.declared.weightless
