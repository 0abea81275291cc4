"""What several layers were made of, such as one mask or one table, computed once."""

from __future__ import annotations

from collections.abc import Hashable

import onnx_ir as ir

from optc.passes.simplify.cse import key_of


def merge_equal_nodes(model: ir.Model) -> None:
    """Merges nodes with equal operator, inputs and attributes, graph by graph.

    Outputs of a graph stay as they are: of an equal node less may be known than they were declared to be.
    """
    for graph in list(model.graphs()):
        seen: dict[Hashable, ir.Node] = {}
        for node in list(graph):
            key = key_of(node)
            if key is None or any(output.is_graph_output() for output in node.outputs):
                continue
            first = seen.setdefault(key, node)
            if first is not node:
                ir.convenience.replace_all_uses_with(node.outputs, first.outputs)
                graph.remove(node, safe=True)
