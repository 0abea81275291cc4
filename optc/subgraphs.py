"""The graphs inside a node: the branches of an If, the body of a Loop or a Scan."""

from __future__ import annotations

from collections.abc import Iterator

import onnx_ir as ir


def subgraphs(node: ir.Node) -> Iterator[tuple[str, ir.Graph]]:
    """Yields the graphs that the attributes of ``node`` hold, by attribute name."""
    for name, attr in sorted(node.attributes.items()):
        if attr.is_ref():
            continue
        if attr.type == ir.AttributeType.GRAPH:
            yield name, attr.as_graph()
        elif attr.type == ir.AttributeType.GRAPHS:
            for index, graph in enumerate(attr.as_graphs()):
                yield f"{name}[{index}]", graph
