"""Functions that ONNX lacks and whose plain formulas lose all digits where they are small."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import onnx_ir as ir
import torch
from onnxscript import opset18 as op

from .literals import number

_MOST = {
    ir.DataType.FLOAT: torch.finfo(torch.float32).max,
    ir.DataType.DOUBLE: torch.finfo(torch.float64).max,
}
_HALF = {ir.DataType.FLOAT16, ir.DataType.BFLOAT16}


def log1p(self: Any) -> Any:
    """ln(1 + x)"""
    return _wide(self, _log1p)


def expm1(self: Any) -> Any:
    """exp(x) - 1"""
    return _wide(self, _expm1)


def log1p_below_1(x: Any, one: Any) -> Any:
    """ln(1 + x) for finite x: what the sum lost is lost in numerator and denominator alike."""
    more = op.Add(one, x)
    return op.Where(op.Equal(more, one), x, op.Div(op.Mul(op.Log(more), x), op.Sub(more, one)))


def _log1p(x: Any, dtype: ir.DataType) -> Any:
    """The same, and of infinity; a product gives zeros their sign, which ONNX Runtime's Where forgets."""
    one, most = number(1.0, x), number(_MOST[dtype], x)
    more = op.Add(one, x)
    slope = op.Div(op.Log(more), op.Min(op.Sub(more, one), most))
    return op.Mul(x, op.Where(op.Equal(more, one), one, slope))


def _expm1(x: Any, dtype: ir.DataType) -> Any:
    """Kahan's: the rounded power is the exact power of its logarithm. Below -80 all are -1."""
    one, low, high = number(1.0, x), number(-80.0, x), number(1000.0, x)
    bounded = op.Max(x, low)
    power = op.Exp(bounded)
    slope = op.Div(op.Sub(power, one), op.Min(op.Log(power), high))
    return op.Mul(bounded, op.Where(op.Equal(power, one), one, slope))


def _wide(x: Any, compute: Callable[[Any, ir.DataType], Any]) -> Any:
    """Half precision and whole numbers are computed in float32, as torch does."""
    if x.dtype in (ir.DataType.FLOAT, ir.DataType.DOUBLE):
        return compute(x, x.dtype)
    result = compute(op.Cast(x, to=ir.DataType.FLOAT), ir.DataType.FLOAT)
    return op.Cast(result, to=x.dtype) if x.dtype in _HALF else result


TABLE: dict[Callable[..., Any], Callable[..., Any]] = {
    torch.ops.aten.log1p.default: log1p,
    torch.ops.aten.expm1.default: expm1,
}
