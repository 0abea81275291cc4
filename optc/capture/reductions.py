"""Means, norms and traces; softmaxes in another type, where the stock translation casts only the result."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import onnx_ir as ir
import torch
from onnxscript import opset18 as op
from onnxscript.function_libs.torch_lib.ops import core as _core
from onnxscript.function_libs.torch_lib.ops import linalg as _linalg
from onnxscript.function_libs.torch_lib.ops import special as _special

from .literals import integer, ints, number


def mean(self: Any, dim: Any, keepdim: bool = False, dtype: int | None = None) -> Any:
    """The mean over some axes, taken in ``dtype``; of nothing it is NaN, where ONNX Runtime has 0."""
    given = _in(dtype, self)
    rank = len(given.shape)
    axes = sorted({axis % rank for axis in dim or range(rank)}) if rank else []
    if any(given.shape[axis] == 0 for axis in axes):
        total = op.ReduceSum(given, ints(*axes), keepdims=keepdim)
        return op.Div(total, number(0.0, given))
    return _core.aten_mean_dim(given, dim or axes, keepdim)


def mean_of_all(self: Any, dtype: int | None = None) -> Any:
    """The mean of all elements."""
    given = _in(dtype, self)
    return op.Identity(given) if not given.shape else mean(given, list(range(len(given.shape))))


def vector_norm(self: Any, ord: float = 2.0, dim: Any = None, keepdim: bool = False, dtype: int = -1) -> Any:
    """(sum |x| ** p) ** (1 / p), over all axes if none is named; the stock translation forgets them."""
    rank = len(self.shape)
    axes = sorted({axis % rank for axis in dim or range(rank)}) if rank else []
    if not isinstance(ord, (int, float)) or not axes:
        return _linalg.aten_linalg_vector_norm(self, ord, dim, keepdim, dtype)
    if ord in (0, 1, 2) or math.isinf(ord):
        return _linalg.aten_linalg_vector_norm(self, float(ord), axes, keepdim, dtype)
    given = _in(dtype, self)
    total = op.ReduceSum(op.Pow(op.Abs(given), number(ord, given)), ints(*axes), keepdims=keepdim)
    return op.Pow(total, number(1.0 / ord, given))


def trace(self: Any) -> Any:
    """The sum of the diagonal; a product with ones and zeros would make NaN of infinities beside it."""
    rows, columns = (op.Shape(self, start=axis, end=axis + 1) for axis in (0, 1))
    zero, one = integer(0), integer(1)
    across, down = (op.Range(zero, op.Squeeze(size), one) for size in (columns, rows))
    given: Any = self if self.dtype.is_floating_point() else op.Cast(self, to=ir.DataType.INT64)
    beside: Any = op.CastLike(zero, given)
    kept = op.Where(op.Equal(op.Unsqueeze(down, ints(1)), across), given, beside)
    return op.ReduceSum(kept, keepdims=False)


def aminmax(self: Any, *, dim: int | None = None, keepdim: bool = False) -> tuple[Any, Any]:
    """(smallest, largest), of all or along an axis."""
    axes = [] if dim is None or not self.shape else [ints(dim)]
    return op.ReduceMin(self, *axes, keepdims=keepdim), op.ReduceMax(self, *axes, keepdims=keepdim)


def softmax(self: Any, dim: int, dtype: int | None = None) -> Any:
    """exp(x) over its sum along an axis, taken in ``dtype``; a number alone is its own axis."""
    return _core.aten_softmax(_in(dtype, self), dim)


def log_softmax(self: Any, dim: int, dtype: int | None = None) -> Any:
    """Its logarithm."""
    return _special.aten_special_log_softmax(_in(dtype, self), dim)


def _in(dtype: int | None, given: Any) -> Any:
    if dtype in (None, -1, given.dtype):
        return given
    cast: Any = op.Cast(given, to=ir.DataType(dtype))
    cast.dtype, cast.shape = ir.DataType(dtype), given.shape
    return cast


TABLE: dict[Callable[..., Any], Callable[..., Any]] = {
    torch.ops.aten.mean.default: mean_of_all,
    torch.ops.aten.mean.dim: mean,
    torch.ops.aten.linalg_vector_norm.default: vector_norm,
    torch.ops.aten.trace.default: trace,
    torch.ops.aten.aminmax.default: aminmax,
    torch.ops.aten.softmax.int: softmax,
    torch.ops.aten.log_softmax.int: log_softmax,
}
