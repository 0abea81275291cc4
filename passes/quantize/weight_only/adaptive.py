"""How many rows share a scale, for each matrix: as many as do not widen the range of a block much.

Fewer rows in a block are more exact, more scales are larger and slower (Kim et al., "FineQuant: unlocking
efficiency with fine-grained weight-only quantization for LLMs", 2023).
"""

from __future__ import annotations

import numpy as np

from .blocks import split

SIZES = (128, 64, 32, 16)  # that the kernels take; the last is the finest
_SHRINKS = 0.8  # of the range, at most, that must be left by a halving that is worth its scales


def group_size(matrix: np.ndarray) -> int:
    """The rows of a matrix [K, N] that share a scale.

    The most of them from where no finer blocks have ranges that are narrower than they are for weights that
    are alike: half as many normally distributed numbers have 0.86 to 0.90 times the range.
    """
    ranges = [_mean_range(matrix, size) for size in SIZES]
    for place, size in enumerate(SIZES):
        finer = enumerate(ranges[place + 1 :], 1)
        if all(narrow >= _SHRINKS**halvings * ranges[place] for halvings, narrow in finer):
            return size
    return SIZES[-1]


def _mean_range(matrix: np.ndarray, size: int) -> float:
    """The mean over blocks of the distance from the smallest to the largest weight, zero included."""
    blocks = split(matrix, size)
    low, high = np.minimum(blocks.min(axis=1), 0.0), np.maximum(blocks.max(axis=1), 0.0)
    return float(np.mean(high - low, dtype=np.float64))
