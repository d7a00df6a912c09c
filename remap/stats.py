"""Numbers about the values of tensors, streamed: memory does not grow with their size."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from remap.hdf5.reader import tensor_chunks

if TYPE_CHECKING:
    from remap.checkpoint import Weight
    from remap.hdf5.difference import Readable

__all__ = ["Stats", "stats_of", "weigh"]

# From here on a sum may be infinite, so values are scaled before; a power of two changes none of their digits.
_LARGE = 2.0**960
_SCALE = 2.0**-128


@dataclass(frozen=True, slots=True, kw_only=True)
class Stats:
    """Numbers about a tensor's values.

    The least, the greatest and the mean are those of the finite values, None without any; NaN and infinities
    are counted.
    """

    minimum: float | None
    maximum: float | None
    mean: float | None
    nans: int
    infinities: int


def weigh(
    opened: Readable,
    weights: Sequence[Weight],
    *,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, Stats]:
    """Read every tensor once, a mebibyte at a time, and give the numbers of each by its path.

    Raises InputRefused when the file cannot be read, or changes meanwhile.
    """
    total = sum(opened.extent(weight).size for weight in weights)
    done = 0
    numbers = {}

    def counted(chunks: Iterable[memoryview]) -> Iterable[memoryview]:
        nonlocal done
        for chunk in chunks:
            yield chunk
            done += len(chunk)
            if progress is not None:
                progress(done, total)

    for weight in weights:
        numbers[weight.path] = stats_of(counted(tensor_chunks(opened, weight)), weight.dtype)
    opened.source.require_unchanged()
    return numbers


def stats_of(chunks: Iterable[memoryview], dtype: str) -> Stats:
    """Sum up stored bytes of a numpy dtype, in pieces that end between two elements."""
    least, greatest = math.inf, -math.inf
    sums: list[float] = []
    large: list[float] = []
    count = nans = infinities = 0
    for chunk in chunks:
        # Half precision would overflow in the sum, and whole numbers would wrap.
        values = np.frombuffer(chunk, dtype=dtype).astype(np.float64)
        missing = int(np.isnan(values).sum())
        endless = int(np.isinf(values).sum())
        if missing or endless:
            values = values[np.isfinite(values)]
        nans += missing
        infinities += endless
        if values.size:
            least = min(least, float(values.min()))
            greatest = max(greatest, float(values.max()))
            if max(-least, greatest) < _LARGE:
                sums.append(float(values.sum()))
            else:
                large.append(float((values * _SCALE).sum()))
            count += values.size
    if not count:
        return Stats(minimum=None, maximum=None, mean=None, nans=nans, infinities=infinities)
    mean = math.fsum(sums) / count
    if large:
        whole = math.fsum([*(part * _SCALE for part in sums), *large]) / count
        mean = min(max(whole, least * _SCALE), greatest * _SCALE) / _SCALE
    return Stats(minimum=least, maximum=greatest, mean=mean, nans=nans, infinities=infinities)
