"""Elementwise operators: the stock translation is not exact, or ONNX Runtime has no kernel in double."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import onnx_ir as ir
import torch
from onnxscript import opset18 as op
from onnxscript import opset20 as op20
from onnxscript.function_libs.torch_lib.ops import core as _core
from onnxscript.function_libs.torch_lib.ops import nn as _nn

from .literals import ints, number
from .near_zero import expm1_of, log1p_below_1

_INF = float("inf")
_SELU = 1.6732632423543772848170429916717, 1.0507009873554804934193349852946  # alpha, scale


def clamp(self: Any, min: Any = None, max: Any = None) -> Any:
    """Without one bound, ONNX Runtime would clip infinities to the largest number."""
    if _is_scalar(min) and _is_scalar(max):
        return op.Clip(self, op.CastLike(min, self), op.CastLike(max, self))
    if isinstance(min, ir.Value) or isinstance(max, ir.Value):
        return _core.aten_clamp_tensor(self, min, max)
    if not self.dtype.is_floating_point():
        return _core.aten_clamp(self, min, max)
    low, high = (-_INF if min is None else min), (_INF if max is None else max)
    return op.Clip(self, number(float(low), self), number(float(high), self))


def _is_scalar(bound: Any) -> bool:
    return isinstance(bound, ir.Value) and bound.shape is not None and len(bound.shape) == 0


def clamp_max(self: Any, max: Any) -> Any:
    """See `clamp`."""
    return clamp(self, None, max)


def hardtanh(self: Any, min_val: float = -1.0, max_val: float = 1.0) -> Any:
    """Between two numbers."""
    return clamp(self, min_val, max_val)


def gelu(self: Any, approximate: str = "none") -> Any:
    """In double, the constants of ONNX's own approximation are float32, and the exact one has no kernel."""
    if self.dtype != ir.DataType.DOUBLE or approximate != "tanh":
        return op20.Gelu(self, approximate=approximate)
    cubic = op.Mul(number(0.044715, self), op.Mul(self, op.Mul(self, self)))
    inner = op.Mul(number(math.sqrt(2 / math.pi), self), op.Add(self, cubic))
    return op.Mul(op.Mul(number(0.5, self), self), op.Add(number(1.0, self), op.Tanh(inner)))


def softplus(self: Any, beta: float = 1.0, threshold: float = 20.0) -> Any:
    """ln(1 + exp(beta x)) / beta, and x where beta x is above the threshold."""
    scaled = op.Mul(self, number(beta, self))
    smooth = op.Div(_softplus(scaled, self.dtype), number(beta, self))
    return op.Where(op.Greater(scaled, number(threshold, self)), self, smooth)


def log_sigmoid(self: Any) -> Any:
    """The logarithm of a sigmoid that has become 0 would be -inf."""
    return op.Neg(_softplus(op.Neg(self), self.dtype))


def mish(self: Any) -> Any:
    """x tanh(ln(1 + exp(x)))"""
    return op.Mul(self, op.Tanh(_softplus(self, self.dtype)))


def _softplus(x: Any, dtype: ir.DataType) -> Any:
    if dtype == ir.DataType.BFLOAT16:  # which the operator lacks in the exporter's operator set
        wide: Any = op.Cast(x, to=ir.DataType.FLOAT)
        return op.Cast(op.Softplus(wide), to=dtype)
    if dtype != ir.DataType.DOUBLE:
        return op.Softplus(x)
    zero, one = number(0.0, x), number(1.0, x)
    return op.Add(op.Max(x, zero), log1p_below_1(op.Exp(op.Neg(op.Abs(x))), one))


def leaky_relu(self: Any, negative_slope: float = 0.01) -> Any:
    """ONNX Runtime has no kernel in double."""
    if self.dtype != ir.DataType.DOUBLE:
        return _nn.aten_leaky_relu(self, negative_slope)
    return op.Where(op.Greater(self, number(0.0, self)), self, op.Mul(self, number(negative_slope, self)))


def hardsigmoid(self: Any) -> Any:
    """ONNX Runtime has no kernel in double."""
    if self.dtype != ir.DataType.DOUBLE:
        return _nn.aten_hardsigmoid(self)
    return op.Div(_hard(self), number(6.0, self))


def hardswish(self: Any) -> Any:
    """ONNX Runtime has no kernel in double."""
    if self.dtype != ir.DataType.DOUBLE:
        return op.HardSwish(self)
    return op.Div(op.Mul(self, _hard(self)), number(6.0, self))


def elu(self: Any, alpha: float = 1.0, scale: float = 1.0, input_scale: float = 1.0) -> Any:
    """ONNX Runtime has no kernel in double."""
    if self.dtype != ir.DataType.DOUBLE:
        return _nn.aten_elu(self, alpha, scale, input_scale)
    scaled = op.Mul(self, number(input_scale, self))
    below = op.Mul(expm1_of(self.dtype, scaled), number(alpha * scale, self))
    return op.Where(op.Greater(self, number(0.0, self)), op.Mul(self, number(scale, self)), below)


def selu(self: Any) -> Any:
    """ONNX Runtime has no kernel in double."""
    if self.dtype != ir.DataType.DOUBLE:
        return op.Selu(self, alpha=_SELU[0], gamma=_SELU[1])
    return elu(self, *_SELU)


def celu(self: Any, alpha: float = 1.0) -> Any:
    """ONNX Runtime has no kernel in double; the stock translation computes in float32."""
    if self.dtype != ir.DataType.DOUBLE:
        return _nn.aten_celu(self, alpha)
    return elu(self, alpha, 1.0, 1.0 / alpha)


def prelu(self: Any, weight: Any) -> Any:
    """``weight`` has a number for all, or one per channel (axis 1), or has its axes already."""
    if self.dtype != ir.DataType.DOUBLE:
        return _core.aten_prelu(self, weight)
    if len(weight.shape) == 1 and len(self.shape) > 2:
        weight = op.Reshape(weight, ints(-1, *[1] * (len(self.shape) - 2)))
    return op.Where(op.Greater(self, number(0.0, self)), self, op.Mul(self, weight))


def _hard(x: Any) -> Any:
    return op.Clip(op.Add(x, number(3.0, x)), number(0.0, x), number(6.0, x))


TABLE: dict[Callable[..., Any], Callable[..., Any]] = {
    torch.ops.aten.clamp.default: clamp,
    torch.ops.aten.clamp.Tensor: clamp,
    torch.ops.aten.clamp_min.default: clamp,
    torch.ops.aten.clamp_min.Tensor: clamp,  # also of a number: the exporter makes a tensor of it
    torch.ops.aten.clamp_max.default: clamp_max,
    torch.ops.aten.clamp_max.Tensor: clamp_max,
    torch.ops.aten.hardtanh.default: hardtanh,
    torch.ops.aten.gelu.default: gelu,
    torch.ops.aten.softplus.default: softplus,
    torch.ops.aten.log_sigmoid.default: log_sigmoid,
    torch.ops.aten.mish.default: mish,
    torch.ops.aten.elu.default: elu,
    torch.ops.aten.selu.default: selu,
    torch.ops.aten.celu.default: celu,
    torch.ops.aten.prelu.default: prelu,
    torch.ops.aten._prelu_kernel.default: prelu,
    torch.ops.aten.leaky_relu.default: leaky_relu,
    torch.ops.aten.hardsigmoid.default: hardsigmoid,
    torch.ops.aten.hardswish.default: hardswish,
}
