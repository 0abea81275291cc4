"""Operators that the stock exporter translates to something else than what torch computes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import onnx_ir as ir
import torch
from onnxscript import opset18 as op
from onnxscript.function_libs.torch_lib.ops import core as _core
from onnxscript.function_libs.torch_lib.ops.nn import aten_scaled_dot_product_attention as _stock

from . import (
    activations,
    arithmetic,
    bags,
    digits,
    distances,
    elementwise,
    near_zero,
    nearest,
    orders,
    pools,
    recurrent,
    reductions,
    running,
    scalars,
    scattered,
    truths,
    windows,
)
from .literals import ints, number


def attention(
    query: Any,
    key: Any,
    value: Any,
    attn_mask: Any = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Any:
    """scaled_dot_product_attention; a row of the mask that keeps nothing gives 0.

    The stock translation masks with the lowest number instead of -inf, and so gives such a row of a boolean
    mask the mean of all values; of a mask of numbers, NaN. Left padding and sliding windows leave such rows
    at padded positions, and `nn.MultiheadAttention` where a sequence is all padding. Where the mask turns
    out to have no such row, `optc.capture.guards` takes the replacement of NaN away.
    """
    if attn_mask is None or dropout_p:
        return _stock(query, key, value, attn_mask, dropout_p, is_causal, scale, enable_gqa)
    if enable_gqa and query.shape[1] != key.shape[1]:
        key, value = (_repeated(each, query.shape[1] // key.shape[1]) for each in (key, value))
    root = number(_scale(query, scale) ** 0.5, query)
    scores = op.MatMul(op.Mul(query, root), op.Mul(op.Transpose(key, perm=[0, 1, 3, 2]), root))
    zero, bias = number(0.0, query), attn_mask
    if attn_mask.dtype == ir.DataType.BOOL:
        bias = op.Where(attn_mask, zero, number(float("-inf"), query))
    weights = op.Softmax(op.Add(scores, bias), axis=-1)
    return op.MatMul(op.Where(op.IsNaN(weights), zero, weights), value)


def _scale(query: Any, scale: float | None) -> float:
    return float(query.shape[-1]) ** -0.5 if scale is None else float(scale)


def _repeated(heads: Any, times: int) -> Any:
    """[B, Nk, T, D] as [B, Nk * times, T, D], every head ``times`` times in a row."""
    spread = op.Expand(op.Unsqueeze(heads, ints(2)), ints(1, 1, times, 1, 1))
    return op.Reshape(spread, ints(0, heads.shape[1] * times, -1, heads.shape[3]))


# The stock translation takes operators of theirs that ONNX Runtime lacks; powers of 2 are exact.
_NARROW = {ir.DataType.INT8, ir.DataType.INT16}
_UNSIGNED = {ir.DataType.UINT8, ir.DataType.UINT16, ir.DataType.UINT32, ir.DataType.UINT64}


def left_shift(self: Any, other: Any) -> Any:
    """Of unsigned integers, which the stock translation makes signed, and of narrow ones."""
    amount = _amount(other, self)
    if self.dtype in _UNSIGNED:
        return op.BitShift(self, amount, direction="LEFT")
    if self.dtype not in _NARROW:
        return _core.aten_bitwise_left_shift(self, amount)
    two: Any = op.Constant(value_int=2)
    number, times = (_as(each, ir.DataType.INT64) for each in (self, amount))
    return op.Cast(op.Mul(number, op.Pow(two, times)), to=self.dtype)


def right_shift(self: Any, other: Any) -> Any:
    """Of unsigned integers, which the stock translation makes signed, and of narrow ones."""
    amount = _amount(other, self)
    if self.dtype in _UNSIGNED:
        return op.BitShift(self, amount, direction="RIGHT")
    if self.dtype not in _NARROW:
        return _core.aten_bitwise_right_shift(self, amount)
    two: Any = op.Constant(value_float=2.0)
    number, times = (_as(each, ir.DataType.FLOAT) for each in (self, amount))
    return op.Cast(op.Floor(op.Div(number, op.Pow(two, times))), to=self.dtype)


def all_true(self: Any) -> Any:
    """Whether all of it is true, as a scalar; torch asks so where the program asserts something."""
    return op.Not(any_true(op.Not(self)))


def any_true(self: Any) -> Any:
    """Whether some of it is true, as a scalar; of nothing, False."""
    flat: Any = op.Reshape(_as(self, ir.DataType.INT32), ints(-1))
    count: Any = op.ReduceSum(flat, keepdims=0)
    return op.Cast(count, to=ir.DataType.BOOL)


def _as(value: Any, dtype: ir.DataType) -> Any:
    return op.Cast(value, to=dtype)


def _amount(other: Any, like: Any) -> Any:
    return other if isinstance(other, ir.Value) else op.Constant(value=ir.tensor(other, dtype=like.dtype))  # type: ignore[arg-type]


TABLE: dict[Callable[..., Any], Callable[..., Any]] = {
    **activations.TABLE,
    **arithmetic.TABLE,
    **bags.TABLE,
    **digits.TABLE,
    **distances.TABLE,
    **elementwise.TABLE,
    **near_zero.TABLE,
    **nearest.TABLE,
    **orders.TABLE,
    **pools.TABLE,
    **recurrent.TABLE,
    **reductions.TABLE,
    **running.TABLE,
    **scalars.TABLE,
    **scattered.TABLE,
    **truths.TABLE,
    **windows.TABLE,
    torch.ops.aten._is_all_true.default: all_true,
    torch.ops.aten._is_any_true.default: any_true,
    torch.ops.aten.scaled_dot_product_attention.default: attention,
    torch.ops.aten.__lshift__.Scalar: left_shift,
    torch.ops.aten.__rshift__.Scalar: right_shift,
    torch.ops.aten.bitwise_left_shift.Tensor: left_shift,
    torch.ops.aten.bitwise_left_shift.Tensor_Scalar: left_shift,
    torch.ops.aten.bitwise_right_shift.Tensor: right_shift,
    torch.ops.aten.bitwise_right_shift.Tensor_Scalar: right_shift,
}
