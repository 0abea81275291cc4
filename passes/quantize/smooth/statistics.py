"""What smoothing needs to know of an input: how large its channels are."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from optc.newnode import New
from optc.passes.quantize.calibration.probes import Probe, reduction

_MOST = 64  # samples whose ranges are kept one by one


class Channels(Probe):
    """Ranges of the channels (last axis) on each of the first samples, and mean squares over all.

    Attributes:
        low, high: float64 [samples, channels], zero included.
    """

    def __init__(self) -> None:
        self._low: list[np.ndarray] = []
        self._high: list[np.ndarray] = []
        self._squares: np.ndarray | float = 0.0
        self._count = 0

    def nodes(self, value: ir.Value, opset: int) -> Sequence[New]:
        """Three reductions."""
        square = New("Mul", (value, value), ir.DataType.FLOAT, value.shape)
        return [
            reduction("ReduceMin", value, -1, opset),
            reduction("ReduceMax", value, -1, opset),
            reduction("ReduceMean", square, -1, opset),
        ]

    def update(self, arrays: Sequence[np.ndarray]) -> None:
        """Takes in one sample; an empty one says nothing."""
        low, high, squares = (array.astype(np.float64) for array in arrays)
        if not np.isfinite(squares).all() and np.isposinf(low).any():
            return
        self._squares = self._squares + squares
        self._count += 1
        if len(self._low) < _MOST:
            self._low.append(np.minimum(low, 0.0))
            self._high.append(np.maximum(high, 0.0))

    @property
    def low(self) -> np.ndarray:
        """The smallest value of each channel on each sample."""
        return np.array(self._low)

    @property
    def high(self) -> np.ndarray:
        """The largest."""
        return np.array(self._high)

    @property
    def squares(self) -> np.ndarray:
        """The mean square of each channel."""
        return np.asarray(self._squares) / max(self._count, 1)

    @property
    def usable(self) -> bool:
        """Whether anything was seen, all of it finite and not all of it zero."""
        return bool(self._low) and bool(np.isfinite(self.squares).all()) and bool(self.squares.any())
