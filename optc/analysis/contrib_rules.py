"""Shape rules for operators of ONNX Runtime that the library does not know; optimized models have them."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import onnx_ir as ir
from onnx_shape_inference import ShapeInferenceContext, registry

Rule = Callable[[ShapeInferenceContext, ir.Node], None]

CONTRIB = "com.microsoft"
_NEWEST = 21  # of the standard operators that contrib ones are like


def install() -> None:
    """Registers what the library lacks; what it has stays."""
    like = {"FusedConv": "Conv", "FusedGemm": "Gemm", "QuantizeLinear": "QuantizeLinear"}
    like |= {"DequantizeLinear": "DequantizeLinear"}
    rules: Mapping[str, Rule] = {
        **{name: rule for name, other in like.items() if (rule := registry.get("", other, _NEWEST))},
        "DynamicQuantizeLSTM": _lstm,
        "DynamicQuantizeMatMul": _product,
        "GatherBlockQuantized": _gather,
        "MatMulIntegerToFloat": _product,
    }
    for op_type, rule in rules.items():
        if registry.get(CONTRIB, op_type, 1) is None:
            registry.register(CONTRIB, op_type, since_version=1)(rule)


def _product(ctx: ShapeInferenceContext, node: ir.Node) -> None:
    """Float32 [..., N] of [..., K] and a matrix [K, N]."""
    ctx.set_dtype(node.outputs[0], ir.DataType.FLOAT)
    data, matrix = _shape(node.inputs[0]), _shape(node.inputs[1])
    if data is None or matrix is None or data.rank() < 2 or matrix.rank() != 2:
        return
    ctx.set_shape(node.outputs[0], ir.Shape([*data.dims[:-1], matrix[1]]))


def _lstm(ctx: ShapeInferenceContext, node: ir.Node) -> None:
    """Y [seq, directions, batch, hidden], and the last states [directions, batch, hidden]."""
    for output in node.outputs:
        ctx.set_dtype(output, ir.DataType.FLOAT)
    data, weight = _shape(node.inputs[0]), _shape(node.inputs[1])
    hidden = node.attributes.get_int("hidden_size", 0)
    if data is None or weight is None or not hidden or data.rank() != 3 or weight.rank() != 3:
        return
    last = [weight[0], data[1], hidden]
    for output, dims in zip(node.outputs, ([data[0], *last], last, last), strict=False):
        ctx.set_shape(output, ir.Shape(dims))


def _gather(ctx: ShapeInferenceContext, node: ir.Node) -> None:
    """As Gather, in the type of the scales; a byte may hold several elements, so no extent is taken over."""
    scales = node.inputs[2]
    if scales is None or scales.dtype is None:
        return
    ctx.set_dtype(node.outputs[0], scales.dtype)
    data, indices = _shape(node.inputs[0]), _shape(node.inputs[1])
    if data is None or indices is None:
        return
    rank = data.rank() - 1 + indices.rank()
    ctx.set_shape(node.outputs[0], ir.Shape([ctx.new_symbolic_dim() for _ in range(rank)]))


def _shape(value: ir.Value | None) -> ir.Shape | None:
    return None if value is None else value.shape
