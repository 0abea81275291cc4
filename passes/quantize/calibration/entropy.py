"""The range that keeps the distribution closest, by relative entropy.

Migacz, "8-bit inference with TensorRT", GTC 2017, for ranges with two ends: both shrink by the same factor.
"""

from __future__ import annotations

import numpy as np

from .histogram import Histogram

_SHRINK = np.linspace(1.0, 0.1, 91)
_SMOOTHED = 1e-4  # of a value, to bins that the grid leaves empty


def choose(histogram: Histogram, levels: int = 256) -> tuple[float, float]:
    """The range, out of 91 that shrink towards zero, whose quantized form diverges least."""
    low, high = min(histogram.low, 0.0), max(histogram.high, 0.0)
    if not low < high:
        return low, high
    best = min(_SHRINK, key=lambda shrink: divergence(histogram, low * shrink, high * shrink, levels))
    return float(low * best), float(high * best)


def divergence(histogram: Histogram, low: float, high: float, levels: int) -> float:
    """Relative entropy, in nats, of the values clipped to a range to the same on a grid of ``levels``.

    The reference has what lies outside in its end bins; the quantized form spreads what falls on one level
    over the occupied bins of that level, and does not know of what was clipped: that is what clipping costs.
    """
    counts = _without_zeros(histogram)
    inside = (histogram.centers >= low) & (histogram.centers <= high)
    kept = counts[inside]
    if kept.size < 2 or kept.sum() == 0.0:
        return float("inf")
    clipped = kept.copy()
    first = int(np.argmax(inside))
    clipped[0] += counts[:first].sum()
    clipped[-1] += counts[first + kept.size :].sum()
    level = np.minimum(np.arange(kept.size) * levels // kept.size, levels - 1)
    occupied = clipped > 0
    mass = np.bincount(level, kept, levels)
    bins = np.bincount(level[occupied], minlength=levels)
    spread = np.where(occupied, mass[level] / np.maximum(bins[level], 1), 0.0)
    p = clipped[occupied]
    q = np.maximum(spread[occupied], _SMOOTHED)
    p, q = p / p.sum(), q / q.sum()
    return float(np.sum(p * np.log(p / q)))


def _without_zeros(histogram: Histogram) -> np.ndarray:
    """The counts, float64, with the bin that begins at zero no fuller than its neighbours.

    Behind a Relu half of the values are exactly zero, which every grid has: they lose nothing, and their
    spike would otherwise look spread out by every grid coarser than the bins.
    """
    counts = histogram.counts.astype(np.float64)
    at = -histogram.first
    if 0 <= at < len(counts):
        beside = [counts[i] for i in (at - 1, at + 1) if 0 <= i < len(counts)]
        counts[at] = min(counts[at], max(beside, default=counts[at]))
    return counts
