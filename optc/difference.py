"""How far two sets of model outputs are apart."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir

# Relative L2 error that an exact rewrite may have, by the type of the output.
EXACT_TOLERANCE = {
    # The order of summation moves a value by a few 2^-24; dozens of layers amplify it. The contract is 1e-4.
    ir.DataType.FLOAT: 1e-4,
    # Attributes of ONNX ops (scale, epsilon, alpha) are float32 even in a float64 model: 2^-24 is the floor.
    ir.DataType.DOUBLE: 1e-6,
    # A fused kernel rounds to 11 bits once where the plain graph rounds after each of a dozen nodes.
    ir.DataType.FLOAT16: 1e-2,
    # The same with 8 bits.
    ir.DataType.BFLOAT16: 6e-2,
}
# 8 bits and less: a value next to a rounding border lands a whole step (1/8 to 1/2 of it) away.
_SMALL_FLOAT_TOLERANCE = 0.25

# Below this root mean square an output is what is left of values that cancelled, and the exact tolerance is
# an absolute one: for float32 1e-7, one rounding step of a value near 1.
_CANCELLED_RMS = 1e-3

# From here on the squares of doubles, summed, may not be finite.
_LARGE = 1e140


@dataclass(frozen=True)
class Difference:
    """The worst float output of a comparison, and whether everything agrees as an exact rewrite must.

    Attributes:
        rel_l2: norm of the difference over the norm of the expected values, over all samples.
        cosine: between expected and actual values, over all samples.
        top1: fraction of last-axis rows whose largest element is at the same place.
        max_abs: largest absolute difference.
        output: name of that output (``y[1]`` is an element of a sequence); "" when there is no float output.
        excess: the largest error of any output in units of what an exact rewrite may have.
        reason: the first output that is not comparable, or is discrete and not identical; None if all agree.
    """

    rel_l2: float
    cosine: float
    top1: float
    max_abs: float
    output: str
    excess: float
    reason: str | None = None

    @property
    def exact(self) -> bool:
        """Whether an exact rewrite may have made this difference."""
        return self.excess <= 1.0


def difference(expected: Mapping[str, Any], actual: Mapping[str, Any]) -> Difference:
    """Compares the outputs of one run, by name; values are ndarrays, lists or None (empty optionals)."""
    comparison = Comparison()
    comparison.add(expected, actual)
    return comparison.result()


class Comparison:
    """Pools the differences of several runs.

    Args:
        tolerances: by output name, where rewrites may move one by more than its type says.
    """

    def __init__(self, tolerances: Mapping[str, float] | None = None) -> None:
        self._tolerances = tolerances or {}
        self._outputs: dict[str, _Pool] = {}
        self._reason: str | None = None
        self._incomparable: str | None = None

    def add(self, expected: Mapping[str, Any], actual: Mapping[str, Any]) -> None:
        """Adds one run."""
        if set(expected) != set(actual):
            missing = sorted(set(expected) ^ set(actual))
            self._refuse(missing[0], "output is there in one model only")
        for name in sorted(set(expected) & set(actual)):
            self._add_value(name, expected[name], actual[name])

    def result(self) -> Difference:
        """The figures of the worst float output so far."""
        worst = max(self._outputs, key=lambda name: self._outputs[name].rel_l2, default="")
        pool = self._outputs.get(worst, _Pool(1.0))
        excess = max((other.excess for other in self._outputs.values()), default=0.0)
        return Difference(
            rel_l2=pool.rel_l2 if self._incomparable is None else math.inf,
            cosine=pool.cosine,
            top1=pool.top1,
            max_abs=pool.max_abs,
            output=self._incomparable or worst,
            excess=excess if self._reason is None else math.inf,
            reason=self._reason,
        )

    def _add_value(self, name: str, expected: Any, actual: Any) -> None:
        for place, left, right in _leaves(name, expected, actual):
            if type(left) is not type(right):
                self._refuse(place, f"{_kind(left)} became {_kind(right)}")
            elif isinstance(left, np.ndarray):
                self._add_array(place, left, right, self._tolerances.get(name, 0.0))
            elif left != right:  # lengths of sequences
                self._refuse(place, f"sequence of {left} became one of {right}")

    def _add_array(self, name: str, expected: np.ndarray, actual: np.ndarray, least: float) -> None:
        if expected.dtype != actual.dtype:
            self._refuse(name, f"type {expected.dtype} became {actual.dtype}")
        elif expected.shape != actual.shape:
            self._refuse(name, f"shape {expected.shape} became {actual.shape}")
        elif (tolerance := _exact_tolerance(expected.dtype)) is None:
            if not np.array_equal(expected, actual):
                self._reason = self._reason or f"{name}: {expected.dtype} values are not identical"
        elif not _same_specials(expected, actual):
            self._refuse(name, "NaN or infinity at other places")
        else:
            self._outputs.setdefault(name, _Pool(max(tolerance, least))).add(expected, actual)

    def _refuse(self, name: str, reason: str) -> None:
        self._incomparable = self._incomparable or name
        self._reason = self._reason or f"{name}: {reason}"


@dataclass
class _Pool:
    """Sums over the finite elements of one output, in float64.

    They are of numbers divided by ``unit``, a power of 2: 1 until there is one whose square would overflow.
    """

    tolerance: float
    unit: float = 1.0
    count: int = 0
    square_error: float = 0.0
    square_expected: float = 0.0
    square_actual: float = 0.0
    product: float = 0.0
    max_abs: float = 0.0
    rows: int = 0
    same_top: int = 0

    def add(self, expected: np.ndarray, actual: np.ndarray) -> None:
        if expected.ndim and expected.size:
            same = expected.argmax(axis=-1) == actual.argmax(axis=-1)
            self.rows += same.size
            self.same_top += int(np.count_nonzero(same))
        left, right = expected.astype(np.float64).ravel(), actual.astype(np.float64).ravel()
        finite = np.isfinite(left)
        if not finite.all():
            left, right = left[finite], right[finite]
        self._reach(max(_largest(left), _largest(right)))
        if self.unit != 1.0:
            left, right = left / self.unit, right / self.unit
        error = left - right
        self.count += left.size
        self.square_error += float(error @ error)
        self.square_expected += float(left @ left)
        self.square_actual += float(right @ right)
        self.product += float(left @ right)
        self.max_abs = max(self.max_abs, _largest(error) * self.unit)

    def _reach(self, largest: float) -> None:
        """Takes a larger unit if numbers as large as this need one."""
        if largest / self.unit < _LARGE:
            return
        unit = 2.0 ** min(math.frexp(largest)[1], 1023)
        self.square_error, self.square_expected, self.square_actual, self.product = (
            total * (self.unit / unit) ** 2
            for total in (self.square_error, self.square_expected, self.square_actual, self.product)
        )
        self.unit = unit

    @property
    def rel_l2(self) -> float:
        if self.square_error == 0.0:
            return 0.0
        return math.sqrt(self.square_error / self.square_expected) if self.square_expected else math.inf

    @property
    def cosine(self) -> float:
        if self.square_error == 0.0:
            return 1.0
        norms = math.sqrt(self.square_expected) * math.sqrt(self.square_actual)
        return min(self.product / norms, 1.0) if norms else 0.0

    @property
    def top1(self) -> float:
        return self.same_top / self.rows if self.rows else 1.0

    @property
    def excess(self) -> float:
        if self.square_error == 0.0:
            return 0.0
        rms_expected = max(math.sqrt(self.square_expected / self.count), _CANCELLED_RMS / self.unit)
        return math.sqrt(self.square_error / self.count) / (self.tolerance * rms_expected)


def _largest(values: np.ndarray) -> float:
    return float(np.abs(values).max(initial=0.0))


def _leaves(name: str, expected: Any, actual: Any) -> Iterator[tuple[str, Any, Any]]:
    """Pairs of arrays and their place; where the sequences differ, the pair that says so."""
    if not (isinstance(expected, list) and isinstance(actual, list)):
        yield name, expected, actual
        return
    if len(expected) != len(actual):
        yield name, len(expected), len(actual)
    for index, (left, right) in enumerate(zip(expected, actual, strict=False)):
        yield from _leaves(f"{name}[{index}]", left, right)


def _exact_tolerance(dtype: np.dtype) -> float | None:
    """What an exact rewrite may move values of this type by; None means not at all."""
    if dtype.kind in "OSUbiu":
        return None
    onnx_type = ir.DataType.from_numpy(dtype)
    if onnx_type in EXACT_TOLERANCE:
        return EXACT_TOLERANCE[onnx_type]
    return _SMALL_FLOAT_TOLERANCE if onnx_type.is_floating_point() else None


def _same_specials(expected: np.ndarray, actual: np.ndarray) -> bool:
    left_finite, right_finite = np.isfinite(expected), np.isfinite(actual)
    if not np.array_equal(left_finite, right_finite):
        return False
    if left_finite.all():
        return True
    left = expected[~left_finite].astype(np.float64)
    return np.array_equal(left, actual[~left_finite].astype(np.float64), equal_nan=True)


def _kind(value: Any) -> str:
    names = {np.ndarray: "a tensor", list: "a sequence", type(None): "nothing"}
    return names.get(type(value), type(value).__name__)
