"""The dataflow of a graph as networkx sees it, subgraph captures included."""

from __future__ import annotations

import networkx as nx
import onnx_ir as ir
from onnx_ir.analysis import analyze_implicit_usage

from optc.listing import subgraphs

Captures = dict[ir.Node, tuple[ir.Value, ...]]


def captures(graph: ir.Graph) -> Captures:
    """Returns, for every node of ``graph`` that holds subgraphs, the outer values these read (by name)."""
    if not any(True for node in graph for _ in subgraphs(node)):
        return {}
    implicit = analyze_implicit_usage(graph)
    found: Captures = {}
    for node in graph:
        read = {value for _, body in subgraphs(node) for value in implicit[body]}
        if read:
            found[node] = tuple(sorted(read, key=lambda value: value.name or ""))
    return found


def operands(node: ir.Node, captured: Captures) -> list[ir.Value]:
    """Returns all values that executing ``node`` reads: its inputs, then what its subgraphs capture."""
    given = [value for value in node.inputs if value is not None]
    return given + list(captured.get(node, ()))


def dataflow(graph: ir.Graph) -> nx.DiGraph:
    """Returns the graph whose vertices are the nodes; an edge carries ``values``, those that flow along it.

    Vertices keep the order of ``graph``. Values of subgraphs are inside their vertex.
    """
    captured = captures(graph)
    flow = nx.DiGraph()
    flow.add_nodes_from(graph)
    for node in graph:
        for value in operands(node, captured):
            producer = value.producer()
            if producer is None or producer.graph is not graph:
                continue
            if flow.has_edge(producer, node):
                flow.edges[producer, node]["values"].append(value)
            else:
                flow.add_edge(producer, node, values=[value])
    return flow
