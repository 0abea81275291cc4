"""Quantizing operators of ``com.microsoft`` as those of ONNX, which passes know and which mean the same.

Exporters wrote them before opset 21 had codes of 16 and 4 bits.
"""

from __future__ import annotations

import onnx_ir as ir

from optc import match

_AXES_SINCE, _TYPED_SINCE = 13, 21  # when ONNX's operators got an axis, and all types
_BYTES = (ir.DataType.INT8, ir.DataType.UINT8)


def as_standard(model: ir.Model) -> int:
    """Renames them in place where the model's operator set takes their types; how many."""
    version = model.opset_imports.get("", 0)
    found = [
        node
        for node in model.graph.all_nodes()
        if match.is_op(node, "QuantizeLinear", "DequantizeLinear", domain="com.microsoft")
        and (version >= _TYPED_SINCE or (version >= _AXES_SINCE and _is_early(node)))
    ]
    for node in found:
        node.domain = ""
    return len(found)


def _is_early(node: ir.Node) -> bool:
    """Whether floats become bytes, or bytes floats: what ONNX's operators had from the start."""
    given, made = node.inputs[0], node.outputs[0]
    codes, wide = (made, given) if node.op_type == "QuantizeLinear" else (given, made)
    return (
        codes is not None and codes.dtype in _BYTES and wide is not None and wide.dtype == ir.DataType.FLOAT
    )
