"""What is scattered, and its reductions where several go to one place."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from onnxscript import opset18 as op
from onnxscript.function_libs.torch_lib.ops import core as _core

from .literals import ints, number

_WORST = {"amax": float("-inf"), "amin": float("inf")}


def scatter(self: Any, dim: int, index: Any, src: Any) -> Any:
    """As many elements of ``src`` as there are in ``index``; ONNX wants just these."""
    return _core.aten_scatter_src(self, dim, index, _as_many(src, index))


def scatter_add(self: Any, dim: int, index: Any, src: Any) -> Any:
    """The same, added up."""
    return _core.aten_scatter_add(self, dim, index, _as_many(src, index))


def scatter_reduce(self: Any, dim: int, index: Any, src: Any, reduce: str, include_self: bool = True) -> Any:
    """What ``src`` has for each place, with what was there if ``include_self``.

    The stock translation takes the last element for the mean, and the lowest finite number for -inf.
    """
    src, floats = _as_many(src, index), self.dtype.is_floating_point()
    if self.shape and floats and reduce == "mean":
        return _mean(self, dim, index, src, include_self)
    if self.shape and floats and reduce in _WORST and not include_self:
        emptied = _put(self, dim, index, _filled(_WORST[reduce], src), "none")
        return _put(emptied, dim, index, src, reduce[1:])
    if reduce == "mean":
        raise NotImplementedError("scattered means of whole numbers")
    return _core.aten_scatter_reduce(self, dim, index, src, reduce, include_self)


def _mean(self: Any, dim: int, index: Any, src: Any, include_self: bool) -> Any:
    count = _filled(1.0, self)
    if not include_self:
        nothing = _filled(0.0, src)
        self, count = (_put(each, dim, index, nothing, "none") for each in (self, count))
    total = _put(self, dim, index, src, "add")
    count = _put(count, dim, index, _filled(1.0, src), "add")  # 1 where nothing came
    return op.Div(total, count)


def _as_many(src: Any, index: Any) -> Any:
    """The leading part of ``src`` along each axis that has the shape of ``index``."""
    if not src.shape or list(src.shape) == list(index.shape):
        return src
    part: Any = op.Slice(src, ints(*(0 for _ in src.shape)), op.Shape(index))
    part.dtype, part.shape = src.dtype, index.shape
    return part


def _put(onto: Any, dim: int, index: Any, values: Any, reduction: str) -> Any:
    return op.ScatterElements(onto, index, values, axis=dim, reduction=reduction)


def _filled(value: float, like: Any) -> Any:
    return op.Expand(number(value, like), op.Shape(like))


_aten = torch.ops.aten
TABLE: dict[Callable[..., Any], Callable[..., Any]] = {
    _aten.scatter.src: scatter,
    _aten.scatter_add.default: scatter_add,
    _aten.scatter_reduce.two: scatter_reduce,
}
