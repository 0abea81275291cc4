"""Which factors make the expected error of a product least."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .statistics import Channels

ALPHAS = tuple(np.arange(0.4, 1.01, 0.05).round(2).tolist())
_MOST = 1e4  # how much larger one factor may be than another: weights stay far from overflow
_LEAST = 1e-12


@dataclass(frozen=True)
class Choice:
    """Factors, float64 [K]; ``gain`` is the expected error with them over that without."""

    alpha: float
    factors: np.ndarray
    gain: float


def choose(
    seen: Channels, matrix: np.ndarray, alphas: Sequence[float], per_channel: bool, limit: int
) -> Choice | None:
    """The best of the exponents, or None when not smoothing is better than any of them.

    Args:
        matrix: the weights that read the input, [K, N].
        alphas: one exponent is taken as it is.
    """
    without = expected_error(seen, matrix, np.ones(len(matrix)), per_channel, limit)
    found = []
    for alpha in alphas:
        factors = smoothing_factors(seen, matrix, alpha)
        error = expected_error(seen, matrix, factors, per_channel, limit)
        found.append(Choice(alpha, factors, error / max(without, _LEAST)))
    best = min(found, key=lambda choice: choice.gain)
    return best if len(alphas) == 1 or best.gain < 1.0 else None


def smoothing_factors(seen: Channels, matrix: np.ndarray, alpha: float) -> np.ndarray:
    """``max|x_k| ** alpha / max|w_k| ** (1 - alpha)``, float64 [K], with geometric mean 1."""
    data = np.maximum(np.maximum(seen.high, -seen.low).max(axis=0), _LEAST)
    weights = np.maximum(np.abs(matrix).max(axis=1), _LEAST)
    logs = alpha * np.log(data) - (1 - alpha) * np.log(weights)
    middle = np.median(logs)
    logs = np.clip(logs - middle, -np.log(_MOST) / 2, np.log(_MOST) / 2)
    return np.asarray(np.exp(logs - logs.mean()))


def expected_error(
    seen: Channels, matrix: np.ndarray, factors: np.ndarray, per_channel: bool, limit: int
) -> float:
    """The summed squared error of the product that rounding causes, per row of the input.

    Rounding to a grid of step d adds noise of variance d^2 / 12. Noise of the input reaches the output
    through the weights, that of the weights through the input.
    """
    span = (seen.high / factors).max(axis=1) - (seen.low / factors).min(axis=1)
    scaled = np.abs(matrix) * factors[:, None]
    data_noise = np.mean((span / 255) ** 2) / 12
    largest = scaled.max(axis=0) if per_channel else np.full(matrix.shape[1], scaled.max())
    weight_noise = np.sum((largest / limit) ** 2) / 12
    return float(data_noise * np.sum(scaled**2) + weight_noise * np.sum(seen.squares / factors**2))
