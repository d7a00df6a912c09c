"""Places for weights: what is known of a weight before it is found."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

__all__ = ["OwnedWeights", "Shape", "Slot", "joined"]

Shape = tuple[int | None, ...]
"""What the config says of a shape, in elements; None where it depends on the layer's input."""


# What Keras 2 and tf.keras call the kernel of a DepthwiseConv2D, and what Keras 3 calls it.
_RENAMED = ("depthwise_kernel", "kernel")


class Slot(NamedTuple):
    """A place for one weight: its leaf name, its shape as far as the config tells (None: not at all)."""

    leaf: str
    shape: Shape | None = None

    def takes(self, leaf: str, shape: tuple[int, ...]) -> bool:
        """Tell whether a weight of that leaf name and shape may stand here."""
        if leaf != self.leaf and (leaf, self.leaf) != _RENAMED:
            return False
        if self.shape is None or self.shape == shape:
            return True
        return len(shape) == len(self.shape) and all(
            want is None or want == have for want, have in zip(self.shape, shape, strict=True)
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnedWeights:
    """A layer's own weights as if it were trainable."""

    trainable: tuple[Slot, ...] = ()
    non_trainable: tuple[Slot, ...] = ()


def joined(parts: Sequence[OwnedWeights]) -> OwnedWeights:
    """Own what several parts own, one after the other."""
    return OwnedWeights(
        trainable=tuple(slot for part in parts for slot in part.trainable),
        non_trainable=tuple(slot for part in parts for slot in part.non_trainable),
    )
