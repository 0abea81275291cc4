"""Corrections to the library's rules for ONNX Runtime's int8 operators, as in `shape_rules`.

The library gives pooling the shape of their input, and the product QGemm the type of a scale.
"""

from __future__ import annotations

from collections.abc import Callable

import onnx_ir as ir
from onnx_shape_inference import ShapeInferenceContext

Rule = Callable[[ShapeInferenceContext, ir.Node], None]

CONTRIB = "com.microsoft"


def _q_gemm(library: Rule) -> Rule:
    """Without a grid for the result it is float32."""

    def rule(ctx: ShapeInferenceContext, node: ir.Node) -> None:
        library(ctx, node)
        zero = node.inputs[8] if len(node.inputs) > 8 else None
        if zero is None:
            node.outputs[0].dtype = ir.DataType.FLOAT
        elif zero.dtype is not None:
            node.outputs[0].dtype = zero.dtype

    return rule


def _average_pool(_: Rule) -> Rule:
    """Windows, strides and pads decide the extents: they are left open."""

    def shape(ctx: ShapeInferenceContext, node: ir.Node, data: ir.Shape) -> ir.Shape:
        return _over_space(node, data, [ctx.new_symbolic_dim() for _ in range(data.rank() - 2)])

    return _with_shape(shape)


def _global_average_pool(_: Rule) -> Rule:
    def shape(ctx: ShapeInferenceContext, node: ir.Node, data: ir.Shape) -> ir.Shape:
        return _over_space(node, data, [1] * (data.rank() - 2))

    return _with_shape(shape)


def _with_shape(shape: Callable[[ShapeInferenceContext, ir.Node, ir.Shape], ir.Shape]) -> Rule:
    """The rule of an operator whose result has the type of its input; a declared shape stays."""

    def rule(ctx: ShapeInferenceContext, node: ir.Node) -> None:
        data, output = node.inputs[0], node.outputs[0]
        if data is None:
            return
        if data.dtype is not None:
            ctx.set_dtype(output, data.dtype)
        if data.shape is not None and data.shape.rank() >= 2:
            ctx.set_shape(output, shape(ctx, node, data.shape))

    return rule


def _over_space(node: ir.Node, data: ir.Shape, space: list[int | ir.SymbolicDim]) -> ir.Shape:
    last = "channels_last" in node.attributes and node.attributes["channels_last"].as_int() != 0
    channels = data[-1] if last else data[1]
    return ir.Shape([data[0], *space, channels] if last else [data[0], channels, *space])


WRAPPERS = {
    "QGemm": _q_gemm,
    "QLinearAveragePool": _average_pool,
    "QLinearGlobalAveragePool": _global_average_pool,
}
