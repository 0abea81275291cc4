"""Means over all of space as GlobalAveragePool, which has an int8 kernel; ReduceMean has none."""

from __future__ import annotations

import onnx_ir as ir

from optc import match
from optc.analysis.shapes import constant_ints

from .graph import Graph


def pool(model: ir.Model) -> int:
    """Rewrites ``ReduceMean`` over axes 2 and up of a float value; exact. Returns how many there were."""
    graph, count = Graph(model), 0
    for node in list(model.graph):
        if may_pool(node):
            _rewrite(node, graph)
            count += 1
    return count


def may_pool(node: ir.Node) -> bool:
    """Whether this is such a mean."""
    if not match.is_op(node, "ReduceMean"):
        return False
    source = node.inputs[0]
    rank = match.rank(source)
    if rank is None or rank < 3 or source is None or source.dtype != ir.DataType.FLOAT:
        return False
    axes = match.attr_ints(node, "axes") if len(node.inputs) < 2 else constant_ints(node.inputs[1])
    return axes is not None and sorted(int(a) % rank for a in axes) == list(range(2, rank))


def _rewrite(node: ir.Node, graph: Graph) -> None:
    source, old = node.inputs[0], node.outputs[0]
    assert source is not None and source.shape is not None
    hint, shape = f"{old.name}_pooled", ir.Shape([*source.shape[:2], *([1] * (source.shape.rank() - 2))])
    made = [graph.make("GlobalAveragePool", [source], hint, ir.DataType.FLOAT, shape)]
    if match.attr_int(node, "keepdims", 1) == 0:
        made.append(graph.make("Flatten", [made[0]], f"{hint}_flat", ir.DataType.FLOAT, old.shape, axis=1))
    graph.place_before(node, *made)
    graph.replace(old, made[-1])
    graph.remove(node)
