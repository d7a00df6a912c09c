"""Do one layer's outputs fit the next one's inputs, as far as the shapes of their weights tell."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["Ends", "ends", "follows"]

Ends = tuple[int, int]
"""How many features a layer takes and gives; 0 where its weights do not tell."""


def ends(named_shapes: Sequence[tuple[str, tuple[int, ...]]]) -> Ends:
    """Give a layer's features in and out from the leaf names and shapes of its weights."""
    shapes = dict(reversed(named_shapes))
    kernel = shapes.get("kernel")
    recurrent = shapes.get("recurrent_kernel")
    depthwise = shapes.get("depthwise_kernel")
    if depthwise is not None and len(depthwise) > 1:
        pointwise = shapes.get("pointwise_kernel")
        return depthwise[-2], pointwise[-1] if pointwise else depthwise[-2] * depthwise[-1]
    if kernel is not None and len(kernel) > 1:
        if recurrent is not None:
            # Two directions double the output, or add up: either is a multiple of one direction's.
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
    """Tell whether a layer may directly follow another; flattening and reshaping multiply and divide."""
    given, taken = before[1], after[0]
    return 0 in (given, taken) or given % taken == 0 or taken % given == 0
