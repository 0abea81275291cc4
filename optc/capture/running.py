"""Running products, log-sum-exps and extremes in terms of ONNX: a Scan that takes elements in torch's order.

Closed forms are not exact: a product behind an overflow, or behind a zero, depends on the order, and a
maximum over the whole axis loses what is much smaller.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import onnx_ir as ir
import torch
from onnxscript import opset18 as op

from .literals import integer, ints, number
from .near_zero import log1p_below_1
from .recorded import recorded

Step = Callable[[Any, Any], Any]
_INF = float("inf")
_TRUTHS = {"Equal", "Greater", "Less", "IsNaN", "Or"}


def cumprod(self: Any, dim: int, dtype: int | None = None) -> Any:
    """Integers and booleans are multiplied in int64, as torch does, unless ``dtype`` says otherwise."""
    if dtype is None and not self.dtype.is_floating_point():
        dtype = ir.DataType.INT64
    result = ir.DataType(dtype or self.dtype)
    wide = _accumulated(result)
    given: Any = op.Cast(self, to=result)
    factors = op.Cast(given, to=wide)
    return op.Cast(_scan(factors, self.shape, wide, dim, number(1.0, factors), op.Mul), to=result)


def logcumsumexp(self: Any, dim: int) -> Any:
    """Of floats; NaN stays from where it is on."""
    wide = _accumulated(self.dtype)
    given = op.Cast(self, to=wide)
    zero, one = number(0.0, given), number(1.0, given)

    def step(total: Any, new: Any) -> Any:
        low, high = op.Min(total, new), op.Max(total, new)
        apart = op.Where(op.Equal(low, high), zero, op.Sub(low, high))  # also of two infinities
        return op.Add(log1p_below_1(op.Exp(apart), one), high)

    return op.Cast(_scan(given, self.shape, wide, dim, number(-_INF, given), step), to=self.dtype)


def cummax(self: Any, dim: int) -> tuple[Any, Any]:
    """(values, indices): the largest so far and where it was met last; NaN is larger than all."""
    return _extreme(self, dim, op.Greater, lambda kind: kind.min)


def cummin(self: Any, dim: int) -> tuple[Any, Any]:
    """The same of the smallest; NaN is smaller than all."""
    return _extreme(self, dim, op.Less, lambda kind: kind.max)


def _extreme(given: Any, dim: int, beats: Step, worst: Callable[[Any], int]) -> tuple[Any, Any]:
    if not given.shape:
        return op.Identity(given), integer(0)
    floats = given.dtype.is_floating_point()
    wide = _accumulated(given.dtype) if floats else ir.DataType.INT64
    x: Any = op.Cast(given, to=wide)

    def step(total: Any, new: Any) -> Any:
        stays = beats(total, new)
        return op.Where(op.Or(op.IsNaN(total), stays) if floats else stays, total, new)

    limit = worst(np.iinfo(np.int64))
    first = number(math.copysign(_INF, limit), x) if floats else integer(limit)
    values = _scan(x, given.shape, wide, dim, first, step)
    met = op.Equal(x, values)
    if floats:
        met = op.Or(met, op.IsNaN(x))
    axis, rank = dim % len(given.shape), len(given.shape)
    size = op.Squeeze(op.Shape(given, start=axis, end=axis + 1))
    zero, one = (integer(value) for value in (0, 1))
    places: Any = op.Reshape(op.Range(zero, size, one), ints(-1, *[1] * (rank - axis - 1)))
    indices = _scan(op.Where(met, places, zero), given.shape, ir.DataType.INT64, dim, zero, op.Max)
    return op.Cast(values, to=given.dtype), indices


def _accumulated(dtype: ir.DataType) -> ir.DataType:
    """What torch keeps the running result in, on the CPU: 1e38 * 1e10 * 0 is 0 in float32."""
    half = {ir.DataType.FLOAT16, ir.DataType.BFLOAT16}
    return ir.DataType.FLOAT if dtype in half else ir.DataType.DOUBLE if dtype == ir.DataType.FLOAT else dtype


def _scan(given: Any, sizes: Any, dtype: ir.DataType, dim: int, first: Any, step: Step) -> Any:
    """All partial results of ``step`` from ``first`` on, along an axis; this or others may be empty."""
    if len(sizes) == 0 or 0 in sizes:
        return op.Identity(given)
    axis = dim % len(sizes)
    if all(isinstance(size, int) for size in sizes):
        return _scan_some(given, list(sizes), dtype, axis, first, step)
    # ONNX Runtime refuses to scan nothing, and dies of elements without numbers: one more of both goes in.
    order = [axis, *(place for place in range(len(sizes)) if place != axis)]
    front = op.Transpose(given, perm=order)
    shape = op.Shape(front)
    lanes = op.ReduceProd(op.Concat(ints(1), op.Shape(front, start=1), axis=0))
    flat = op.Reshape(front, op.Concat(op.Shape(front, start=0, end=1), lanes, axis=0), allowzero=1)
    more = op.Pad(flat, ints(1, 0, 0, 1), first)
    partial = _scan_some(more, [None, None], dtype, 0, first, step)
    ends = op.Add(op.Concat(op.Shape(front, start=0, end=1), lanes, axis=0), ints(1, 0))
    ours = op.Slice(partial, ints(1, 0), ends, ints(0, 1))
    back = op.Reshape(ours, shape, allowzero=1)
    return op.Transpose(back, perm=[order.index(place) for place in range(len(sizes))])


def _scan_some(
    given: Any, sizes: list[int | None], dtype: ir.DataType, axis: int, first: Any, step: Step
) -> Any:
    inner = ir.Shape([size for place, size in enumerate(sizes) if place != axis])
    lead, rest = (op.Shape(given, start=start, end=end) for start, end in ((0, axis), (axis + 1, None)))
    body: Any = _body(step, dtype, inner)
    last: Any = op.Scan(
        op.Expand(first, op.Concat(lead, rest, axis=0)),
        given,
        body=body,
        num_scan_inputs=1,
        scan_input_axes=[axis],
        scan_output_axes=[axis],
    )
    scan = last.producer()
    scan.resize_outputs(2)  # the recorder knows one output of operators with any number of them
    for value, shape in zip(scan.outputs, (inner, ir.Shape(sizes)), strict=True):
        value.type, value.shape = ir.TensorType(dtype), shape
    return scan.outputs[1]


def _body(step: Step, dtype: ir.DataType, shape: ir.Shape) -> ir.Graph:
    """(total, new) -> (total, total), with types, which nobody infers inside of bodies."""
    total, new = (ir.Value(name=name, type=ir.TensorType(dtype), shape=shape) for name in ("total", "new"))
    result, nodes = recorded(lambda: (partial := step(total, new), op.Identity(partial)))
    for node in nodes:
        (made,) = node.outputs
        made.shape = shape
        made.type = ir.TensorType(ir.DataType.BOOL if node.op_type in _TRUTHS else dtype)
    return ir.Graph([total, new], result, nodes=nodes, name="running")


TABLE: dict[Callable[..., Any], Callable[..., Any]] = {
    torch.ops.aten.cumprod.default: cumprod,
    torch.ops.aten.logcumsumexp.default: logcumsumexp,
    torch.ops.aten.cummax.default: cummax,
    torch.ops.aten.cummin.default: cummin,
}
