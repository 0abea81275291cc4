"""Embedding bags in terms of ONNX, without the loop over bags that the stock exporter makes."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import onnx_ir as ir
import torch
from onnxscript import opset18 as op

from .literals import ints, number

_SUM, _MEAN, _MAX = range(3)


def embedding_bag(
    weight: Any,
    indices: Any,
    offsets: Any,
    scale_grad_by_freq: bool = False,
    mode: int = _SUM,
    sparse: bool = False,
    per_sample_weights: Any = None,
    include_last_offset: bool = False,
    padding_idx: Any = None,
    *,
    wraps: bool = False,
) -> tuple[Any, ...]:
    """The bags, [B, D]; what torch gives besides is for the gradient, and a program that reads it is refused.

    Args:
        weight: [V, D]; ``indices`` is [N], ``offsets`` [B] where bags start in it.
        include_last_offset: ``offsets`` is [B + 1]; what is behind the last one belongs to no bag.
        padding_idx: rows that count as absent.
        wraps: whether a negative ``padding_idx`` counts from the end; otherwise it means that there is none.
    """
    kept = _kept(weight, indices, padding_idx, wraps)
    found = op.Gather(weight, indices, axis=0)
    if per_sample_weights is not None:
        found = op.Mul(found, op.Unsqueeze(per_sample_weights, ints(1)))
    length = None if include_last_offset else _equal_length(indices, offsets)
    if length is not None and not (mode == _MAX and kept is not None):
        return (_equal_bags(found, kept, mode, length),)
    bags = _bags(found, kept, mode, offsets)
    if include_last_offset:
        bags = op.Slice(bags, ints(0), ints(-1), ints(0))
    return (bags,)


def _kept(weight: Any, indices: Any, padding_idx: Any, wraps: bool) -> Any:
    """Which of the indices count, [N]; None where all do."""
    if padding_idx is None or (not wraps and isinstance(padding_idx, int) and padding_idx < 0):
        return None
    absent = padding_idx  # a value where the size of the table is not known
    if isinstance(padding_idx, int):
        absent = ints(padding_idx)
        if padding_idx < 0:
            absent = op.Add(op.Shape(weight, start=0, end=1), absent)
    return op.Not(op.Equal(indices, op.CastLike(absent, indices)))


def _equal_length(indices: Any, offsets: Any) -> int | None:
    """How many indices every bag has, where torch flattened indices of two axes; None if they may differ."""
    flat, starts = indices.producer(), offsets.producer()
    if flat is None or starts is None or (flat.op_type, starts.op_type) != ("Reshape", "Range"):
        return None
    table = flat.inputs[0]
    if table.shape is None or len(table.shape) != 2 or offsets.shape is None:
        return None
    start, step = (_whole(starts.inputs[place]) for place in (0, 2))
    fits = table.shape[0] == offsets.shape[0] and start == 0 and step == table.shape[1]
    return step if fits else None


def _whole(value: ir.Value | None) -> int | None:
    """The number that a scalar holds, also behind casts."""
    while value is not None and (made := value.producer()) is not None and made.op_type == "Cast":
        value = made.inputs[0]
    tensor = ir.convenience.get_const_tensor(value) if value is not None else None
    return int(tensor.numpy().item()) if tensor is not None and tensor.size == 1 else None


def _equal_bags(found: Any, kept: Any, mode: int, length: int) -> Any:
    """``found`` is [B * length, D]; reduced along an axis."""
    shape = op.Concat(ints(-1, length), op.Shape(found, start=1, end=2), axis=0)
    found = op.Reshape(found, shape)
    axis, zero = ints(1), number(0.0, found)
    if mode == _MAX:
        lowest = op.ReduceMax(_without_nan(found), axis, keepdims=0)
        return _led(lowest, op.Squeeze(op.Slice(found, ints(0), ints(1), axis), axis))
    if kept is None:
        return (op.ReduceSum if mode == _SUM else op.ReduceMean)(found, axis, keepdims=0)
    kept = op.Reshape(kept, ints(-1, length, 1))
    total = op.ReduceSum(op.Where(kept, found, zero), axis, keepdims=0)
    return total if mode == _SUM else _mean(total, op.ReduceSum(op.CastLike(kept, found), axis, keepdims=0))


def _bags(found: Any, kept: Any, mode: int, offsets: Any) -> Any:
    """``found`` is [N, D]; scattered to the bags that its rows are in."""
    count = op.Shape(found, start=0, end=1)
    offsets = op.Cast(offsets, to=ir.DataType.INT64)
    bag = _bag_of_rows(offsets, count)
    bags = op.Shape(offsets)
    shape = op.Concat(bags, op.Shape(found, start=1, end=2), axis=0)
    place, zero, lowest = op.Unsqueeze(bag, ints(1)), number(0.0, found), number(float("-inf"), found)
    spread = None if kept is None else op.Unsqueeze(kept, ints(1))
    ones = op.Expand(ints(1), count) if kept is None else op.Cast(kept, to=ir.DataType.INT64)
    sizes = op.Unsqueeze(op.ScatterElements(op.Expand(ints(0), bags), bag, ones, reduction="add"), ints(1))
    if mode != _MAX:
        rows = found if spread is None else op.Where(spread, found, zero)
        total = op.ScatterND(op.Expand(zero, shape), place, rows, reduction="add")
        return total if mode == _SUM else _mean(total, op.CastLike(sizes, found))
    rows = _without_nan(found if spread is None else op.Where(spread, found, lowest))
    largest = op.ScatterND(op.Expand(lowest, shape), place, rows, reduction="max")
    order = op.Range(op.Squeeze(ints(0)), op.Squeeze(count), op.Squeeze(ints(1)))
    order = order if kept is None else op.Where(kept, order, count)
    first = op.ScatterElements(op.Expand(count, bags), bag, order, reduction="min")
    more = op.Expand(zero, op.Concat(ints(1), op.Shape(found, start=1, end=2), axis=0))
    led = _led(largest, op.Gather(op.Concat(found, more, axis=0), first, axis=0))
    return op.Where(op.Equal(sizes, ints(0)), zero, led)


def _bag_of_rows(offsets: Any, count: Any) -> Any:
    """[N]: how many bags start at or before a row, less one."""
    room = op.Expand(ints(0), op.Add(count, ints(1)))  # bags that start behind the last row are empty
    starts = op.ScatterElements(room, offsets, op.Expand(ints(1), op.Shape(offsets)), reduction="add")
    return op.Sub(op.CumSum(op.Slice(starts, ints(0), count, ints(0)), op.Squeeze(ints(0))), ints(1))


def _mean(total: Any, sizes: Any) -> Any:
    return op.Div(total, op.Max(sizes, number(1.0, sizes)))


def _without_nan(found: Any) -> Any:
    return op.Where(op.IsNaN(found), number(float("-inf"), found), found)


def _led(largest: Any, first: Any) -> Any:
    """torch keeps the first row until one is larger: a NaN there stays, one behind it never comes in."""
    return op.Where(op.IsNaN(first), first, largest)


TABLE: dict[Callable[..., Any], Callable[..., Any]] = {
    torch.ops.aten.embedding_bag.default: embedding_bag,
    torch.ops.aten.embedding_bag.padding_idx: partial(embedding_bag, wraps=True),
    torch.ops.aten._embedding_bag.default: embedding_bag,
    torch.ops.aten._embedding_bag_forward_only.default: embedding_bag,
}
