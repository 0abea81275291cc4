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
    return widened(_log1p, self)


def expm1(self: Any) -> Any:
    """exp(x) - 1"""
    return widened(expm1_of, self)


def log1p_below_1(x: Any, one: Any) -> Any:
    """ln(1 + x) for finite x: what the sum lost is lost in numerator and denominator alike."""
    more = op.Add(one, x)
    return op.Where(op.Equal(more, one), x, op.Div(op.Mul(op.Log(more), x), op.Sub(more, one)))


def _log1p(dtype: ir.DataType, x: Any) -> Any:
    """The same, and of infinity; a product gives zeros their sign, which ONNX Runtime's Where forgets."""
    one, most = number(1.0, x), number(_MOST[dtype], x)
    more = op.Add(one, x)
    slope = op.Div(op.Log(more), op.Min(op.Sub(more, one), most))
    return op.Mul(x, op.Where(op.Equal(more, one), one, slope))


def expm1_of(dtype: ir.DataType, x: Any) -> Any:
    """Kahan's: the rounded power is the exact power of its logarithm. Below -80 all are -1."""
    one, low, high = number(1.0, x), number(-80.0, x), number(1000.0, x)
    bounded = op.Max(x, low)
    power = op.Exp(bounded)
    slope = op.Div(op.Sub(power, one), op.Min(op.Log(power), high))
    return op.Mul(bounded, op.Where(op.Equal(power, one), one, slope))


def widened(compute: Callable[..., Any], *given: Any) -> Any:
    """``compute(dtype, *given)`` of tensors and numbers.

    Half precision and whole numbers are computed in float32, as torch does; the result has the type given.
    """
    dtype = next(x.dtype for x in given if isinstance(x, ir.Value))
    wide: Any = dtype if dtype in _MOST else ir.DataType.FLOAT

    def taken(x: Any) -> Any:
        if not isinstance(x, ir.Value):
            return op.Constant(value=ir.tensor(x, dtype=wide))  # type: ignore[arg-type]
        given: Any = x
        return x if dtype == wide else op.Cast(given, to=wide)

    result = compute(wide, *map(taken, given))
    return op.Cast(result, to=dtype) if dtype in _HALF else result


TABLE: dict[Callable[..., Any], Callable[..., Any]] = {
    torch.ops.aten.log1p.default: log1p,
    torch.ops.aten.expm1.default: expm1,
}
