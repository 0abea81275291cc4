"""Whether any or all of something is true; sums of and choices between booleans, which have no kernel."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import onnx_ir as ir
import torch
from onnxscript import opset18 as op
from onnxscript.function_libs.torch_lib.ops import core as _core

from .literals import ints

_BOOL, _COUNT = ir.DataType.BOOL, ir.DataType.INT64


def any_of(self: Any, dim: int | Sequence[int] | None = None, keepdim: bool = False) -> Any:
    """Of nothing, False. NaN is true."""
    return _any(_as_bool(self), len(self.shape), dim, keepdim)


def all_of(self: Any, dim: int | Sequence[int] | None = None, keepdim: bool = False) -> Any:
    """Of nothing, True."""
    return op.Not(_any(op.Not(_as_bool(self)), len(self.shape), dim, keepdim))


def where(condition: Any, self: Any, other: Any) -> Any:
    """Booleans are combined."""
    if not (_is_bool(self) and _is_bool(other)):
        return _core.aten_where(condition, self, other)
    truth = _as_bool(condition)
    return op.Or(op.And(truth, _tensor(self)), op.And(op.Not(truth), _tensor(other)))


def masked_fill(self: Any, mask: Any, value: Any) -> Any:
    """The same; a number that is put among booleans is one."""
    if self.dtype != _BOOL:
        return _core.aten_masked_fill(self, mask, value)
    return where(mask, _as_bool(value) if isinstance(value, ir.Value) else bool(value), self)


def add(self: Any, other: Any, alpha: float = 1.0) -> Any:
    """Of booleans, whether one of them is true."""
    if not (_is_bool(self) and _is_bool(other)):
        return _core.aten_add(self, other, alpha)
    return op.Or(self, _tensor(other)) if alpha else self


def _any(truth: Any, rank: int, dim: int | Sequence[int] | None, keepdim: bool) -> Any:
    """A sum of ones, because the largest of nothing would be the lowest number, and that is true."""
    axes = [dim] if isinstance(dim, int) else list(dim or ())
    if rank == 0:  # torch lets a number alone have an axis
        return truth
    ones: Any = op.Cast(truth, to=_COUNT)
    total: Any = op.ReduceSum(ones, *([ints(*axes)] if axes else []), keepdims=keepdim)
    return op.Cast(total, to=_BOOL)


def _as_bool(given: Any) -> Any:
    if given.dtype == _BOOL:
        return given
    truth: Any = op.Cast(given, to=_BOOL)
    truth.dtype, truth.shape = _BOOL, given.shape
    return truth


def _is_bool(given: Any) -> bool:
    return given.dtype == _BOOL if isinstance(given, ir.Value) else isinstance(given, bool)


def _tensor(given: Any) -> Any:
    return given if isinstance(given, ir.Value) else op.Constant(value=ir.tensor(given))  # type: ignore[arg-type]


_aten = torch.ops.aten
TABLE: dict[Callable[..., Any], Callable[..., Any]] = {
    _aten.add.Tensor: add,
    _aten.add.Scalar: add,
    _aten.any.default: any_of,
    _aten.any.dim: any_of,
    _aten.any.dims: any_of,
    _aten.all.default: all_of,
    _aten.all.dim: all_of,
    _aten.all.dims: all_of,
    _aten.where.self: where,
    _aten.where.Scalar: where,
    _aten.where.ScalarSelf: where,
    _aten.where.ScalarOther: where,
    _aten.masked_fill.Scalar: masked_fill,
    _aten.masked_fill.Tensor: masked_fill,
}
