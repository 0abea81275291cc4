"""Which axis of every value runs over the tokens, followed from one value through every operator after it.

A rule per operator (``axes_rules``) says where the axis goes; what has no rule, or computes across tokens,
*mixes* them: behind it nothing follows the tokens any more. Sizes are those of the graph as it stands.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import onnx_ir as ir

from optc.analysis.axes_layout import Layout, Mixes, Side, Step
from optc.analysis.axes_rules import step
from optc.analysis.graph import captures


@dataclass
class Followed:
    """What became of the tokens: layouts by value, steps by node, and where and why they were mixed."""

    layouts: dict[ir.Value, Layout] = field(default_factory=dict)
    steps: dict[ir.Node, Step] = field(default_factory=dict)
    mixed: dict[ir.Node, str] = field(default_factory=dict)
    tainted: set[ir.Value] = field(default_factory=set)  # computed from mixed tokens


def follow(graph: ir.Graph, begin: ir.Value, layout: Layout) -> Followed:
    """Follows the tokens of ``begin`` through all nodes of the graph; linear in its size."""
    found = Followed(layouts={begin: layout})
    captured = captures(graph)
    for node in graph:
        reads = [value for value in node.inputs if value is not None]
        taint = any(value in found.tainted for value in reads)
        inside = [value for value in captured.get(node, ()) if value in found.layouts]
        if not inside and not any(value in found.layouts for value in reads):
            if taint:
                found.tainted.update(node.outputs)
            continue
        try:
            if inside:
                raise Mixes(f"{node.op_type} reads tokens inside its subgraphs")
            done = step(node, found.layouts)
            _check_sides(node, done.sides, found.tainted)
        except Mixes as mix:
            found.mixed[node] = str(mix)
            found.tainted.update(node.outputs)
            continue
        found.steps[node] = done
        for value, after in zip(node.outputs, done.outputs, strict=False):
            if after is not None:
                found.layouts[value] = after
            elif taint or done.first is None:
                found.tainted.add(value)
    return found


def _check_sides(node: ir.Node, sides: Iterable[Side], tainted: set[ir.Value]) -> None:
    if any(node.inputs[side.index] in tainted for side in sides):
        raise Mixes(f"{node.op_type} joins tokens with what was computed across tokens")
