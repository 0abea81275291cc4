"""A histogram of a stream of values in bounded memory."""

from __future__ import annotations

import math

import numpy as np

_FINEST = -149  # exponent of the smallest float32
_CHUNK = 1 << 16  # elements that are counted at once: what stays in the cache
_PRECISION = 40  # no width is finer than 2 ** -40 of the largest value, so that bin numbers are exact


class Histogram:
    """Counts in bins whose width is a power of two and whose edges are multiples of it.

    When the values no longer fit into the bins, the width doubles and neighbours merge. Because the edges of
    every width are edges of half that width too, the result is the one that a single look at all values would
    give, whatever their order and however they came in batches.

    Attributes:
        exponent: the width is ``2 ** exponent``.
        first: bin ``i`` counts the values in ``[first + i, first + i + 1) * width``.
        counts: int64, at most ``bins`` long.
        low, high: the extremes, exactly.
    """

    def __init__(self, bins: int = 4096) -> None:
        self.bins = bins
        self.exponent, self.first = _FINEST, 0
        self.counts = np.zeros(0, np.int64)
        self.low, self.high = math.inf, -math.inf

    @property
    def width(self) -> float:
        """Of one bin."""
        return math.ldexp(1.0, self.exponent)

    @property
    def edges(self) -> np.ndarray:
        """The ``len(counts) + 1`` edges, float64."""
        return (self.first + np.arange(len(self.counts) + 1)) * self.width

    @property
    def centers(self) -> np.ndarray:
        """The middles of the bins, float64."""
        return (self.first + np.arange(len(self.counts)) + 0.5) * self.width

    def add(self, values: np.ndarray) -> None:
        """Counts the finite elements of ``values`` (float32 or float64)."""
        flat = values.reshape(-1)
        if not np.isfinite(flat).all():
            flat = flat[np.isfinite(flat)]
        if not flat.size:
            return
        self.low, self.high = min(self.low, float(flat.min())), max(self.high, float(flat.max()))
        self._cover(self.low, self.high)
        for start in range(0, flat.size, _CHUNK):
            scaled = np.multiply(flat[start : start + _CHUNK], 1.0 / self.width, dtype=np.float64)
            index = np.floor(scaled, out=scaled).astype(np.int64) - self.first
            self.counts += np.bincount(index, minlength=len(self.counts))

    def _cover(self, low: float, high: float) -> None:
        """Widens the bins, and adds some, until the range from ``low`` to ``high`` has its bins."""
        exponent = self.exponent
        if (largest := max(abs(low), abs(high))) > 0.0:
            exponent = max(exponent, math.frexp(largest)[1] - _PRECISION)
        while _span(low, high, exponent) > self.bins:
            exponent += max(1, (_span(low, high, exponent) // self.bins).bit_length() - 1)
        start = _bin(low, exponent)
        counts = np.zeros(_span(low, high, exponent), np.int64)
        merged = (self.first + np.arange(len(self.counts))) >> min(exponent - self.exponent, 62)
        np.add.at(counts, merged - start, self.counts)
        self.exponent, self.first, self.counts = exponent, start, counts


def _bin(value: float, exponent: int) -> int:
    return math.floor(math.ldexp(value, -exponent))


def _span(low: float, high: float, exponent: int) -> int:
    """How many bins of that width lie between two values."""
    return _bin(high, exponent) - _bin(low, exponent) + 1
