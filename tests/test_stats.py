"""Numbers about tensors are those of numpy, whatever the type and however the bytes come."""

from __future__ import annotations

import os
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from remap import InputRefused, inspect
from remap.stats import Stats, stats_of
from tests.handmade import save_weights


def pieces(array: NDArray[np.generic], size: int) -> Iterator[memoryview]:
    data = array.tobytes()
    return (memoryview(data[start : start + size]) for start in range(0, len(data), size))


@pytest.mark.parametrize("dtype", ["<f4", ">f4", "<f2", "<f8", "<i4", ">i8", "|u1", "|b1"])
def test_any_type_in_any_pieces(dtype: str) -> None:
    array = (np.arange(1000) % 100).astype(dtype)
    stats = stats_of(pieces(array, 8 * 7), array.dtype.str)
    wide = array.astype("f8")
    assert (stats.minimum, stats.maximum) == (wide.min(), wide.max())
    assert stats.mean == pytest.approx(wide.mean())
    assert (stats.nans, stats.infinities) == (0, 0)


def test_half_precision_does_not_overflow() -> None:
    array = np.full(1000, 60000, "<f2")
    assert stats_of(pieces(array, 512), "<f2").mean == 60000 - 60000 % 32


@pytest.mark.parametrize("size", [8, 24, 8000])
@pytest.mark.parametrize(
    "values", [[1.7e308] * 3, [-1.7e308] * 3, [1.7e308, 1.7e308, 1.0], [1e300, 1e-300, 2e300]]
)
def test_the_mean_of_the_largest_floats_is_finite_and_right(values: list[float], size: int) -> None:
    stats = stats_of(pieces(np.array(values * 50, "<f8"), size), "<f8")
    assert stats.mean == pytest.approx(float(sum(map(Fraction, values)) / len(values)), rel=1e-15)
    assert (stats.minimum, stats.maximum) == (min(values), max(values))


def test_what_is_not_finite_is_counted_and_left_out() -> None:
    array = np.array([np.nan, np.inf, -np.inf, 1, 3, np.nan], "<f4")
    assert stats_of(pieces(array, 8), "<f4") == Stats(minimum=1, maximum=3, mean=2, nans=2, infinities=2)


def test_a_file_that_changes_while_it_is_read_has_no_numbers(tmp_path: Path) -> None:
    source = save_weights(tmp_path / "in.h5")

    def change(*_: int) -> None:
        os.utime(source, ns=(0, 0))

    with pytest.raises(InputRefused, match="changed while it was read"):
        inspect(source, stats=True, progress=change)


def test_without_finite_values_there_are_no_numbers() -> None:
    nothing = Stats(minimum=None, maximum=None, mean=None, nans=0, infinities=0)
    assert stats_of([], "<f4") == nothing
    array = np.array([np.nan], "<f4")
    assert stats_of(pieces(array, 4), "<f4").nans == 1
