"""The grids that int8 tensors live on: scales and zero points."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

LEAST = float(np.finfo(np.float32).tiny) * 2**24  # of a scale: its reciprocal and products stay normal


@dataclass(frozen=True)
class Grid:
    """The uint8 grid of an activation: ``(code - zero) * scale`` for codes 0 to 255."""

    scale: np.float32
    zero: int

    @property
    def low(self) -> float:
        """The smallest number on it."""
        return float(-self.zero * np.float64(self.scale))

    @property
    def high(self) -> float:
        """The largest number on it."""
        return float((255 - self.zero) * np.float64(self.scale))


def activation_grid(low: float, high: float) -> Grid:
    """The uint8 grid from ``low`` to ``high``, widened to hold zero exactly.

    Padding, Relu and what is dead are exact zeros, so zero must have a code (Jacob et al., "Quantization and
    training of neural networks for efficient integer-arithmetic-only inference", section 2.1).
    """
    low, high = min(low, 0.0), max(high, 0.0)
    scale = np.float32(max((high - low) / 255, LEAST))
    return Grid(scale, int(np.clip(np.rint(-low / np.float64(scale)), 0, 255)))


def weight_scales(
    weight: np.ndarray, axis: int | None, *, limit: int = 127, at_least: np.ndarray | float = 0.0
) -> np.ndarray:
    """Scales of symmetric int8 weights, float32: one per index of ``axis``, or one in all for None.

    Args:
        limit: the largest code: 127, or 63 where products of full codes saturate.
        at_least: bounds from below, as the int32 bias needs them.
    """
    others = tuple(i for i in range(weight.ndim) if axis is None or i != axis % weight.ndim)
    largest = np.abs(weight).max(axis=others, initial=0.0) if others else np.abs(weight)
    scales = np.maximum(largest.astype(np.float64) / limit, np.maximum(at_least, LEAST))
    return np.asarray(scales, np.float32)


def quantized_weight(weight: np.ndarray, scales: np.ndarray, axis: int | None, *, limit: int) -> np.ndarray:
    """The int8 codes of a weight, rounded to nearest even as QuantizeLinear does."""
    codes = np.rint(weight / along(scales, axis, weight.ndim))
    return np.asarray(np.clip(codes, -limit, limit), np.int8)


def along(vector: np.ndarray, axis: int | None, rank: int) -> np.ndarray:
    """A vector shaped so that it broadcasts along ``axis`` of a tensor of that rank."""
    if axis is None or vector.ndim == 0:
        return vector
    shape = [1] * rank
    shape[axis] = -1
    return vector.reshape(shape)
