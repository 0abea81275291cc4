"""How far a value reaches on samples that calibration did not see."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from optc import student
from optc.newnode import New

from .probes import Extremes

# In a MobileNet with gates one image in forty lay 4 to 6 deviations above the mean of sixteen, and what was
# cut off there made an error of 0.33. More room costs all others precision.
_DEVIATIONS = 2.5
_MOST = 1.5  # times what was seen: few samples do not even tell how much they differ
_MOST_OF_FEW = 2.0  # the same where there is little to lose
_STEPS = 255  # of a range in 8 bits
_ROUNDS = 4  # until the best end, which hardly depends on itself, stays


class Reach(Extremes):
    """The extremes of the whole value, and from how the samples differ, those that others may have."""

    def __init__(self) -> None:
        super().__init__()
        self._ends = (_Moments(), _Moments())
        self._elements = 0  # of the largest sample

    def nodes(self, value: ir.Value, opset: int) -> Sequence[New]:
        """The extremes, and the number of elements."""
        size = New("Size", (value,), ir.DataType.INT64, ir.Shape([]))
        return [*super().nodes(value, opset), size]

    def update(self, arrays: Sequence[np.ndarray]) -> None:
        """Adds one sample."""
        *extremes, size = arrays
        super().update(extremes)
        self._elements = max(self._elements, int(size))
        for end, sign, found in zip(self._ends, (-1.0, 1.0), extremes, strict=True):
            if np.isfinite(found).all():
                end.add(max(sign * float(found), 0.0))

    def beyond(self, more: float = 1.0) -> tuple[float, float]:
        """What to multiply the low and the high end with.

        That is from 1, where all samples agree, to 1.5, or to 2 for values of few elements; and ``more``
        times that where they do not agree.
        """
        low, high = (max(end, 0.0) for end in (-float(self.low), float(self.high)))
        below, above = self._ends
        return (
            below.room(low, high, self._elements) * (more if below.differ else 1.0),
            above.room(high, low, self._elements) * (more if above.differ else 1.0),
        )


class _Moments:
    """Mean and spread of a stream of numbers (Welford's recurrence)."""

    def __init__(self) -> None:
        self._count, self._mean, self._squares = 0, 0.0, 0.0

    def add(self, number: float) -> None:
        self._count += 1
        off = number - self._mean
        self._mean += off / self._count
        self._squares += off * (number - self._mean)

    @property
    def differ(self) -> bool:
        """Whether the numbers differ, or may: one does not tell."""
        return self._count < 2 or self._squares > 0.0

    def room(self, largest: float, opposite: float, elements: int) -> float:
        """The end of an interval for one more number, over the largest so far.

        Args:
            opposite: the size of the other end of the range.
            elements: that are rounded in each sample, at the cost of a wider range.
        """
        if self._count < 2 or largest <= 0.0 or self._squares == 0.0:
            return 1.0
        unsure = student.quantile(self._count - 1) / student.NORMAL  # few samples agree by chance
        deviation = unsure * math.sqrt(self._squares / (self._count - 1) * (1 + 1 / self._count))
        usual = min((self._mean + _DEVIATIONS * deviation) / largest, _MOST)
        best = min(self._best(deviation, opposite, elements) / largest, _MOST_OF_FEW)
        return max(usual, best, 1.0)

    def _best(self, deviation: float, opposite: float, elements: int) -> float:
        """The end at which one more sample is expected to lose least, by rounding and by what is cut off.

        Largest values follow Gumbel's distribution, so beyond ``end`` they lose an expected square of
        ``2 scale^2 exp(-(end - mode) / scale)``, and rounding ``elements (end + opposite)^2 / (12 steps^2)``.
        """
        scale = deviation * math.sqrt(6) / math.pi
        mode = self._mean - np.euler_gamma * scale
        end = self._mean
        for _ in range(_ROUNDS):
            ratio = 12 * _STEPS**2 * scale / (max(elements, 1) * (end + opposite))
            end = max(mode + scale * math.log(ratio), self._mean)
        return end
