"""Weights as they are shared in the source."""

from __future__ import annotations

from typing import Any

import onnx_ir as ir
import torch
from onnx_ir import convenience


def share_tied(model: ir.Model) -> None:
    """Makes tied parameters, which are one tensor under several names, one initializer under the first."""
    first: dict[Any, ir.Value] = {}
    for name, value in list(model.graph.initializers.items()):
        key = _memory(value)
        if key is None or first.setdefault(key, value) is value:
            continue
        convenience.replace_all_uses_with(value, first[key], replace_graph_outputs=True)
        del model.graph.initializers[name]


def _memory(value: ir.Value) -> Any:
    """What two tensors have in common exactly when they are the same; None when that cannot be known."""
    raw = getattr(value.const_value, "raw", None)
    if not isinstance(raw, torch.Tensor) or raw.numel() == 0:
        return None
    return raw.data_ptr(), raw.device, raw.dtype, raw.shape, raw.stride()
