from __future__ import annotations

import pytest

from remap.assignment.by_names import ends, follows

Shapes = list[tuple[str, tuple[int, ...]]]


@pytest.mark.parametrize(
    ("shapes", "expected"),
    [
        ([("kernel", (3, 3, 4, 8)), ("bias", (8,))], (4, 8)),
        ([("kernel", (3, 3, 8, 4)), ("bias", (8,))], (4, 8)),  # transposed
        ([("depthwise_kernel", (3, 3, 4, 2)), ("bias", (8,))], (4, 8)),
        ([("depthwise_kernel", (3, 3, 4, 1)), ("pointwise_kernel", (1, 1, 4, 8))], (4, 8)),
        ([("kernel", (5, 16)), ("recurrent_kernel", (4, 16)), ("bias", (16,))], (5, 4)),
        ([("embeddings", (100, 8))], (0, 8)),
        ([("gamma", (8,)), ("beta", (8,)), ("moving_mean", (8,))], (8, 8)),
        ([("w", (2, 3, 4))], (0, 0)),
    ],
)
def test_features_in_and_out_follow_from_weights(shapes: Shapes, expected: tuple[int, int]) -> None:
    assert ends(shapes) == expected


def test_flattening_and_reshaping_multiply_and_divide() -> None:
    assert follows((3, 8), (128, 10))
    assert follows((100, 6272), (128, 64))
    assert follows((3, 8), (0, 0))
    assert not follows((3, 10), (3, 8))
