"""A streamed histogram is the one that a single look at all values would give, in bounded memory."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from optc.passes.quantize.calibration import Histogram

RNG = np.random.default_rng(0)


def at_once(values: np.ndarray, exponent: int) -> dict[int, int]:
    """Bin number to count, by plain arithmetic."""
    numbers, counts = np.unique(np.floor(values.astype(np.float64) / 2.0**exponent), return_counts=True)
    return {int(n): int(c) for n, c in zip(numbers, counts, strict=True)}


def counted(histogram: Histogram) -> dict[int, int]:
    return {histogram.first + i: int(c) for i, c in enumerate(histogram.counts) if c}


@given(
    st.lists(
        st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), max_size=8),
        min_size=1,
        max_size=6,
    )
)
def test_batches_in_any_order_count_as_one(batches: list[list[float]]) -> None:
    arrays = [np.array(batch, np.float32) for batch in batches]
    there, back = Histogram(bins=16), Histogram(bins=16)
    for array in arrays:
        there.add(array)
    for array in reversed(arrays):
        back.add(array)
    values = np.concatenate(arrays)
    assert counted(there) == counted(back) == (at_once(values, there.exponent) if values.size else {})
    assert len(there.counts) <= 16
    if values.size:
        assert (there.low, there.high) == (values.min(), values.max())


def test_the_bins_are_no_wider_than_they_must_be() -> None:
    histogram = Histogram(bins=64)
    for scale in (1e-3, 1.0, 30.0):
        histogram.add((RNG.normal(size=1000) * scale).astype(np.float32))
    span = histogram.high - histogram.low
    assert span / 64 <= histogram.width <= 2.5 * span / 64


def test_what_is_not_finite_is_not_counted() -> None:
    histogram = Histogram()
    histogram.add(np.array([np.nan, np.inf, 1.0, -np.inf], np.float32))
    histogram.add(np.array([np.nan], np.float32))
    histogram.add(np.zeros((0, 3), np.float32))
    assert (int(histogram.counts.sum()), histogram.low, histogram.high) == (1, 1.0, 1.0)


@pytest.mark.parametrize("value", [0.0, 1e-45, -3.4e38, 3.4e38])
def test_extreme_values(value: float) -> None:
    histogram = Histogram()
    histogram.add(np.array([value, 0.0], np.float32))
    assert int(histogram.counts.sum()) == 2
    assert histogram.edges[0] <= min(value, 0.0) and histogram.edges[-1] > max(value, 0.0)
