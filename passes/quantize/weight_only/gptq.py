"""GPTQ: what rounding a row of weights loses is made up for by the rows that are still to come.

Frantar et al., "GPTQ: accurate post-training quantization for generative pre-trained transformers", ICLR
2023.
"""

from __future__ import annotations

import numpy as np

from .blocks import Blocks, grid, packed, round_to

_DAMPING = 0.01  # of the mean of the diagonal, added to it
_TRIES = 4  # with ten times the damping each, until the matrix can be factored


def quantize(matrix: np.ndarray, bits: int, group: int, moments: np.ndarray) -> Blocks:
    """The codes of a matrix [K, N] in blocks of ``group`` rows.

    Args:
        moments: the mean of ``x x^T`` over the inputs, float64 [K, K].
    """
    rows, columns = matrix.shape
    left, upper = matrix.astype(np.float64), _factor(moments)
    left[np.diag(moments) == 0.0] = 0.0  # what is never multiplied costs no precision
    count = -(-rows // group)
    codes = np.zeros((count * group, columns), np.float32)
    scales, zeros = np.zeros((count, columns), np.float32), np.zeros((count, columns), np.float32)
    for block in range(count):
        start, stop = block * group, min((block + 1) * group, rows)
        found = grid(left[None, start:stop], bits)
        scales[block], zeros[block] = found[0][0], found[1][0]
        errors = np.zeros((stop - start, columns))
        for row in range(start, stop):
            codes[row] = round_to(left[row], scales[block], zeros[block], bits)
            rounded = (codes[row] - zeros[block]) * scales[block]
            error = (left[row] - rounded) / upper[row, row]
            left[row + 1 : stop] -= np.outer(upper[row, row + 1 : stop], error)
            errors[row - start] = error
        left[stop:] -= upper[start:stop, stop:].T @ errors
    return packed(codes.reshape(count, group, columns), scales, zeros, rows)


def _factor(moments: np.ndarray) -> np.ndarray:
    """The upper Cholesky factor of the inverse."""
    matrix = moments.astype(np.float64).copy()
    diagonal = np.diag_indices(len(matrix))
    matrix[diagonal] = np.where(matrix[diagonal] == 0.0, 1.0, matrix[diagonal])
    damping = _DAMPING * float(np.mean(matrix[diagonal]))
    for attempt in range(_TRIES):
        damped = matrix.copy()
        damped[diagonal] += damping * 10**attempt
        try:
            return np.asarray(np.linalg.cholesky(np.linalg.inv(damped)).T)
        except np.linalg.LinAlgError:
            continue
    return np.diag(1 / np.sqrt(matrix[diagonal]))
