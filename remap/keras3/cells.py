"""The cells of a recurrent layer, and which of its weights are whose."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from remap.errors import InputRefused
from remap.keras.checkpoint import Weight
from remap.keras.config import Layer, read_layer
from remap.keras.layers import owned_weights
from remap.keras.slots import OwnedWeights
from remap.keras3.built import describe
from remap.keras3.rules import RULES

__all__ = ["owned_by", "share_out"]


def share_out(owner: Layer, cells: Sequence[Layer], weights: Sequence[Weight]) -> list[Sequence[Weight]]:
    """Tell apart what belongs to which cell; a cell of the user's own gets what the others leave."""
    counts = [_count(cell) for cell in cells]
    unknown = counts.count(None)
    left = len(weights) - sum(count or 0 for count in counts)
    if unknown > 1 or left < 0 or (left and not unknown):
        raise InputRefused(
            "its cells are not described, or not by their weights: Keras 2.0 wrote down the names only",
            where=describe(owner),
            hint="save the model again with Keras 2.1 or later",
        )
    shares: list[Sequence[Weight]] = [()] * len(cells)
    start = 0
    for index in sorted(range(len(cells)), key=lambda index: not cells[index].trainable):
        count = counts[index]
        end = start + (left if count is None else count)
        shares[index] = weights[start:end]
        start = end
    return shares


def _count(cell: Layer) -> int | None:
    """Count a cell's weights; None for a class that Keras does not have."""
    if cell.class_name == "StackedRNNCells":
        inner = [_count(read_layer(entry)) for entry in cell.config.objects("cells")]
        return None if None in inner else sum(count or 0 for count in inner)
    if cell.class_name not in RULES:
        return None
    owned = owned_by(cell)
    return None if owned is None else len(owned.trainable) + len(owned.non_trainable)


def owned_by(layer: Layer) -> OwnedWeights | None:
    """Say which weights a layer owns; a cell owns what the layer that it makes up does."""
    return owned_weights(replace(layer, class_name=layer.class_name.removesuffix("Cell")))
