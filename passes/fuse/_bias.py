"""What counts as the bias of a projection."""

from __future__ import annotations

import onnx_ir as ir

from optc import match


def is_bias(bias: ir.Value, x: ir.Value) -> bool:
    """Whether ``bias`` is a constant vector with one number per channel of the last axis of ``x``."""
    size = match.static_dim(bias, 0)
    rank = match.rank(x)
    if match.rank(bias) != 1 or size is None or not rank or not match.is_constant(bias):
        return False
    return match.static_dim(x, rank - 1) == size


def bias_add(value: ir.Value) -> tuple[ir.Node, ir.Value] | None:
    """The Add that alone reads ``value`` and the bias that it adds, or None."""
    add = match.only_reader(value)
    if add is None or not match.is_op(add, "Add"):
        return None
    bias = add.inputs[1] if add.inputs[0] is value else add.inputs[0]
    return (add, bias) if bias is not None and bias is not value and is_bias(bias, value) else None


def biases(node: ir.Node) -> list[ir.Value]:
    """What a product or convolution adds to its result: an input of its own, or what the Add behind it adds.

    A name says nothing where an exporter folded the weight (transposed it, say), and the bias keeps its own.
    """
    own = node.inputs[2] if match.is_op(node, "Conv", "Gemm") and len(node.inputs) > 2 else None
    found = bias_add(node.outputs[0]) if match.is_op(node, "MatMul", "Gemm") else None
    return [value for value in (own, found and found[1]) if value is not None]
