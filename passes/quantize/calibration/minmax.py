"""The whole range that was seen."""

from __future__ import annotations

from .histogram import Histogram


def choose(histogram: Histogram, levels: int = 256) -> tuple[float, float]:
    """The extremes of the values."""
    return histogram.low, histogram.high
