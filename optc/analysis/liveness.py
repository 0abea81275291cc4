"""How much memory the activations need when the nodes run in graph order."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import accumulate

import onnx_ir as ir

from optc.analysis.flops import Amount, product, shape_of
from optc.analysis.graph import captures, operands
from optc.analysis.optypes import VIEWS
from optc.subgraphs import subgraphs


@dataclass(frozen=True)
class Liveness:
    """Peak of the live activations; weights are not counted, inputs and outputs are.

    Attributes:
        peak_bytes: at the worst node, with its inputs, outputs and whatever is needed later.
        node: the (first) worst node, None for a graph without nodes.
        live: the values alive there, in order of definition.
        after: bytes alive while each node runs, in graph order.
        unknown: values left out because a size is not known.
    """

    peak_bytes: int
    node: ir.Node | None
    live: tuple[ir.Value, ...]
    after: tuple[int, ...]
    unknown: tuple[ir.Value, ...]


def liveness(graph: ir.Graph, bind: Mapping[str, int] | None = None) -> Liveness:
    """Follows the values of ``graph`` from their definition to their last use; linear.

    A view (Reshape ...) shares the buffer of its input. Nothing else is computed in place. Inputs of the
    graph live throughout (they belong to the caller), outputs to the end. A body of If, Loop or Scan adds its
    own peak while it runs. A call of a function is one node, and what is inside it is not counted.

    Args:
        bind: sizes of named dims.
    """
    return _trace(graph, dict(bind or {}), {})


def _trace(graph: ir.Graph, bind: dict[str, int], dims: dict[str, Amount]) -> Liveness:
    nodes = list(graph)
    spans = _spans(graph, nodes)
    sizes = {value: _bytes(value, bind, dims) for value in spans}
    change = [0] * (len(nodes) + 2)
    for value, (born, dead) in spans.items():
        change[born] += sizes[value] or 0
        change[dead + 1] -= sizes[value] or 0
    live = list(accumulate(change))
    after = tuple(
        live[index] + max((_trace(body, bind, dims).peak_bytes for _, body in subgraphs(node)), default=0)
        for index, node in enumerate(nodes)
    )
    worst = max(range(len(nodes)), key=after.__getitem__, default=0)
    return Liveness(
        peak_bytes=after[worst] if nodes else live[0],
        node=nodes[worst] if nodes else None,
        live=tuple(value for value, (born, dead) in spans.items() if born <= worst <= dead),
        after=after,
        unknown=tuple(value for value, size in sizes.items() if size is None),
    )


def _spans(graph: ir.Graph, nodes: list[ir.Node]) -> dict[ir.Value, tuple[int, int]]:
    """Buffer -> positions of its first and last node, in order of definition."""
    captured = captures(graph)
    root = _roots(nodes)
    end = len(nodes)
    spans = dict.fromkeys(graph.inputs, (0, end))
    for index, node in enumerate(nodes):
        for value in operands(node, captured):
            buffer = root.get(value, value)
            if buffer in spans:
                spans[buffer] = (spans[buffer][0], max(index, spans[buffer][1]))
        for value in node.outputs:
            if value.name and value not in root:
                spans[value] = (index, index)
    for value in graph.outputs:
        buffer = root.get(value, value)
        if buffer in spans:
            spans[buffer] = (spans[buffer][0], end)
    return spans


def _roots(nodes: list[ir.Node]) -> dict[ir.Value, ir.Value]:
    """View -> the value whose buffer it shares."""
    root: dict[ir.Value, ir.Value] = {}
    for node in nodes:
        views = node.domain == "" and node.op_type in VIEWS and node.op_type not in ("Shape", "Size")
        if views and node.inputs and node.inputs[0] is not None and not _is_weight(node.inputs[0]):
            root[node.outputs[0]] = root.get(node.inputs[0], node.inputs[0])
    return root


def _is_weight(value: ir.Value) -> bool:
    return value.is_initializer() and not value.is_graph_input()


def _bytes(value: ir.Value, bind: dict[str, int], dims: dict[str, Amount]) -> int | None:
    shape = shape_of(value, dims, bind)
    if shape is None or value.dtype in (None, ir.DataType.STRING, ir.DataType.UNDEFINED):
        return None
    count = product(shape)
    return (count * value.dtype.bitwidth + 7) // 8 if isinstance(count, int) else None
