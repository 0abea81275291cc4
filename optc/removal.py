"""Taking nodes out of a graph, with all they hold: what is inside an If or a Loop reads values outside."""

from __future__ import annotations

import onnx_ir as ir
from onnx_ir.passes.common import RemoveUnusedNodesPass

from optc.subgraphs import subgraphs


def detach(node: ir.Node) -> list[ir.Value]:
    """Unhooks a node, and what is in its subgraphs, from the values they read; returns those values."""
    read = [value for value in node.inputs if value is not None]
    for index in range(len(node.inputs)):
        node.replace_input_with(index, None)
    for _, body in subgraphs(node):
        inside = list(body)
        for inner in inside:
            read.extend(detach(inner))
        body.remove(inside)
    return read


def remove_unused(model: ir.Model) -> None:
    """Removes nodes, initializers and optional outputs that nothing reads, in linear time."""
    for node in reversed(list(model.graph.all_nodes())):
        unread = not any(output.uses() or output.is_graph_output() for output in node.outputs)
        if unread and node.graph is not None:
            detach(node)
            node.graph.remove(node)
    RemoveUnusedNodesPass()(model)
