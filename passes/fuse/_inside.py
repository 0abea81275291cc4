"""Which nodes of a match compute nothing that the rest of the graph needs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import onnx_ir as ir

_DEPTH = 6  # nodes from the shape of an intermediate to its use inside the match


def inside(core: Iterable[ir.Node], around: Iterable[ir.Node]) -> tuple[ir.Node, ...]:
    """``core``, those of ``around`` that only serve it, and what takes shapes of its values for itself."""
    nodes = list(core)
    known = set(nodes)
    for node in around:
        if node not in known and _serves(node, known):
            nodes.append(node)
            known.add(node)
    for node in list(nodes):
        for output in node.outputs:
            nodes += _shape_readers(output, known)
    return tuple(nodes)


def _serves(node: ir.Node, known: set[ir.Node]) -> bool:
    """Whether only known nodes read what ``node`` computes."""
    return all(
        not output.is_graph_output() and all(use.node in known for use in output.uses())
        for output in node.outputs
    )


def _shape_readers(value: ir.Value, known: set[ir.Node]) -> list[ir.Node]:
    """Nodes that take the shape of ``value`` only to compute something for known nodes."""
    added: list[ir.Node] = []
    for use in value.uses():
        if use.node.op_type == "Shape" and use.node not in known:
            reach = _reach(use.node, known, _DEPTH)
            if reach is not None:
                fresh = [node for node in reach if node not in known]
                added += fresh
                known.update(fresh)
    return added


def _reach(node: ir.Node, known: set[ir.Node], depth: int) -> Sequence[ir.Node] | None:
    """``node`` and all that depends on it, when that ends in known nodes within ``depth`` steps."""
    if depth == 0 or any(output.is_graph_output() for output in node.outputs):
        return None
    found = [node]
    for output in node.outputs:
        for use in output.uses():
            if use.node in known:
                continue
            further = _reach(use.node, known, depth - 1)
            if further is None:
                return None
            found += further
    return found
