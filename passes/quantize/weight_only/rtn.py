"""Rounding to nearest, from the smallest to the largest weight of a block."""

from __future__ import annotations

import numpy as np

from .blocks import Blocks, grid, packed, round_to, split


def quantize(matrix: np.ndarray, bits: int, group: int) -> Blocks:
    """The codes of a matrix [K, N] in blocks of ``group`` rows."""
    blocks = split(matrix, group)
    scales, zeros = grid(blocks, bits)
    codes = round_to(blocks, scales[:, None], zeros[:, None], bits)
    return packed(codes, scales, zeros, len(matrix))
