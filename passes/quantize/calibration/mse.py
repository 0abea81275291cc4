"""The range with the least mean squared error of what is rounded and what is clipped."""

from __future__ import annotations

import numpy as np

from .histogram import Histogram

_SHRINK = np.linspace(1.0, 0.1, 91)  # of an end of the range
_ROUNDS = 2  # of choosing one end while the other stays


def choose(histogram: Histogram, levels: int = 256) -> tuple[float, float]:
    """Tries the high end at a grid of sizes, then the low end, and again.

    The error is taken as if all values of a bin were at its middle.
    """
    low, high = min(histogram.low, 0.0), max(histogram.high, 0.0)
    best_low, best_high = low, high
    for _ in range(_ROUNDS):
        if high > 0.0:
            best_high = min(high * _SHRINK, key=lambda end: error(histogram, best_low, end, levels))
        if low < 0.0:
            best_low = min(low * _SHRINK, key=lambda end: error(histogram, end, best_high, levels))
    return float(best_low), float(best_high)


def error(histogram: Histogram, low: float, high: float, levels: int) -> float:
    """The mean squared error of the affine grid of ``levels`` values from ``low`` to ``high``."""
    total = int(histogram.counts.sum())
    scale = (high - low) / (levels - 1)
    if total == 0 or scale <= 0.0:
        return 0.0 if total == 0 else float(histogram.counts @ histogram.centers**2) / total
    zero = round(-low / scale)
    codes = np.clip(np.rint(histogram.centers / scale) + zero, 0, levels - 1)
    off = (codes - zero) * scale - histogram.centers
    return float(histogram.counts @ off**2) / total
