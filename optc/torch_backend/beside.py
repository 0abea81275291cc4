"""The part of a graph that costs nothing: sizes, and views of what is there already."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import fx
from torch.utils import _pytree

from .analysis import Analysis, storage_of
from .because import Unsupported
from .graph import describe


def nodes_beside(analysis: Analysis, leaf: fx.Node, given: set[fx.Node]) -> dict[fx.Node, fx.Node]:
    """The nodes that eager mode must run for ``leaf``, each with the node that stands for its value.

    An operator that changed its input in place and returned it stands for that input, since by then the input
    has been changed.

    Args:
        given: nodes whose values are there.

    Raises:
        Unsupported: more than sizes and views is needed.
    """
    found: dict[fx.Node, fx.Node] = {}
    stack = [leaf]
    while stack:
        node = stack.pop()
        if node in found:
            continue
        if node in given or node.op in ("placeholder", "get_attr"):
            found[node] = node
            continue
        found[node] = parent = _stand_in(analysis, node)
        stack += node.all_input_nodes if parent is node else [parent]
    return found


def extract(
    module: fx.GraphModule, names: Sequence[str], stand_ins: Mapping[str, str], given: Sequence[str]
) -> fx.GraphModule:
    """A module from the placeholders of ``module``, followed by the ``given`` values, to the named nodes.

    Args:
        stand_ins: what `nodes_beside` found for all of them, by name.
    """
    graph = fx.Graph()
    made: dict[str, fx.Node] = {}
    for node in module.graph.nodes:
        if node.op == "placeholder":
            made[node.name] = graph.placeholder(node.name)
    for name in given:
        made[name] = graph.placeholder(f"given_{name}")

    def resolve(name: str) -> fx.Node:
        while name not in made:
            name = stand_ins[name]
        return made[name]

    for node in module.graph.nodes:
        if stand_ins.get(node.name) == node.name and node.name not in made:
            made[node.name] = graph.node_copy(node, lambda other: resolve(other.name))
    graph.output(tuple(resolve(name) for name in names))
    return fx.GraphModule(module, graph)


def _stand_in(analysis: Analysis, node: fx.Node) -> fx.Node:
    """The node itself if it is a view or a number; the input that it changed and returned."""
    storages = {
        storage: parent for parent in node.all_input_nodes for storage in _storages(analysis.values[parent])
    }
    needed = _storages(analysis.values[node])
    if not set(needed) <= set(storages):
        raise Unsupported(f"a result needs {describe(node)} outside of the graph")
    if node not in analysis.writers:
        _check_pure(node)
        return node
    parent = storages[needed[0]] if len(needed) == 1 else node
    same = analysis.geometries.get(parent) == analysis.geometries.get(node)
    if parent is node or node not in analysis.geometries or not same:
        raise Unsupported(f"a result needs {describe(node)}, which changes memory")
    return parent


def _check_pure(node: fx.Node) -> None:
    """Numbers that are read out of tensors are not sizes."""
    if node.target in ("item", "tolist", "__bool__", "__int__", "__float__"):
        raise Unsupported(f"a result needs {describe(node)}, which reads data")


def _storages(value: Any) -> list[int]:
    return [storage_of(leaf) for leaf in _pytree.tree_leaves(value) if isinstance(leaf, torch.Tensor)]
