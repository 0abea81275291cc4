"""Nodes of a captured model that hold products, but not as plain operators: quantized before, or fused."""

from __future__ import annotations

import onnx_ir as ir

_CONTRIB = "com.microsoft"

_QUANTIZED = {
    "": frozenset({"MatMulInteger", "ConvInteger", "QLinearMatMul", "QLinearConv"}),
    _CONTRIB: frozenset(
        {"DynamicQuantizeLSTM", "DynamicQuantizeMatMul", "GatherBlockQuantized", "MatMulBnb4"}
        | {"MatMulIntegerToFloat", "MatMulNBits", "QAttention", "QEmbedLayerNormalization", "QGemm"}
        | {"QLinearConv", "QMoE"}
    ),
}
_FUSED = {
    _CONTRIB: frozenset({"Attention", "FusedConv", "FusedGemm", "FusedMatMul"}),
    "com.microsoft.nchwc": frozenset({"Conv"}),
}


def why_not(node: ir.Node) -> str | None:
    """Why such a node is left as it is; None for every other."""
    domain = "" if node.domain == "ai.onnx" else node.domain
    if node.op_type in _QUANTIZED.get(domain, ()):
        return "left as it is: it is quantized already"
    if node.op_type in _FUSED.get(domain, ()) and _has_weight(node):
        return (
            f"left in float: {domain}.{node.op_type} comes from a runtime's own optimizer; "
            "the model from before that can be quantized here"
        )
    return None


def _has_weight(node: ir.Node) -> bool:
    return any(value is not None and value.const_value is not None for value in node.inputs[1:2])
