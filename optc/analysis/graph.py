"""The dataflow of a graph as networkx sees it, subgraph captures included."""

from __future__ import annotations

import networkx as nx
import onnx_ir as ir

from optc.subgraphs import subgraphs

Captures = dict[ir.Node, tuple[ir.Value, ...]]


def captures(graph: ir.Graph) -> Captures:
    """For every node of ``graph`` that holds subgraphs, the outer values that these read, in order."""
    found: Captures = {}
    for node in graph:
        if read := captured_by(node):
            found[node] = read
    return found


def captured_by(node: ir.Node) -> tuple[ir.Value, ...]:
    """The outer values that the subgraphs of ``node`` read, in order."""
    return tuple(dict.fromkeys(value for _, body in subgraphs(node) for value in _free(body)))


def _free(body: ir.Graph) -> list[ir.Value]:
    """Values that ``body`` and the graphs inside it read and do not define; a body may just return one."""
    graphs = [body, *body.subgraphs()]
    nodes = list(body.all_nodes())
    read = dict.fromkeys(value for node in nodes for value in node.inputs if value is not None)
    read.update(dict.fromkeys(value for graph in graphs for value in graph.outputs))
    defined = {value for node in nodes for value in node.outputs}
    for graph in graphs:
        defined.update(graph.inputs, graph.initializers.values())
    return [value for value in read if value not in defined]


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
