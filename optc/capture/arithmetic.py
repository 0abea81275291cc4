"""Divisions with rounding, remainders and sums of products, where the stock translation is wrong."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import onnx_ir as ir
import torch
from onnxscript import opset18 as op
from onnxscript.function_libs.torch_lib.ops import core as _core

from .literals import number
from .near_zero import log1p_below_1, widened


def divide(self: Any, other: Any, rounding_mode: str | None = None) -> Any:
    """``self / other``, rounded towards 0 ("trunc") or down ("floor"): of whole numbers without floats."""
    if rounding_mode == "floor":
        return floor_divide(self, other)
    if _are_whole(self, other) and rounding_mode == "trunc":
        return op.Div(_tensor(self, other), _tensor(other, self))
    return _core.aten_div_mode(self, other, rounding_mode)


def floor_divide(self: Any, other: Any) -> Any:
    """The floor of the exact quotient: 0.9 / 0.1 is rounded to 9, but 0.1 is a little more than a tenth."""
    if _are_whole(self, other):
        return _core.aten_floor_divide(_tensor(self, other), _tensor(other, self))
    return widened(_floor_quotient, self, other)


def _floor_quotient(dtype: ir.DataType, left: Any, right: Any) -> Any:
    one, half = number(1.0, left), number(0.5, left)
    rest, quotient = op.Mod(left, right, fmod=1), op.Div(left, right)
    whole = op.Div(op.Sub(left, rest), right)
    whole = op.Where(_signs_differ(rest, right), op.Sub(whole, one), whole)
    down = op.Floor(whole)
    down = op.Where(op.Greater(op.Sub(whole, down), half), op.Add(down, one), down)
    return op.Where(op.Equal(right, number(0.0, left)), quotient, down)


def remainder(self: Any, other: Any) -> Any:
    """What is left of ``self``, with the sign of ``other`` and all its digits."""
    if _are_whole(self, other):
        return _core.aten_remainder(_tensor(self, other), _tensor(other, self))
    return widened(remainder_of, self, other)


def remainder_of(dtype: ir.DataType, left: Any, right: Any) -> Any:
    """Of two of the same type."""
    rest = op.Mod(left, right, fmod=1)
    return op.Where(_signs_differ(rest, right), op.Add(rest, right), rest)


def _signs_differ(rest: Any, right: Any) -> Any:
    """Where there is a rest, and it lies on the other side of 0."""
    zero = number(0.0, rest)
    apart = op.Xor(op.Less(rest, zero), op.Less(right, zero))
    return op.And(op.Not(op.Equal(rest, zero)), apart)


def _are_whole(*given: Any) -> bool:
    """Tensors and numbers without digits."""
    kinds = (x.dtype if isinstance(x, ir.Value) else type(x) for x in given)
    return not any(
        kind is float or (isinstance(kind, ir.DataType) and kind.is_floating_point()) for kind in kinds
    )


def _tensor(given: Any, other: Any) -> Any:
    return given if isinstance(given, ir.Value) else _scalar(given, other)


def logaddexp(self: Any, other: Any) -> Any:
    """ln(exp(a) + exp(b)), of which neither power overflows."""
    return widened(_log_of_sum, self, other)


def _log_of_sum(dtype: ir.DataType, left: Any, right: Any, scale: float = 1.0) -> Any:
    low, high, one = op.Min(left, right), op.Max(left, right), number(1.0, left)
    apart = op.Where(op.Equal(low, high), number(0.0, left), op.Sub(low, high))  # also of two infinities
    more = log1p_below_1(op.Exp(apart if scale == 1.0 else op.Mul(apart, number(scale, left))), one)
    return op.Add(high, more if scale == 1.0 else op.Div(more, number(scale, left)))


def logaddexp2(self: Any, other: Any) -> Any:
    """The same to the base 2."""
    return widened(lambda dtype, a, b: _log_of_sum(dtype, a, b, math.log(2)), self, other)


def xlogy(self: Any, other: Any) -> Any:
    """x ln(y), and 0 where x is 0, unless y is NaN."""
    nothing = op.And(op.Equal(self, number(0.0, self)), op.Not(op.IsNaN(other)))
    return op.Where(nothing, number(0.0, self), op.Mul(self, op.Log(other)))


def isclose(self: Any, other: Any, rtol: float = 1e-5, atol: float = 1e-8, equal_nan: bool = False) -> Any:
    """Equal, or finite and apart by at most ``atol`` + ``rtol`` |other|."""
    if not self.dtype.is_floating_point():
        return _core.aten_isclose(self, other, rtol, atol, equal_nan)
    close = op.Equal(self, other)
    if equal_nan:
        close = op.Or(close, op.And(op.IsNaN(self), op.IsNaN(other)))
    apart = op.Abs(op.Sub(self, other))
    allowed = op.Add(number(atol, self), op.Abs(op.Mul(number(rtol, self), other)))
    near = op.And(op.Less(apart, number(float("inf"), self)), op.LessOrEqual(apart, allowed))
    return op.Or(close, near)


def addcmul(self: Any, tensor1: Any, tensor2: Any, value: float = 1.0) -> Any:
    """The stock translation has ``value`` in float32."""
    product = op.Mul(tensor1, tensor2)
    if value == 1:
        return op.Add(self, product)
    return op.Add(self, op.Mul(op.Mul(_scalar(value, self), tensor1), tensor2))


def addcdiv(self: Any, tensor1: Any, tensor2: Any, value: float = 1.0) -> Any:
    """self + value * tensor1 / tensor2, from left to right as in torch."""
    above = tensor1 if value == 1 else op.Mul(_scalar(value, self), tensor1)
    return op.Add(self, op.Div(above, tensor2))


def baddbmm(self: Any, batch1: Any, batch2: Any, beta: float = 1.0, alpha: float = 1.0) -> Any:
    """beta * self + alpha * batch1 @ batch2; where beta is 0, it does not matter what ``self`` holds."""
    if isinstance(beta, ir.Value) or isinstance(alpha, ir.Value):
        return _core.aten_baddbmm(self, batch1, batch2, beta, alpha)
    product = _times(op.MatMul(batch1, batch2), alpha, self)
    return product if beta == 0 else op.Add(_times(self, beta, self), product)


def addmv(self: Any, mat: Any, vec: Any, beta: float = 1.0, alpha: float = 1.0) -> Any:
    """The same of a matrix and a vector."""
    return baddbmm(self, mat, vec, beta, alpha)


def _times(given: Any, factor: float, like: Any) -> Any:
    return given if factor == 1 else op.Mul(given, _scalar(factor, like))


def _scalar(value: float, like: Any) -> Any:
    return op.Constant(value=ir.tensor(value, dtype=like.dtype))  # type: ignore[arg-type]


_aten = torch.ops.aten
TABLE: dict[Callable[..., Any], Callable[..., Any]] = {
    _aten.div.Tensor_mode: divide,
    _aten.div.Scalar_mode: divide,
    _aten.floor_divide.default: floor_divide,
    _aten.floor_divide.Scalar: floor_divide,
    _aten.remainder.Tensor: remainder,
    _aten.remainder.Scalar: remainder,
    _aten.remainder.Scalar_Tensor: remainder,
    _aten.logaddexp.default: logaddexp,
    _aten.logaddexp2.default: logaddexp2,
    _aten.xlogy.Tensor: xlogy,
    _aten.isclose.default: isclose,
    _aten.addcmul.default: addcmul,
    _aten.addcdiv.default: addcdiv,
    _aten.baddbmm.default: baddbmm,
    _aten.addmv.default: addmv,
}
