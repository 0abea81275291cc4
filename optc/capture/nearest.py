"""Images enlarged or reduced by taking the nearest pixel, which ONNX and torch round differently."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import onnx_ir as ir
import torch
from onnxscript import opset18 as op
from onnxscript.function_libs.torch_lib.ops import nn as _nn

from .literals import integer, ints


def nearest_of(self: Any, output_size: Any = None, scale_factors: Any = None) -> Any:
    """``upsample_nearest*.vec``: a size or a factor for each axis behind batch and channels."""
    rank = len(self.shape) - 2
    sizes = [None] * rank if output_size is None else _each(output_size, rank)
    factors = [None] * rank if scale_factors is None else list(scale_factors)
    if all(map(_is_exact, self.shape[2:], sizes, factors)):
        return _nn.aten_upsample_nearestnd_vec(self, output_size, scale_factors)
    for axis, (size, factor) in enumerate(zip(sizes, factors, strict=True), start=2):
        self = op.Gather(self, _places(_length(self, axis), size, factor), axis=axis)
    return self


def nearest(self: Any, output_size: Any, *scales: float | None, **named: float | None) -> Any:
    """The same with sizes, and perhaps the factors that they come from."""
    rank = len(self.shape) - 2
    factors = [*scales, *named.values()] or [None] * rank
    sizes = _each(output_size, rank)
    if any(factor is None for factor in factors):
        return nearest_of(self, output_size)
    if all(map(_is_exact, self.shape[2:], sizes, factors)):
        return nearest_of(self, None, factors)
    for axis, (size, factor) in enumerate(zip(sizes, factors, strict=True), start=2):
        self = op.Gather(self, _places(_length(self, axis), size, factor), axis=axis)
    return self


def _is_exact(length: Any, size: Any, factor: float | None) -> bool:
    """Whether the factor is a power of 2: then nothing is rounded."""
    if factor is None:
        if not isinstance(length, int) or not isinstance(size, int) or not length:
            return False
        factor = size / length
    return factor > 0 and math.frexp(factor)[0] == 0.5


def _each(output_size: Any, rank: int) -> list[Any]:
    if isinstance(output_size, Sequence):
        return list(output_size)
    return [op.Gather(output_size, integer(place), axis=0) for place in range(rank)]


def _length(self: Any, axis: int) -> Any:
    length = self.shape[axis] if self.shape is not None else None
    if isinstance(length, int):
        return integer(length)
    return op.Squeeze(op.Shape(self, start=axis, end=axis + 1), ints(0))


def _places(length: Any, size: Any, factor: float | None) -> Any:
    """Which elements of an axis are taken: as torch has it, in float32."""
    one = integer(1)
    if size is None:
        size = _as(op.Floor(op.Mul(_as(length, ir.DataType.DOUBLE), _double(factor))), ir.DataType.INT64)
    elif isinstance(size, int):
        size = integer(size)
    ratio: Any = op.Div(_as(length, ir.DataType.FLOAT), _as(size, ir.DataType.FLOAT))
    if factor is not None:
        same = op.Or(op.Equal(size, length), op.Equal(size, op.Mul(length, integer(2))))
        ratio = op.Where(same, ratio, _as(_double(1.0 / factor), ir.DataType.FLOAT))
    places = op.Mul(_as(op.Range(integer(0), size, one), ir.DataType.FLOAT), ratio)
    return op.Min(_as(op.Floor(places), ir.DataType.INT64), op.Sub(length, one))


def _as(value: Any, dtype: ir.DataType) -> Any:
    return op.Cast(value, to=dtype)


def _double(value: float | None) -> Any:
    return op.Constant(value=ir.tensor(value, dtype=ir.DataType.DOUBLE))  # type: ignore[arg-type]


_aten = torch.ops.aten
TABLE: dict[Callable[..., Any], Callable[..., Any]] = {
    _aten.upsample_nearest1d.vec: nearest_of,
    _aten.upsample_nearest2d.vec: nearest_of,
    _aten.upsample_nearest3d.vec: nearest_of,
    _aten.upsample_nearest1d.default: nearest,
    _aten.upsample_nearest2d.default: nearest,
    _aten.upsample_nearest3d.default: nearest,
}
