"""Half-quadratic quantization: zero points and scales that fit most weights, without any data.

Badri and Shaji, "Half-quadratic quantization of large machine learning models", 2023. The error is measured
with a norm below 1, which forgives few large ones; shrinkage sets those apart and what remains has a closed
form. Zero points are integers here, as kernels want them, so the scale is fitted last.
"""

from __future__ import annotations

import numpy as np

from .blocks import Blocks, grid, packed, round_to, split

_NORM = 0.7
_ROUNDS = 8
_NARROWER = (1.0, 0.9, 0.8, 0.7)  # ranges that are tried: what lies outside is clipped
_STIFFNESS, _STIFFER = 10.0, 1.05  # beta, and what it is multiplied by each round


def quantize(matrix: np.ndarray, bits: int, group: int) -> Blocks:
    """The codes of a matrix [K, N] in blocks of ``group`` rows; a block is never worse than rounded."""
    blocks = split(matrix, group)
    scales, zeros = grid(blocks, bits)
    best = _Best(blocks, scales, zeros, bits)
    for narrower in _NARROWER:
        tried = (scales * np.float32(narrower)).astype(np.float32)
        best.try_grid(*_fitted(blocks, tried, zeros, bits))
    codes = round_to(blocks, best.scales[:, None], best.zeros[:, None], bits)
    return packed(codes, best.scales, best.zeros, len(matrix))


def _fitted(
    blocks: np.ndarray, scales: np.ndarray, zeros: np.ndarray, bits: int
) -> tuple[np.ndarray, np.ndarray]:
    """Scales and zero points [blocks, N]: the zero points by half-quadratic steps, then the scales."""
    fitted, stiffness = zeros, _STIFFNESS
    for _ in range(_ROUNDS):
        codes = round_to(blocks, scales[:, None], fitted[:, None], bits)
        off = blocks - (codes - fitted[:, None]) * scales[:, None]
        kept = blocks - _shrink(off, stiffness)
        fitted = np.mean(codes - kept / scales[:, None], axis=1)
        stiffness *= _STIFFER
    whole = np.clip(np.rint(fitted), 0, 2**bits - 1).astype(np.float32)
    codes = round_to(blocks, scales[:, None], whole[:, None], bits) - whole[:, None]
    power = (codes * codes).sum(axis=1)
    refit = np.where(power > 0, (codes * blocks).sum(axis=1) / np.maximum(power, 1e-12), scales)
    return np.maximum(refit, scales * 0.5).astype(np.float32), whole


def _shrink(off: np.ndarray, stiffness: float) -> np.ndarray:
    """The proximal step of the norm: small differences become zero."""
    size = np.abs(off)
    threshold = np.power(np.maximum(size, 1e-8), _NORM - 1) / stiffness
    return np.asarray(np.sign(off) * np.maximum(size - threshold, 0.0))


class _Best:
    """The grid of each block with the least squared error so far."""

    def __init__(self, blocks: np.ndarray, scales: np.ndarray, zeros: np.ndarray, bits: int) -> None:
        self._blocks, self._bits = blocks, bits
        self.scales, self.zeros = scales, zeros
        self._error = self._error_of(scales, zeros)

    def try_grid(self, scales: np.ndarray, zeros: np.ndarray) -> None:
        error = self._error_of(scales, zeros)
        better = error < self._error
        self.scales, self.zeros = np.where(better, scales, self.scales), np.where(better, zeros, self.zeros)
        self._error = np.where(better, error, self._error)

    def _error_of(self, scales: np.ndarray, zeros: np.ndarray) -> np.ndarray:
        codes = round_to(self._blocks, scales[:, None], zeros[:, None], self._bits)
        off = (codes - zeros[:, None]) * scales[:, None] - self._blocks
        return np.asarray((off * off).sum(axis=1))
