"""Sorting with NaN as the largest, as torch has it, and what is read from a sorted axis.

ONNX Runtime's TopK, which sorts, puts NaN anywhere.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import onnx_ir as ir
import torch
from onnx_ir import tensor_adapters
from onnxscript import opset18 as op
from onnxscript.function_libs.torch_lib.ops import core as _core

from .literals import integer, ints, number

_INT64 = ir.DataType.INT64


def sort(self: Any, dim: int = -1, descending: bool = False, stable: bool = False) -> Any:
    """(values, indices); equal elements stay in their order."""
    if not (self.shape and self.dtype.is_floating_point()):
        return _core.aten_sort(self, dim, descending, stable)
    return _sorted(self, dim, descending)


def sort_stable(self: Any, *, stable: Any = None, dim: int = -1, descending: bool = False) -> Any:
    """The same with its arguments in another order."""
    return sort(self, dim, descending)


def kthvalue(self: Any, k: int, dim: int = -1, keepdim: bool = False) -> Any:
    """(value, index) of the ``k``-th smallest element along an axis."""
    values, indices = _ascending(self, dim)
    return _picked(values, indices, ints(k - 1), dim, keepdim, self)


def median_dim(self: Any, dim: int = -1, keepdim: bool = False) -> Any:
    """(value, index) of the lower one of those in the middle; NaN where there is any."""
    values, indices = _ascending(self, dim)
    size = _size(self, dim)
    middle = op.Div(op.Sub(size, ints(1)), ints(2))
    if not self.dtype.is_floating_point():
        return _picked(values, indices, middle, dim, keepdim, self)
    last = op.Gather(values, op.Sub(size, ints(1)), axis=dim)
    place = op.Where(op.IsNaN(last), op.Sub(size, ints(1)), middle)
    return _picked_each(values, indices, place, dim, keepdim)


def nanmedian_dim(self: Any, dim: int = -1, keepdim: bool = False) -> Any:
    """The same of what is no NaN, if there is anything."""
    if not self.dtype.is_floating_point():
        return median_dim(self, dim, keepdim)
    values, indices = _ascending(self, dim)
    known: Any = op.Cast(op.Not(op.IsNaN(self)), to=_INT64)
    count = op.ReduceSum(known, ints(dim), keepdims=1)
    place = op.Div(op.Max(op.Sub(count, ints(1)), ints(0)), ints(2))
    return _picked_each(values, indices, place, dim, keepdim)


def median(self: Any) -> Any:
    """Of all elements."""
    return median_dim(_flat(self), 0)[0]


def nanmedian(self: Any) -> Any:
    """Of all elements that are no NaN."""
    return nanmedian_dim(_flat(self), 0)[0]


def searchsorted(
    sorted_sequence: Any,
    self: Any,
    *,
    out_int32: bool = False,
    right: bool = False,
    side: str | None = None,
    sorter: Any = None,
) -> Any:
    """The places where elements would go into a sorted axis of known size: torch's own steps of halving."""
    size = sorted_sequence.shape[-1]
    if not isinstance(size, int) or size == 0 or sorter is not None:
        raise NotImplementedError("the size of the sorted axis is not known, or it comes with an order")
    rank = len(sorted_sequence.shape)
    sorted_sequence, self = _in_one_type(sorted_sequence, self)
    goes_before = op.Greater if right or side == "right" else op.GreaterOrEqual
    look_up = partial(op.Gather, sorted_sequence)
    if rank > 1:
        look_up = partial(op.GatherElements, sorted_sequence, axis=-1)
    two, one, last, nothing, whole = (integer(value) for value in (2, 1, size - 1, 0, size))
    start: Any = op.Expand(nothing, op.Shape(self))
    end: Any = op.Expand(whole, op.Shape(self))
    for _ in range(size.bit_length()):
        middle: Any = op.Div(op.Add(start, end), two)
        near: Any = op.Min(middle, last)  # where nothing is left to halve, it may be one behind
        found: Any = look_up(near)
        open_, behind = op.Less(start, end), op.Not(goes_before(found, self))
        start, end = (
            op.Where(op.And(open_, behind), op.Add(middle, one), start),
            op.Where(op.And(open_, op.Not(behind)), middle, end),
        )
    return op.Cast(start, to=ir.DataType.INT32) if out_int32 else start


def _in_one_type(left: Any, right: Any) -> tuple[Any, Any]:
    if left.dtype == right.dtype:
        return left, right
    if not right.shape:
        raise NotImplementedError("a number of another type than the sorted axis")
    kinds = (tensor_adapters.to_torch_dtype(each.dtype) for each in (left, right))
    common = tensor_adapters.from_torch_dtype(torch.promote_types(*kinds))
    return op.Cast(left, to=common), op.Cast(right, to=common)


def _sorted(given: Any, dim: int, descending: bool) -> tuple[Any, Any]:
    """A second sort, of one bit, moves NaN to its end and leaves the others in their order."""
    size = _size(given, dim)
    unknown, keys = op.IsNaN(given), given
    if given.dtype == ir.DataType.BFLOAT16:  # which TopK does not take
        keys = op.Cast(given, to=ir.DataType.FLOAT)
    order = op.TopK(op.Where(unknown, number(0.0, keys), keys), size, axis=dim, largest=descending)[1]
    bits: Any = op.Cast(op.GatherElements(unknown, order, axis=dim), to=_INT64)
    moved = op.TopK(bits, size, axis=dim, largest=descending)[1]
    indices = op.GatherElements(order, moved, axis=dim)
    return op.GatherElements(given, indices, axis=dim), indices


def _ascending(given: Any, dim: int) -> tuple[Any, Any]:
    if not given.shape:
        raise NotImplementedError("a number alone has no axis to sort")
    if given.dtype.is_floating_point():
        return _sorted(given, dim, False)
    values, indices = op.TopK(given, _size(given, dim), axis=dim, largest=0)
    return values, indices


def _size(given: Any, dim: int) -> Any:
    axis = dim % len(given.shape)
    return op.Shape(given, start=axis, end=axis + 1)


def _flat(given: Any) -> Any:
    shape = given.shape
    flat: Any = op.Reshape(given, ints(-1))
    counts = [size if isinstance(size, int) else None for size in shape]
    flat.dtype = given.dtype
    flat.shape = ir.Shape([None if None in counts else int(torch.Size(counts).numel())])  # type: ignore[arg-type]
    return flat


def _picked(values: Any, indices: Any, place: Any, dim: int, keepdim: bool, like: Any) -> tuple[Any, Any]:
    """Of both what is at one place of the axis."""
    chosen = [op.Gather(each, place, axis=dim) for each in (values, indices)]
    first, second = chosen if keepdim else (op.Squeeze(each, ints(dim)) for each in chosen)
    return first, second


def _picked_each(values: Any, indices: Any, place: Any, dim: int, keepdim: bool) -> tuple[Any, Any]:
    """The same with a place of its own for each row; it has the axis with size 1."""
    chosen = [op.GatherElements(each, place, axis=dim) for each in (values, indices)]
    first, second = chosen if keepdim else (op.Squeeze(each, ints(dim)) for each in chosen)
    return first, second


_aten = torch.ops.aten
TABLE: dict[Callable[..., Any], Callable[..., Any]] = {
    _aten.sort.default: sort,
    _aten.sort.stable: sort_stable,
    _aten.kthvalue.default: kthvalue,
    _aten.median.dim: median_dim,
    _aten.median.default: median,
    _aten.nanmedian.dim: nanmedian_dim,
    _aten.nanmedian.default: nanmedian,
    _aten.searchsorted.Tensor: searchsorted,
}
