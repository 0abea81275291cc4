"""A matrix as codes, with a scale and a zero point per block of rows and column."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

_LEAST = 1e-8  # of a scale


@dataclass(frozen=True)
class Blocks:
    """``W[k, n] = (codes[k, n] - zeros[k // group, n]) * scales[k // group, n]``.

    Attributes:
        codes: uint8 [K, N], below ``2 ** bits``.
        scales: float32 [ceil(K / group), N].
        zeros: uint8, like ``scales``.
    """

    codes: np.ndarray
    scales: np.ndarray
    zeros: np.ndarray

    def matrix(self, group: int) -> np.ndarray:
        """The float32 matrix [K, N] that the codes stand for."""
        rows = np.arange(len(self.codes)) // group
        codes, zeros = self.codes.astype(np.float32), self.zeros.astype(np.float32)
        return np.asarray((codes - zeros[rows]) * self.scales[rows])


def split(matrix: np.ndarray, group: int) -> np.ndarray:
    """[K, N] as [blocks, group, N]; the last block is filled up with its last row."""
    short = -len(matrix) % group
    padded = np.pad(matrix, ((0, short), (0, 0)), mode="edge")
    return padded.reshape(-1, group, matrix.shape[1])


def grid(blocks: np.ndarray, bits: int) -> tuple[np.ndarray, np.ndarray]:
    """Scales and zero points, float32 [blocks, N], from the smallest to the largest value and zero."""
    low, high = np.minimum(blocks.min(axis=1), 0.0), np.maximum(blocks.max(axis=1), 0.0)
    scales = np.maximum((high - low) / (2**bits - 1), _LEAST).astype(np.float32)
    return scales, np.clip(np.rint(-low / scales), 0, 2**bits - 1).astype(np.float32)


def round_to(values: np.ndarray, scales: np.ndarray, zeros: np.ndarray, bits: int) -> np.ndarray:
    """The nearest codes, float32."""
    return np.asarray(np.clip(np.rint(values / scales) + zeros, 0, 2**bits - 1), np.float32)


def packed(codes: np.ndarray, scales: np.ndarray, zeros: np.ndarray, rows: int) -> Blocks:
    """Blocks from codes [blocks, group, N] of a matrix with that many rows."""
    flat = codes.reshape(-1, codes.shape[-1])[:rows]
    return Blocks(flat.astype(np.uint8), scales.astype(np.float32), zeros.astype(np.uint8))
