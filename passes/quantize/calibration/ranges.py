"""The ways to choose a range from what calibration saw, by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from . import entropy, minmax, mse, percentile
from .histogram import Histogram

Choose = Callable[[Histogram, int], tuple[float, float]]

RANGES: Mapping[str, Choose] = {
    "minmax": minmax.choose,
    "percentile": percentile.choose,
    "entropy": entropy.choose,
    "mse": mse.choose,
}
