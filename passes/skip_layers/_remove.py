"""Takes pieces out of a graph."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import onnx_ir as ir
from onnx_ir.passes.common import RemoveUnusedNodesPass

from ._sites import Site

# Makes the value that takes the place of a removed stretch, from the value before it; by the exit's name.
Bridges = dict[str, Callable[[ir.Value], ir.Value]]


def without(model: ir.Model, sites: Iterable[Site], bridges: Bridges | None = None) -> ir.Model:
    """A copy of the model, sharing its weights, without these pieces."""
    copy = model.clone()
    remove(copy, sites, bridges)
    return copy


def remove(model: ir.Model, sites: Iterable[Site], bridges: Bridges | None = None) -> None:
    """Removes pieces in place, with everything that only they need.

    Args:
        sites: in graph order.
        bridges: what to put in the place of a piece instead of nothing, by the name of its exit.
    """
    values = {str(value.name): value for node in model.graph for value in node.outputs}
    values |= {str(value.name): value for value in model.graph.inputs}
    for site in sites:
        exit, entry = values[site.exit], values[site.entry]
        if site.term:
            use = next(iter(exit.uses()))
            new, exit = use.node.inputs[1 - use.idx], use.node.outputs[0]
            assert new is not None
        else:
            bridge = (bridges or {}).get(site.exit)
            new = entry if bridge is None else bridge(entry)
        _take_place(exit, new)
        if site.term:  # what is left of it would count as a reader of the other term
            _graph_of(use.node).remove(use.node, safe=True)
        values = {name: new if value is exit else value for name, value in values.items()}
    RemoveUnusedNodesPass()(model)


def _take_place(old: ir.Value, new: ir.Value) -> None:
    """Readers of ``old`` read ``new``; as a graph output ``old`` keeps its name."""
    node = old.producer()
    assert node is not None
    for use in tuple(old.uses()):
        use.node.replace_input_with(use.idx, new)
    if not old.is_graph_output():
        return
    identity = ir.node("Identity", [new])
    output = identity.outputs[0]
    output.type, output.shape = old.type, old.shape
    graph = _graph_of(node)
    graph.insert_after(node, identity)
    name, old.name = old.name, None
    output.name = name
    identity.name = f"skip_{name}"
    for index, value in enumerate(graph.outputs):
        if value is old:
            graph.outputs[index] = output


def _graph_of(node: ir.Node) -> ir.Graph:
    assert isinstance(node.graph, ir.Graph), "pieces lie in the main graph"
    return node.graph
