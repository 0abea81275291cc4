"""GPTQ: what rounding a row of weights loses is made up for by the rows that are still to come.

Frantar et al., "GPTQ: accurate post-training quantization for generative pre-trained transformers", ICLR
2023.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .blocks import Blocks, grid, packed, round_to

DAMPING = (0.01, 0.1, 1.0, 10.0)  # of the mean of the diagonal, added to it; tried in turn


@dataclass(frozen=True)
class Factor:
    """How errors spread from row to row.

    Attributes:
        upper: the upper Cholesky factor of the inverse of the moments, float64 [K, K].
        damping: what it took to have one, of ``DAMPING``; None where nothing did, and ``upper`` is diagonal:
            every weight is rounded to nearest.
    """

    upper: np.ndarray
    damping: float | None


def quantize(matrix: np.ndarray, bits: int, group: int, moments: np.ndarray, found: Factor) -> Blocks:
    """The codes of a matrix [K, N] in blocks of ``group`` rows.

    Args:
        moments: the mean of ``x x^T`` over the inputs, float64 [K, K].
        found: the factor of the moments.
    """
    rows, columns = matrix.shape
    left, upper = matrix.astype(np.float64), found.upper
    left[np.diag(moments) == 0.0] = 0.0  # what is never multiplied costs no precision
    count = -(-rows // group)
    codes = np.zeros((count * group, columns), np.float32)
    scales, zeros = np.zeros((count, columns), np.float32), np.zeros((count, columns), np.float32)
    for block in range(count):
        start, stop = block * group, min((block + 1) * group, rows)
        (scales[block],), (zeros[block],) = grid(left[None, start:stop], bits)
        errors = np.zeros((stop - start, columns))
        for row in range(start, stop):
            codes[row] = round_to(left[row], scales[block], zeros[block], bits)
            rounded = (codes[row] - zeros[block]) * scales[block]
            error = (left[row] - rounded) / upper[row, row]
            left[row + 1 : stop] -= np.outer(upper[row, row + 1 : stop], error)
            errors[row - start] = error
        left[stop:] -= upper[start:stop, stop:].T @ errors
    return packed(codes.reshape(count, group, columns), scales, zeros, rows)


def factor(moments: np.ndarray) -> Factor:
    """The factor with the least damping for which there is one."""
    matrix = moments.astype(np.float64).copy()
    diagonal = np.diag_indices(len(matrix))
    matrix[diagonal] = np.where(matrix[diagonal] == 0.0, 1.0, matrix[diagonal])
    mean = float(np.mean(matrix[diagonal]))
    for damping in DAMPING:
        damped = matrix.copy()
        damped[diagonal] += damping * mean
        try:
            upper = np.asarray(np.linalg.cholesky(np.linalg.inv(damped)).T)
        except np.linalg.LinAlgError:
            continue
        if np.isfinite(upper).all():
            return Factor(upper, damping)
    return Factor(np.eye(len(matrix)), None)
