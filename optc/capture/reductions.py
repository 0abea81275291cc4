"""Means, where the stock translation is wrong."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import onnx_ir as ir
import torch
from onnxscript import opset18 as op
from onnxscript.function_libs.torch_lib.ops import core as _core


def mean(self: Any, dim: Any, keepdim: bool = False, dtype: int | None = None) -> Any:
    """The mean over some axes, taken in ``dtype``, into which the stock translation casts only the result."""
    if dtype not in (None, -1, self.dtype):
        shape = self.shape
        self = op.Cast(self, to=ir.DataType(dtype))
        self.dtype, self.shape = ir.DataType(dtype), shape
    return _core.aten_mean_dim(self, dim, keepdim)


TABLE: dict[Callable[..., Any], Callable[..., Any]] = {torch.ops.aten.mean.dim: mean}
