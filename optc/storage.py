"""Weights that are written in a narrower type than the one that they are computed with."""

from __future__ import annotations

import onnx_ir as ir

# Metadata of a model: the narrower float type that its weights may be stored in where that loses nothing.
STORAGE = "optc.storage"

_SMALLEST = 1024  # bytes; less is not worth a node
_GRIDS = frozenset({"QuantizeLinear", "DequantizeLinear"})  # kernels are chosen by constant scales


def storable(value: ir.Value) -> bool:
    """Whether a value is a float32 weight, of two dimensions or more, that a narrower type might hold."""
    tensor = value.const_value
    if tensor is None or tensor.dtype != ir.DataType.FLOAT:
        return False
    if value.is_graph_input() or value.is_graph_output():
        return False
    if tensor.nbytes < _SMALLEST or len(tensor.shape) < 2:
        return False
    return not any(node.op_type in _GRIDS for node, _ in value.uses())
