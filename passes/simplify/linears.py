"""Two linear maps in a row, without a nonlinearity between them, as one, where that is cheaper.

``(x @ w1 + b1) @ w2 + b2 = x @ (w1 @ w2) + (b1 @ w2 + b2)``: equal up to rounding, and less work when
d_in * d_out < d_in * h + h * d_out.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from .affine import Linear, linear, weight_shape
from .editor import Editor, Rule, producer


def _merge(node: ir.Node, editor: Editor) -> bool:
    outer_shape, inner_shape = weight_shape(node.outputs[0], editor), weight_shape(node.inputs[0], editor)
    if outer_shape is None or inner_shape is None or inner_shape[1] != outer_shape[0]:
        return False
    (d_in, hidden), d_out = inner_shape, outer_shape[1]
    if d_in * d_out >= d_in * hidden + hidden * d_out:
        return editor.skip(node, "two linear maps kept: as one they would be more work")
    end = with_bias(node, editor)
    outer, inner = linear(end, editor), linear(node.inputs[0], editor)
    if outer is None or inner is None or node.inputs[0] is None:
        return False
    if inner.other_reader(editor) or not editor.only_reader(node.inputs[0], node):
        return editor.skip(node, "two linear maps kept: what is between them has another reader")
    weight, bias = _product(inner, outer, np.dtype(end.dtype.numpy()))  # type: ignore[union-attr]
    if not np.isfinite(weight).all() or (bias is not None and not np.isfinite(bias).all()):
        return editor.skip(node, "two linear maps kept: as one they would have infinite weights")
    end_node = end.producer()
    assert end_node is not None
    return editor.replace(end, _emit(end_node, inner.source, weight, bias, editor))


def with_bias(node: ir.Node, editor: Editor) -> ir.Value:
    """The output of the Add of a constant that is the only reader of the product, or that of the product."""
    output = node.outputs[0]
    readers = [use.node for use in output.uses()]
    if node.op_type != "MatMul" or len(readers) != 1 or output.is_graph_output():
        return output
    added = readers[0].outputs[0]
    is_bias = producer(added, "Add") is readers[0] and linear(added, editor) is not None
    return added if is_bias and readers[0].graph is node.graph else output


def _product(inner: Linear, outer: Linear, dtype: np.dtype) -> tuple[np.ndarray, np.ndarray | None]:
    """Weight and bias of both as one."""
    second = outer.weight.astype(np.float64)
    with np.errstate(all="ignore"):
        weight = (inner.weight.astype(np.float64) @ second).astype(dtype)
        if inner.bias is None:
            return weight, None if outer.bias is None else outer.bias.astype(dtype)
        bias = inner.bias.astype(np.float64) @ second + (0 if outer.bias is None else outer.bias)
        return weight, bias.astype(dtype)


def _emit(
    end: ir.Node, source: ir.Value, weight: np.ndarray, bias: np.ndarray | None, editor: Editor
) -> ir.Value:
    weight_value = editor.constant(weight, _name(end, "weight"))
    added = None if bias is None else editor.constant(bias, _name(end, "bias"))
    if end.op_type == "Gemm":
        return editor.add(end, "Gemm", [source, weight_value, *([] if added is None else [added])])
    result = editor.add(end, "MatMul", [source, weight_value])
    return result if added is None else editor.add(end, "Add", [result, added])


def _name(node: ir.Node, part: str) -> str:
    return f"{node.outputs[0].name}_{part}"


RULES = (Rule("two linear maps merged", ("MatMul", "Gemm"), _merge),)
