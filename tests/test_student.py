"""Intervals from few measurements."""

from __future__ import annotations

import numpy as np
import pytest

from optc import student


@pytest.mark.parametrize("count", [2, 3, 4, 13, 100])
def test_a_deviation_is_hardly_larger_than_said(count: int) -> None:
    """One time in twenty."""
    rng = np.random.default_rng(count)
    found = rng.standard_normal((40_000, count)).std(axis=1, ddof=1)
    assert (found * student.largest_deviation(count - 1) < 1.0).mean() == pytest.approx(0.05, abs=0.016)


def test_quantiles_come_down_to_the_normal_one() -> None:
    quantiles = [student.quantile(freedom) for freedom in range(1, 30)]
    assert quantiles == sorted(quantiles, reverse=True)
    assert quantiles[-1] > student.NORMAL
