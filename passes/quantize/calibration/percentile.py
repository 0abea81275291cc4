"""The range that leaves out a small share of the values at either end."""

from __future__ import annotations

import numpy as np

from .histogram import Histogram

KEPT = 0.9999  # of the values


def choose(histogram: Histogram, levels: int = 256, *, kept: float = KEPT) -> tuple[float, float]:
    """The quantiles ``(1 - kept) / 2`` and ``(1 + kept) / 2``, interpolated inside a bin.

    An end at which no value is beyond zero, as behind a Relu, stays there, and the other end gives up all of
    the share.
    """
    tail = 1.0 - kept
    if histogram.low >= 0.0:
        return 0.0, quantile(histogram, 1.0 - tail)
    if histogram.high <= 0.0:
        return quantile(histogram, tail), 0.0
    return quantile(histogram, tail / 2), quantile(histogram, 1.0 - tail / 2)


def quantile(histogram: Histogram, share: float) -> float:
    """The number that ``share`` of the values do not exceed; exact to the width of a bin."""
    below = np.concatenate([[0], np.cumsum(histogram.counts)])
    found = float(np.interp(share * below[-1], below, histogram.edges))
    return min(max(found, histogram.low), histogram.high)
