"""Rules for matrix products and attention."""

from __future__ import annotations

import onnx_ir as ir

from optc import match
from optc.analysis.axes_layout import Group, Layout, Mixes, Step
from optc.analysis.axes_operands import Layouts, aligned, only_first, operand, sized, sizes_of


def product(node: ir.Node, layouts: Layouts) -> Step:
    """A product of the last two axes, with tokens on one side."""
    a, b = operand(node, 0), operand(node, 1)
    if a in layouts and b in layouts:
        raise Mixes(f"{node.op_type} multiplies tokens with tokens, not as an attention that is understood")
    if any(value in layouts for value in node.inputs[2:] if value is not None):
        raise Mixes(f"{node.op_type} takes tokens as a zero point")
    rank, groups = len(sizes_of(node.outputs[0])), list[Group]()
    labelled, other, summed = (layouts[a], b, -1) if a in layouts else (layouts[b], a, -2)
    own = list(labelled.groups)
    if len(own) < 2 or len(sizes_of(other)) < 2:
        raise Mixes(f"{node.op_type} with a vector has no rule for the axis of tokens")
    if labelled.has_role(len(own) + summed):
        raise Mixes(f"{node.op_type} sums over the tokens")
    groups = [*[()] * (rank - len(own)), *own]
    groups[summed] = ()
    groups = [group if any(f.role for f in group) else () for group in groups]
    layout = sized(groups, node.outputs[0])
    return Step((layout,), aligned(node, layouts, layout, [1 if a in layouts else 0], kept=2))


def gemm(node: ir.Node, layouts: Layouts) -> Step:
    """A product of matrices whose rows may be tokens."""
    layout = only_first(node, layouts)
    if match.attr_int(node, "transA", 0) or layout.has_role(1):
        raise Mixes("Gemm sums over the tokens")
    addend = node.inputs[2] if len(node.inputs) > 2 else None
    if addend is not None and match.rank(addend) == 2 and match.dim(addend, 0) != 1:
        raise Mixes("Gemm adds a number for every token")
    return Step((sized([layout.groups[0], ()], node.outputs[0]),))


def packed_product(node: ir.Node, layouts: Layouts) -> Step:
    """A product with a packed or quantized matrix, which takes the last axis of its first input."""
    layout = only_first(node, layouts)
    if layout.has_role(len(layout.groups) - 1):
        raise Mixes(f"{node.op_type} sums over the tokens")
    return Step((sized([*layout.groups[:-1], ()], node.outputs[0]),))


def attention(node: ir.Node, layouts: Layouts) -> Step:
    """Queries, keys and values [batch, heads, tokens, size]; which of them are tokens is up to the caller."""
    q, k, v = (operand(node, index) for index in range(3))
    if len(node.inputs) > 3 and node.inputs[3] in layouts:
        raise Mixes("the mask of an attention is computed from tokens")
    if (k in layouts) != (v in layouts):
        raise Mixes("keys and values of an attention do not both follow the tokens")
    for value in (q, k, v):
        if value in layouts and layouts[value].skip:
            raise Mixes("an attention runs over some of the tokens")
        if value in layouts and not is_by_head(layouts[value]):
            raise Mixes("the axis that an attention runs over is not that of the tokens (windows, channels)")
    if node.attributes["causal"].as_int() and k in layouts:
        raise Mixes("the attention is causal")
    if q not in layouts:
        return Step((None,))
    if match.dim(q, 0) != match.dim(node.outputs[0], 0):
        raise Mixes("the queries of an attention are the same for all of the batch")
    return Step((sized([*layouts[q].groups[:-1], ()], node.outputs[0]),))


def is_by_head(layout: Layout) -> bool:
    """Whether a 4-D value is [batch, heads, tokens, size]."""
    groups = layout.groups
    if len(groups) != 4 or layout.tokens != 2 or not layout.is_whole(2):
        return False
    return layout.axis("batch") in (0, None) and not layout.has_role(1) and len(groups[0]) <= 1
