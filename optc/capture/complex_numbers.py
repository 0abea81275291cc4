"""Moves of complex tensors that the stock exporter lacks; rotary embeddings are often written with them.

The exporter keeps a complex tensor as a real one with an axis of 2 behind the others.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from onnxscript import opset18 as op
from onnxscript.function_libs.torch_lib.ops.core import aten_view_complex as _reshape

from .literals import ints


def unsqueeze(self: Any, dim: int) -> Any:
    """A new axis of 1 in front of axis ``dim``."""
    return op.Unsqueeze(self, ints(dim if dim >= 0 else dim - 1))


TABLE: dict[Callable[..., Any], Callable[..., Any]] = {
    torch.ops.aten.reshape.default: _reshape,  # what optc makes of views
    torch.ops.aten.unsqueeze.default: unsqueeze,
}
