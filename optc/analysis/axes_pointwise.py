"""Rules for operators that keep the axes where they are: pointwise ones, norms and reductions."""

from __future__ import annotations

import onnx_ir as ir

from optc import match
from optc.analysis import shapes
from optc.analysis.axes_layout import Group, Mixes, Step
from optc.analysis.axes_operands import Layouts, aligned, axes_of, only_first, operand, sized, sizes_of


def elementwise(node: ir.Node, layouts: Layouts) -> Step:
    """Operands broadcast against each other."""
    output = node.outputs[0]
    rank = len(sizes_of(output))
    groups: list[Group] = [()] * rank
    for value in node.inputs:
        if value is None or value not in layouts:
            continue
        own = layouts[value].groups
        for axis, group in enumerate(own, rank - len(own)):
            if not any(f.role for f in group):
                continue
            if groups[axis] and groups[axis] != group:
                raise Mixes(f"{node.op_type} joins tokens with another axis")
            groups[axis] = group
    layout = sized(groups, output)
    return Step((layout,), aligned(node, layouts, layout, range(len(node.inputs))))


def unary(node: ir.Node, layouts: Layouts) -> Step:
    """One operand, and at most numbers that are the same for all tokens."""
    layout = only_first(node, layouts)
    for value in node.inputs[1:]:
        if value is None or match.rank(value) == 0 or match.static_dim(value, 0) == 1:
            continue
        axis = match.attr_int(node, "axis", 1) % len(layout.groups)
        if match.rank(value) != 1 or layout.has_role(axis):
            raise Mixes(f"{node.op_type} has a number for every token")
    return Step((layout, *(None for _ in node.outputs[1:])))


def along_an_axis(node: ir.Node, layouts: Layouts) -> Step:
    """Computes along one axis, which may not be one of tokens."""
    layout = only_first(node, layouts)
    if node.op_type == "CumSum":
        given = shapes.constant_ints(operand(node, 1))
        if given is None or not isinstance(given[0], int):
            raise Mixes("CumSum goes along an axis that is not known")
        axis = given[0]
    else:
        axis = match.attr_int(node, "axis", -1)
    if layout.has_role(axis % len(layout.groups)):
        raise Mixes(f"{node.op_type} goes over the tokens")
    return Step((layout,))


def norm(node: ir.Node, layouts: Layouts) -> Step:
    """Normalizes the last axes."""
    layout = only_first(node, layouts)
    axis = match.attr_int(node, "axis", -1) % len(layout.groups)
    if any(layout.has_role(i) for i in range(axis, len(layout.groups))):
        raise Mixes(f"{node.op_type} goes over the tokens")
    return Step((layout, *(None for _ in node.outputs[1:])))


def reduction(node: ir.Node, layouts: Layouts) -> Step:
    """Reduces some axes."""
    layout = only_first(node, layouts)
    rank = len(layout.groups)
    axes = axes_of(node, 1)
    if not axes or any(layout.has_role(axis % rank) for axis in axes):
        raise Mixes(f"{node.op_type} goes over the tokens")
    gone = {axis % rank for axis in axes}
    kept = match.attr_int(node, "keepdims", 1)
    groups = [() if i in gone else group for i, group in enumerate(layout.groups) if kept or i not in gone]
    return Step((sized(groups, node.outputs[0]),))
