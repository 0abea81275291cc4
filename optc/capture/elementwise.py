"""Elementwise operators: the stock translation is wrong at some numbers or types, or loses digits."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import onnx_ir as ir
import torch
from onnxscript import opset18 as op
from onnxscript.function_libs.torch_lib.ops import core as _core

from .literals import number
from .near_zero import widened

_INF = float("inf")


def sign(self: Any) -> Any:
    """NaN has none, and gives 0."""
    if not self.dtype.is_floating_point():
        return _core.aten_sign(self)
    return op.Where(op.IsNaN(self), number(0.0, self), op.Sign(self))


def signbit(self: Any) -> Any:
    """Also of -0."""
    zero = number(0.0, self)
    if not self.dtype.is_floating_point():
        return _all(self, False) if self.dtype == ir.DataType.BOOL else op.Less(self, zero)
    return _is_negative(self)


def log10(self: Any) -> Any:
    """The stock translation divides by ln 10 in float32."""
    return op.Div(op.Log(self), number(math.log(10), self))


def log2(self: Any) -> Any:
    """The stock translation divides by ln 2 in float32."""
    return op.Div(op.Log(self), number(math.log(2), self))


def logit(self: Any, eps: float | None = None) -> Any:
    """ln(x / (1 - x)), of x between ``eps`` and 1 - ``eps``; NaN stays."""
    one, x = number(1.0, self), self
    if eps is not None:
        low, high = number(eps, self), number(1 - eps, self)
        x = op.Where(op.Less(x, low), low, x)
        x = op.Where(op.Greater(x, high), high, x)
    return op.Log(op.Div(x, op.Sub(one, x)))


def sinc(self: Any) -> Any:
    """sin(pi x) / (pi x), with all the digits of pi."""

    def compute(dtype: ir.DataType, x: Any) -> Any:
        turned = op.Mul(x, number(math.pi, x))
        ratio = op.Div(op.Sin(turned), turned)
        return op.Where(op.Equal(x, number(0.0, x)), number(1.0, x), ratio)

    return widened(compute, self)


def sigmoid(self: Any) -> Any:
    """In double, ONNX Runtime's is 0 too early."""
    if self.dtype != ir.DataType.DOUBLE:
        return op.Sigmoid(self)
    one = number(1.0, self)
    return op.Div(one, op.Add(one, op.Exp(op.Neg(self))))


def silu(self: Any) -> Any:
    """x / (1 + exp(-x))"""
    return op.Mul(self, sigmoid(self))


def pow_scalar(self: Any, exponent: float) -> Any:
    """A root is a root, as in torch: of -inf it is NaN. Whole powers of booleans are int64."""
    if self.dtype == ir.DataType.BOOL and isinstance(exponent, int):
        self = op.Cast(self, to=ir.DataType.INT64)
        self.dtype = ir.DataType.INT64
    if exponent == 0.5 and self.dtype.is_floating_point():
        return op.Sqrt(self)
    return _core.aten_pow_tensor_scalar(self, exponent)


def isnan(self: Any) -> Any:
    """Whole numbers never are."""
    return op.IsNaN(self) if self.dtype.is_floating_point() else _all(self, False)


def isinf(self: Any) -> Any:
    """Whole numbers never are."""
    if not self.dtype.is_floating_point():
        return _all(self, False)
    return op.Equal(op.Abs(self), number(_INF, self))


def isfinite(self: Any) -> Any:
    """Whole numbers are, NaN is not."""
    if not self.dtype.is_floating_point():
        return _all(self, True)
    return op.Less(op.Abs(self), number(_INF, self))


def neg(self: Any) -> Any:
    """Of unsigned integers: modulo their range."""
    if self.dtype != ir.DataType.UINT8:
        return _core.aten_neg(self)
    wide: Any = op.Cast(self, to=ir.DataType.INT32)
    return op.Cast(op.Neg(wide), to=self.dtype)


def fmax(self: Any, other: Any) -> Any:
    """The larger one; a number where the other is NaN."""
    larger = op.Max(self, other)
    return larger if not self.dtype.is_floating_point() else _number_of(self, other, larger)


def fmin(self: Any, other: Any) -> Any:
    """The smaller one; a number where the other is NaN."""
    smaller = op.Min(self, other)
    return smaller if not self.dtype.is_floating_point() else _number_of(self, other, smaller)


def _number_of(left: Any, right: Any, chosen: Any) -> Any:
    return op.Where(op.IsNaN(left), right, op.Where(op.IsNaN(right), left, chosen))


def hypot(self: Any, other: Any) -> Any:
    """The root of the sum of squares, of which none overflows; an infinity outdoes NaN."""
    left, right, infinite = op.Abs(self), op.Abs(other), number(_INF, self)
    larger, smaller = op.Max(left, right), op.Min(left, right)
    ratio = op.Div(smaller, larger)
    length = op.Mul(larger, op.Sqrt(op.Add(number(1.0, self), op.Mul(ratio, ratio))))
    length = op.Where(op.Equal(larger, number(0.0, self)), larger, length)
    return op.Where(op.Or(op.Equal(left, infinite), op.Equal(right, infinite)), infinite, length)


def heaviside(self: Any, values: Any) -> Any:
    """0 below 0, 1 above, ``values`` at 0; nothing is above NaN."""
    zero = number(0.0, self)
    return op.Where(op.Equal(self, zero), values, op.CastLike(op.Greater(self, zero), self))


def atan2(self: Any, other: Any) -> Any:
    """The angle of (x, y) = (``other``, ``self``) in all four quadrants, with the signs of zeros."""
    return widened(_angle, self, other)


def _angle(dtype: ir.DataType, y: Any, x: Any) -> Any:
    high, wide, zero = op.Abs(y), op.Abs(x), number(0.0, y)
    smaller, larger = op.Min(high, wide), op.Max(high, wide)
    slope = op.Where(op.Equal(larger, zero), larger, op.Div(smaller, larger))
    slope = op.Where(op.Equal(smaller, number(_INF, y)), number(1.0, y), slope)
    angle = op.Atan(slope)
    angle = op.Where(op.Greater(high, wide), op.Sub(number(math.pi / 2, y), angle), angle)
    angle = op.Where(_is_negative(x), op.Sub(number(math.pi, y), angle), angle)
    return op.Where(_is_negative(y), op.Neg(angle), angle)


def _is_negative(x: Any) -> Any:
    zero = number(0.0, x)
    return op.Or(op.Less(x, zero), op.Less(op.Div(number(1.0, x), x), zero))


def copysign(self: Any, other: Any) -> Any:
    """The size of one with the sign of the other."""
    size = op.Abs(self)
    return op.Where(signbit(other), op.Neg(size), size)


def _unless_whole(round: Callable[..., Any]) -> Callable[..., Any]:
    """Whole numbers are rounded."""

    def translation(self: Any) -> Any:
        return round(self) if self.dtype.is_floating_point() else op.Identity(self)

    return translation


def _all(like: Any, value: bool) -> Any:
    constant: Any = op.Constant(value=ir.tensor(value))  # type: ignore[arg-type]
    return op.Expand(constant, op.Shape(like))


TABLE: dict[Callable[..., Any], Callable[..., Any]] = {
    torch.ops.aten.sign.default: sign,
    torch.ops.aten.sgn.default: sign,
    torch.ops.aten.signbit.default: signbit,
    torch.ops.aten.log10.default: log10,
    torch.ops.aten.log2.default: log2,
    torch.ops.aten.logit.default: logit,
    torch.ops.aten.special_sinc.default: sinc,
    torch.ops.aten.sinc.default: sinc,
    torch.ops.aten.sigmoid.default: sigmoid,
    torch.ops.aten.silu.default: silu,
    torch.ops.aten.pow.Tensor_Scalar: pow_scalar,
    torch.ops.aten.isnan.default: isnan,
    torch.ops.aten.isinf.default: isinf,
    torch.ops.aten.isfinite.default: isfinite,
    torch.ops.aten.neg.default: neg,
    torch.ops.aten.fmax.default: fmax,
    torch.ops.aten.fmin.default: fmin,
    torch.ops.aten.hypot.default: hypot,
    torch.ops.aten.heaviside.default: heaviside,
    torch.ops.aten.atan2.default: atan2,
    torch.ops.aten.copysign.Tensor: copysign,
    torch.ops.aten.floor.default: _unless_whole(op.Floor),
    torch.ops.aten.ceil.default: _unless_whole(op.Ceil),
    torch.ops.aten.trunc.default: _unless_whole(_core.aten_trunc),
    torch.ops.aten.round.default: _unless_whole(op.Round),
}
