"""The weights of a layer by its config, and the operations that convert them to Keras 3."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

from remap.typed_json import Config

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = [
    "AddBiases",
    "Array",
    "Operation",
    "OwnedWeights",
    "ScaleBlocks",
    "Shape",
    "Slot",
    "SplitBiases",
    "TransposeGates",
    "UnpackCudnnKernel",
    "WeightChange",
    "joined",
    "no_weights",
    "window",
    "with_bias",
]

Shape = tuple[int | None, ...]
"""A shape in elements; None for a size that depends on the layer's input."""
Array: TypeAlias = "NDArray[Any]"

# The kernel of a DepthwiseConv2D in Keras 2 and tf.keras, and in Keras 3.
_RENAMED = ("depthwise_kernel", "kernel")


class Slot(NamedTuple):
    """One weight of a layer: its leaf name, and its shape as far as the config determines it (None: not at all)."""

    leaf: str
    shape: Shape | None = None

    def takes(self, leaf: str, shape: tuple[int, ...]) -> bool:
        """Tell whether a stored weight of that leaf name and shape can be this weight."""
        return (leaf == self.leaf or (leaf, self.leaf) == _RENAMED) and self.fits(shape)

    def fits(self, shape: tuple[int, ...]) -> bool:
        """Tell whether a stored weight of that shape can be this weight."""
        if self.shape is None or self.shape == shape:
            return True
        return len(shape) == len(self.shape) and all(
            want is None or want == have for want, have in zip(self.shape, shape, strict=True)
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnedWeights:
    """The weights of a layer that is trainable."""

    trainable: tuple[Slot, ...] = ()
    non_trainable: tuple[Slot, ...] = ()

    @property
    def slots(self) -> tuple[Slot, ...]:
        """List all of them in the order of `layer.weights`."""
        return (*self.trainable, *self.non_trainable)


def joined(parts: Sequence[OwnedWeights]) -> OwnedWeights:
    """Concatenate the weights of several layers."""
    return OwnedWeights(
        trainable=tuple(slot for part in parts for slot in part.trainable),
        non_trainable=tuple(slot for part in parts for slot in part.non_trainable),
    )


def no_weights(_: Config) -> OwnedWeights:
    """Declare that a class has no weights."""
    return OwnedWeights()


def with_bias(config: Config, *slots: Slot, bias: Shape | None) -> OwnedWeights:
    """Declare weights, followed by a bias unless `use_bias` is false."""
    owned = (*slots, Slot("bias", bias)) if config.flag("use_bias", default=True) else slots
    return OwnedWeights(trainable=owned)


def window(config: Config, rank: int) -> Shape:
    """Give `kernel_size` with one size, in elements, for each dimension."""
    return config.integers("kernel_size", length=rank, at_least=0, repeat=True)


class Operation:
    """A conversion of a stored weight to Keras 3."""

    def __call__(self, tensor: Array) -> Array:
        """Compute the new tensor."""
        raise NotImplementedError

    def shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Give the new shape, in elements: the same, unless an operation says otherwise."""
        return shape


@dataclass(frozen=True, slots=True)
class WeightChange:
    """The operations, in order, that convert the weight `leaf` of the old class to Keras 3."""

    leaf: str
    operations: tuple[Operation, ...]


@dataclass(frozen=True, slots=True)
class ScaleBlocks(Operation):
    """Multiply the `chosen` ones of the equal `blocks` of a tensor's last axis, in float64."""

    factor: float
    blocks: int
    chosen: tuple[int, ...]

    def __call__(self, tensor: Array) -> Array:
        """Compute the new tensor."""
        width = tensor.shape[-1] // self.blocks
        import numpy as np

        scaled = tensor.astype(np.float64)
        for block in self.chosen:
            scaled[..., block * width : (block + 1) * width] *= self.factor
        return scaled


@dataclass(frozen=True, slots=True)
class UnpackCudnnKernel(Operation):
    """Store the kernel of each gate row by row, as Keras does; cuDNN has its transpose in the same bytes.

    Source: `_convert_rnn_weights` in keras/engine/saving.py, as of the three operations that follow.
    """

    gates: int

    def __call__(self, tensor: Array) -> Array:
        """Compute the new tensor."""
        import numpy as np

        gates = np.hsplit(tensor, self.gates)
        return np.hstack([gate.ravel().reshape(gate.shape, order="F") for gate in gates])


@dataclass(frozen=True, slots=True)
class TransposeGates(Operation):
    """Transpose the square recurrent kernel of each gate."""

    gates: int

    def __call__(self, tensor: Array) -> Array:
        """Compute the new tensor."""
        import numpy as np

        return np.hstack([gate.T for gate in np.hsplit(tensor, self.gates)])


@dataclass(frozen=True, slots=True)
class AddBiases(Operation):
    """Add the two biases of cuDNN, of which Keras's LSTM has the sum."""

    def __call__(self, tensor: Array) -> Array:
        """Compute the new tensor."""
        import numpy as np

        first, second = np.split(tensor, 2)
        return np.asarray(first + second)

    def shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Halve the length."""
        return (shape[0] // 2,)


@dataclass(frozen=True, slots=True)
class SplitBiases(Operation):
    """Put the two biases of cuDNN in two rows, as Keras's GRU with `reset_after` has them."""

    def __call__(self, tensor: Array) -> Array:
        """Compute the new tensor."""
        return tensor.reshape(2, -1)

    def shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Make two rows."""
        return (2, shape[0] // 2)
