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
    """How an input is prepared.

    Attributes:
        factors: what its channels are divided by, float64 [K].
        outliers: channels that are taken out and multiplied in float, int64 [M], ascending.
        gain: the expected error over that of the input as it is.
    """

    alpha: float
    factors: np.ndarray
    outliers: np.ndarray
    gain: float


def choose(
    seen: Channels,
    matrix: np.ndarray,
    alphas: Sequence[float],
    per_channel: bool,
    limit: int,
    outliers: np.ndarray | None = None,
) -> Choice | None:
    """The best of the exponents, or None when not smoothing is better than any of them.

    Args:
        matrix: the weights that read the input, float32 [K, N].
        alphas: one exponent is taken as it is.
        outliers: channels that are taken out.
    """
    without = expected_error(seen, matrix, np.ones(len(matrix)), per_channel, limit)
    taken = np.zeros(0, np.int64) if outliers is None else np.sort(outliers)
    rest, left = (seen, matrix) if outliers is None else (seen.without(taken), _without_rows(matrix, taken))
    found = []
    for alpha in alphas:
        factors = smoothing_factors(rest, left, alpha)
        error = expected_error(rest, left, factors, per_channel, limit)
        found.append(Choice(alpha, factors, taken, error / max(without, _LEAST)))
    best = min(found, key=lambda choice: choice.gain)
    return best if len(alphas) == 1 or best.gain < 1.0 else None


def largest_channels(seen: Channels, count: int) -> np.ndarray:
    """The channels with the largest values, int64 [count]."""
    magnitude = np.maximum(seen.high, -seen.low).max(axis=0)
    return np.argsort(-magnitude, kind="stable")[:count]


def _without_rows(matrix: np.ndarray, rows: np.ndarray) -> np.ndarray:
    left = matrix.copy()
    left[rows] = 0.0
    return left


def smoothing_factors(seen: Channels, matrix: np.ndarray, alpha: float) -> np.ndarray:
    """``max|x_k| ** alpha / max|w_k| ** (1 - alpha)``, float64 [K], with geometric mean 1."""
    data = np.maximum(seen.magnitude, _LEAST)
    weights = np.maximum(np.abs(matrix).max(axis=1), _LEAST)
    logs = alpha * np.log(data) - (1 - alpha) * np.log(weights)
    middle = np.median(logs)
    logs = np.clip(logs - middle, -np.log(_MOST) / 2, np.log(_MOST) / 2)
    return np.asarray(np.exp(logs - logs.mean()))


def expected_error(
    seen: Channels, matrix: np.ndarray, factors: np.ndarray, per_channel: bool, limit: int
) -> float:
    """The summed squared error of the product that rounding causes, per row of the input.

    Rounding the input to a grid of step d adds noise of variance d^2 / 12, or all that a channel has where it
    is smaller than that, and it reaches the output through the weights. The errors of the weights are what
    they are, and reach the output through the input.
    """
    span = (seen.high / factors).max(axis=1) - (seen.low / factors).min(axis=1)
    power = seen.squares / factors**2
    scaled = matrix * factors.astype(np.float32)[:, None]
    largest = np.abs(scaled).max(axis=0) if per_channel else np.full(matrix.shape[1], np.abs(scaled).max())
    step = np.maximum(largest / limit, np.float32(_LEAST))
    off = np.rint(scaled / step) * step - scaled
    data_noise = np.minimum(np.mean((span / 255) ** 2) / 12, power)
    return float(data_noise @ _row_squares(scaled) + power @ _row_squares(off))


def _row_squares(matrix: np.ndarray) -> np.ndarray:
    return np.asarray(np.einsum("kn,kn->k", matrix, matrix, dtype=np.float64))
