"""The layers of a flat list, as the names and shapes of its weights show them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from remap.checkpoint import Weight
from remap.layers import NEVER_TRAINED
from remap.weight_names import clean, layer_scope, leaf

__all__ = ["MOST_CUTS", "Ends", "Listed", "ends", "follows", "listed_layers", "parted"]

MOST_CUTS = 32
"""Places at which the frozen layers may begin that are tried."""

Ends = tuple[int, int]
"""How many features a layer's input and output have; 0 if its weights do not tell."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Listed:
    """The weights of one scope.

    Attributes:
        name: The scope.
        weights: Their places in the list, in order.
        leaves: The last parts of their names.
        shapes: Their shapes.
        ends: How many features the input and the output of the layer have.
    """

    name: str
    weights: tuple[int, ...]
    leaves: tuple[str, ...]
    shapes: tuple[tuple[int, ...], ...]
    ends: Ends = (0, 0)

    @property
    def again(self) -> int | None:
        """Give the place of its first weight behind weights of other layers; None if all are neighbours."""
        first = self.weights[0]
        return next((place for number, place in enumerate(self.weights) if place != first + number), None)

    @property
    def recurrent(self) -> bool:
        """Tell whether it has recurrent weights; Keras converts the bias of such a layer."""
        return "recurrent_kernel" in self.leaves

    @property
    def reads_input(self) -> bool:
        """Tell whether it is an Embedding, whose input are integers: no layer with weights computes them."""
        return "embeddings" in self.leaves

    @property
    def normalizes(self) -> bool:
        """Tell whether it has moving averages, as a BatchNormalization."""
        return self.never_trained is not None

    @property
    def axes(self) -> int:
        """Count the axes of its kernel: 2 for Dense and recurrent layers, 4 for convolutions of images; 0 without one."""
        kernels = [
            len(shape)
            for name, shape in zip(self.leaves, self.shapes, strict=True)
            if name in ("kernel", "depthwise_kernel")
        ]
        return max(kernels, default=0)

    @property
    def never_trained(self) -> int | None:
        """Give the place of its first weight with a name that Keras gives to no trainable weight, None if there is none."""
        named = zip(self.leaves, self.weights, strict=True)
        return next((place for name, place in named if name in NEVER_TRAINED), None)


def listed_layers(weights: Sequence[Weight]) -> tuple[Listed, ...] | str:
    """Divide a list by scopes.

    Returns:
        The layers in the order of their first weights, or the name of a weight that has no scope.
    """
    owned: dict[str, list[int]] = {}
    for place, weight in enumerate(weights):
        scope = layer_scope(weight.name)
        if not scope:
            return weight.name
        owned.setdefault(scope, []).append(place)
    return tuple(_listed(name, places, weights) for name, places in owned.items())


def parted(layers: Sequence[Listed]) -> tuple[int, list[Listed], list[Listed]]:
    """Divide a list where a layer is continued behind other layers: from there on nothing is trainable.

    Returns:
        The place where the first part ends, the layers that begin in it, and those with weights behind it, each in the
        order of the list. A layer may be in both.
    """
    size = sum(len(layer.weights) for layer in layers)
    end = min((layer.again for layer in layers if layer.again is not None), default=size)
    behind = [
        (next(place for place in layer.weights if place >= end), number)
        for number, layer in enumerate(layers)
        if layer.weights[-1] >= end
    ]
    first = [layer for layer in layers if layer.weights[0] < end]
    return end, first, [layers[number] for _, number in sorted(behind)]


def _listed(name: str, places: Sequence[int], weights: Sequence[Weight]) -> Listed:
    leaves = tuple(leaf(clean(weights[place].name)) for place in places)
    shapes = tuple(weights[place].shape for place in places)
    return Listed(
        name=name,
        weights=tuple(places),
        leaves=leaves,
        shapes=shapes,
        ends=ends(tuple(zip(leaves, shapes, strict=True))),
    )


def ends(named_shapes: Sequence[tuple[str, tuple[int, ...]]]) -> Ends:
    """Find the numbers of features of a layer's input and output by the leaf names and shapes of its weights."""
    shapes = dict(reversed(named_shapes))
    kernel = shapes.get("kernel")
    recurrent = shapes.get("recurrent_kernel")
    depthwise = shapes.get("depthwise_kernel")
    if depthwise is not None and len(depthwise) > 1:
        pointwise = shapes.get("pointwise_kernel")
        return depthwise[-2], pointwise[-1] if pointwise else depthwise[-2] * depthwise[-1]
    if kernel is not None and len(kernel) > 1:
        if recurrent is not None:
            # Two directions are concatenated or added: either is a multiple of one direction's output.
            return kernel[-2], recurrent[-2]
        bias = shapes.get("bias")
        if bias == (kernel[-2],) and kernel[-2] != kernel[-1]:
            return kernel[-1], kernel[-2]  # a transposed convolution
        return kernel[-2], kernel[-1]
    if "embeddings" in shapes:
        return 0, shapes["embeddings"][-1]
    vectors = {shape for shape in shapes.values() if len(shape) == 1}
    if len(vectors) == 1 and len(vectors) == len(set(shapes.values())):
        (size,) = vectors.pop()
        return size, size
    return 0, 0


def follows(before: Ends, after: Ends) -> bool:
    """Tell whether a layer may directly follow another one; flattening and reshaping multiply and divide."""
    given, taken = before[1], after[0]
    return 0 in (given, taken) or given % taken == 0 or taken % given == 0
