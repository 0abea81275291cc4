"""What can be learned about a value of the graph; whatever reduces it runs inside the graph."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from optc import newnode
from optc.newnode import New, Operand

from .histogram import Histogram

AXES_ARE_AN_INPUT = 18  # of the reductions used here, since that operator set


class Probe(ABC):
    """Learns something about one value, sample after sample, in memory that does not grow."""

    @abstractmethod
    def nodes(self, value: ir.Value, opset: int) -> Sequence[New]:
        """Nodes that read ``value`` (float32); what they compute comes back to :meth:`update`."""

    @abstractmethod
    def update(self, arrays: Sequence[np.ndarray]) -> None:
        """Takes in what the nodes computed on one sample."""


class Extremes(Probe):
    """The smallest and the largest element, of the whole value or per index of ``axis``.

    ``low`` and ``high`` are float64 arrays of shape [] or [channels].
    """

    def __init__(self, axis: int | None = None) -> None:
        self.axis = axis
        self.low: np.ndarray = np.array(np.inf)
        self.high: np.ndarray = np.array(-np.inf)

    def nodes(self, value: ir.Value, opset: int) -> Sequence[New]:
        """One reduction each."""
        return [reduction(kind, value, self.axis, opset) for kind in ("ReduceMin", "ReduceMax")]

    def update(self, arrays: Sequence[np.ndarray]) -> None:
        """Widens the range; NaN stays NaN."""
        low, high = arrays
        if low.size == 0 or (np.isposinf(low).all() and np.isneginf(high).all()):
            return  # nothing was reduced: the value was empty
        self.low, self.high = np.minimum(self.low, low), np.maximum(self.high, high)

    @property
    def magnitude(self) -> np.ndarray:
        """The largest absolute value."""
        return np.asarray(np.maximum(np.abs(self.low), np.abs(self.high)))

    @property
    def finite(self) -> bool:
        """Whether anything was seen, and nothing that is infinite or no number."""
        return bool(np.isfinite(self.low).all() and np.isfinite(self.high).all())


class Mean(Probe):
    """The mean per index of ``axis``, float64 [channels]: every sample counts the same."""

    def __init__(self, axis: int) -> None:
        self.axis = axis
        self._sum: np.ndarray | float = 0.0
        self._count = 0

    def nodes(self, value: ir.Value, opset: int) -> Sequence[New]:
        """One reduction."""
        return [reduction("ReduceMean", value, self.axis, opset)]

    def update(self, arrays: Sequence[np.ndarray]) -> None:
        """Adds the mean of one sample."""
        self._sum = self._sum + arrays[0].astype(np.float64)
        self._count += 1

    @property
    def mean(self) -> np.ndarray:
        """Over all samples."""
        return np.asarray(self._sum) / max(self._count, 1)


class Distribution(Probe):
    """The histogram of all elements."""

    def __init__(self, bins: int = 4096) -> None:
        self.histogram = Histogram(bins)

    def nodes(self, value: ir.Value, opset: int) -> Sequence[New]:
        """The value itself."""
        return [New("Identity", (value,), ir.DataType.FLOAT, value.shape)]

    def update(self, arrays: Sequence[np.ndarray]) -> None:
        """Counts one sample."""
        self.histogram.add(arrays[0])


def reduction(kind: str, value: Operand, axis: int | None, opset: int) -> New:
    """A node that reduces all axes of ``value`` but ``axis`` (None: all); it keeps no dimensions."""
    if axis is None:
        return New(kind, (value,), ir.DataType.FLOAT, ir.Shape([]), {"keepdims": 0})
    assert value.shape is not None
    rank = value.shape.rank()
    axes = [i for i in range(rank) if i != axis % rank]
    shape = ir.Shape([value.shape[axis]])
    if opset < AXES_ARE_AN_INPUT:
        return New(kind, (value,), ir.DataType.FLOAT, shape, {"axes": axes, "keepdims": 0})
    given = newnode.constant(np.array(axes, np.int64))
    return New(kind, (value, given), ir.DataType.FLOAT, shape, {"keepdims": 0})
