"""Numbers with all the digits of double: the exporter writes them in float32, and casts that."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import onnx_ir as ir
import torch
from onnxscript import opset18 as op
from onnxscript.function_libs.torch_lib.ops import core as _core

from .literals import integer
from .scalars import beside_tensors, double, is_fraction, keep_mark

_CASTS = {"Cast", "CastLike"}


@contextmanager
def exact_numbers() -> Iterator[None]:
    """Within it, a Python number that a translation casts is a constant in double."""
    recorder, evaluate = _recorder()
    recorder.eval = _eval
    try:
        yield
    finally:
        recorder.eval = evaluate


def _eval(self: Any, schema: Any, args: Any, kwargs: Any) -> Any:
    if schema.name in _CASTS and args and isinstance(args[0], float):
        args = (ir.tensor(args[0], dtype=ir.DataType.DOUBLE), *args[1:])
    args = beside_tensors(schema, args)
    result = _recorder()[1](self, schema, args, kwargs)
    keep_mark(schema, args, result)
    return result


@cache
def _recorder() -> tuple[Any, Any]:
    """The class, and its own method, which is put back whatever other threads do meanwhile."""
    from torch.onnx._internal.exporter import _building

    recorder: Any = _building.OpRecorder
    return recorder, recorder.eval


def scalar_tensor(s: Any, dtype: int = -1, **rest: Any) -> Any:
    """A number as a tensor without axes, of float32 unless ``dtype`` says otherwise."""
    if isinstance(s, (bool, int, float)) and dtype in _REAL:
        return _constant(s, ir.DataType(dtype))
    return _core.aten_scalar_tensor(s, dtype, **rest)


def full(size: Any, fill_value: Any, dtype: int = -1, **rest: Any) -> Any:
    """``fill_value``, a number, in every place."""
    if isinstance(fill_value, (bool, int, float)) and dtype in _REAL:
        fill_value, dtype = _constant(fill_value, ir.DataType(dtype)), -1
    elif is_fraction(fill_value) and dtype == -1:
        dtype = ir.DataType.FLOAT
    return _core.aten_full(size, fill_value, dtype)


def full_like(self: Any, fill_value: Any, dtype: int = -1, **rest: Any) -> Any:
    """The same, of the shape of ``self``, and of its type unless ``dtype`` says otherwise."""
    kind = self.dtype if dtype == -1 else dtype
    if isinstance(fill_value, (bool, int, float)) and kind in _REAL:
        return op.Expand(_constant(fill_value, ir.DataType(kind)), op.Shape(self))
    return _core.aten_full_like(self, fill_value, dtype)


def fill(self: Any, value: Any) -> Any:
    """``value`` in every place of a tensor of the shape and type of ``self``."""
    return full_like(self, value)


def arange(*bounds: Any, dtype: int = -1, **rest: Any) -> Any:
    """Start (or 0), end and step (or 1); with fractions, how many there are is decided in double."""
    kind = ir.DataType.FLOAT if dtype == -1 else ir.DataType(dtype)
    whole = not any(isinstance(bound, float) or is_fraction(bound) for bound in bounds)
    if whole or not kind.is_floating_point():
        return _STOCK[len(bounds)](*bounds, dtype=dtype)
    start, end, step = (0, *bounds, 1) if len(bounds) == 1 else (*bounds, 1)[:3]
    first, width = double(start), double(step)
    count = op.Cast(op.Ceil(op.Div(op.Sub(double(end), first), width)), to=ir.DataType.INT64)
    places = double(op.Range(integer(0), count, integer(1)))
    return op.Cast(op.Add(first, op.Mul(places, width)), to=kind)


def _constant(value: float, dtype: ir.DataType) -> Any:
    return op.Constant(value=ir.tensor(float(value), dtype=dtype))  # type: ignore[arg-type]


_STOCK = {1: _core.aten_arange, 2: _core.aten_arange_start, 3: _core.aten_arange_start_step}
_REAL = {ir.DataType.FLOAT, ir.DataType.DOUBLE}
TABLE: dict[Callable[..., Any], Callable[..., Any]] = {
    torch.ops.aten.arange.default: arange,
    torch.ops.aten.arange.start: arange,
    torch.ops.aten.arange.start_step: arange,
    torch.ops.aten.scalar_tensor.default: scalar_tensor,
    torch.ops.aten.full.default: full,
    torch.ops.aten.full_like.default: full_like,
    torch.ops.aten.fill.Scalar: fill,
}
