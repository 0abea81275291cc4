"""What smoothing needs to know of an input: how large its channels are."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from optc.newnode import New
from optc.passes.quantize.calibration.probes import Probe, reduction
from optc.passes.quantize.rows import inverse_power

_MOST = 64  # samples whose ranges are kept one by one
_TINY = 1e-20
# Variance of the logarithm of the largest of R normal numbers: pi^2 / 8 for one, for R about R ** -0.8 of it.
_LOG_VARIANCE, _LOG_DECAY = 1.23, 0.8
_UNSEEN_ROWS = 4.0  # of typical size, that every channel is given beside those that were seen


class Channels(Probe):
    """Ranges of the channels (last axis) on each of the first samples, and their shares of the power of rows.

    Attributes:
        low, high: float64 [samples, channels], zero included.
        rows: how many there were in these samples.
    """

    def __init__(self) -> None:
        self._low: list[np.ndarray] = []
        self._high: list[np.ndarray] = []
        self._shares: np.ndarray | float = 0.0
        self._weight = 0.0
        self.rows = 0

    def nodes(self, value: ir.Value, opset: int) -> Sequence[New]:
        """Ranges, means over rows of squares divided by powers and of reciprocal powers, number of rows."""
        square = New("Mul", (value, value), ir.DataType.FLOAT, value.shape)
        inverse = inverse_power(value, opset)
        share = New("Mul", (square, inverse), ir.DataType.FLOAT, value.shape)
        return [
            reduction("ReduceMin", value, -1, opset),
            reduction("ReduceMax", value, -1, opset),
            reduction("ReduceMean", share, -1, opset),
            reduction("ReduceMean", inverse, None, opset),
            New("Size", (inverse,), ir.DataType.INT64, ir.Shape([])),
        ]

    def update(self, arrays: Sequence[np.ndarray]) -> None:
        """Takes in one sample; one without rows says nothing."""
        low, high, shares, inverse, rows = (array.astype(np.float64) for array in arrays)
        if np.isposinf(low).any() and np.isneginf(high).any():
            return
        self._shares = self._shares + shares
        self._weight += float(inverse)
        if len(self._low) < _MOST:
            self._low.append(np.minimum(low, 0.0))
            self._high.append(np.maximum(high, 0.0))
            self.rows += int(rows)

    def without(self, channels: np.ndarray) -> Channels:
        """The same of an input in which these channels are zero."""
        rest = Channels()
        keep = np.ones(len(self.squares))
        keep[channels] = 0.0
        rest._low, rest._high = [low * keep for low in self._low], [high * keep for high in self._high]
        rest._shares, rest._weight, rest.rows = self._shares * keep, self._weight, self.rows
        return rest

    @property
    def low(self) -> np.ndarray:
        """The smallest value of each channel on each sample."""
        return np.array(self._low)

    @property
    def high(self) -> np.ndarray:
        """The largest."""
        return np.array(self._high)

    @property
    def magnitude(self) -> np.ndarray:
        """The largest absolute value that other rows may have in each channel, up to a common factor.

        What a channel shows in a few rows is partly chance, and behind a Relu it may show nothing: dividing
        by that would make other rows large. So channels are taken to differ only by as much as chance does
        not explain (the shrinkage of empirical Bayes), and none to be far below the others before many rows
        said so.
        """
        found = np.maximum(self.high, -self.low).max(axis=0)
        typical = float(np.median(found[found > 0])) if (found > 0).any() else 1.0
        least = typical * math.sqrt(_UNSEEN_ROWS / (self.rows + _UNSEEN_ROWS))
        logs = np.log(np.maximum(found, least))
        apart = float(logs.var())
        chance = _LOG_VARIANCE / max(self.rows, 1) ** _LOG_DECAY
        known = max(1.0 - chance / apart, 0.0) if apart > 0 else 0.0
        return np.asarray(np.exp(logs.mean() + known * (logs - logs.mean())))

    @property
    def squares(self) -> np.ndarray:
        """The mean square of each channel, rows weighted by their reciprocal power."""
        return np.asarray(self._shares) / max(self._weight, _TINY)

    @property
    def usable(self) -> bool:
        """Whether anything was seen, all of it finite and not all of it zero."""
        return bool(self._low) and bool(np.isfinite(self.squares).all()) and bool(self.squares.any())
