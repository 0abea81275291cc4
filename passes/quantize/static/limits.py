"""Relu and Clip, which rounding to a grid with the right ends does already."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx_ir as ir

from optc import match

from .graph import Graph
from .grid import Grid
from .region import LIMITING, Region


def drop(model: ir.Model, region: Region, grids: Mapping[ir.Value, Grid]) -> int:
    """Takes out the limits of the region that their grids imply; returns how many.

    The pairs behind them are in the graph already. A value below the grid becomes its first code, which is
    what limiting it first would have given, so the product before the limit is rounded straight away and the
    runtime sees one int8 operator.
    """
    graph, count = Graph(model), 0
    for node in [n for n in model.graph if n in region.carriers and n.op_type in LIMITING]:
        output, source = node.outputs[0], node.inputs[0]
        readers = list(output.uses())
        if output.is_graph_output() or len(readers) != 1 or source is None:
            continue
        if readers[0].node.op_type != "QuantizeLinear" or not implied(node, grids[output]):
            continue
        readers[0].node.replace_input_with(0, source)
        graph.remove(node)
        count += 1
    return count


def implied(node: ir.Node, grid: Grid) -> bool:
    """Whether nothing on the grid is out of the bounds of a Relu or Clip, by more than half a step."""
    low, high = bounds(node)
    half = 0.501 * float(grid.scale)  # the zero point is rounded: an end may be off by just half a step
    return grid.low >= low - half and grid.high <= high + half


def bounds(node: ir.Node) -> tuple[float, float]:
    """The bounds of a Relu or of a Clip whose bounds are constants, infinite where it has none."""
    if node.op_type == "Relu":
        return 0.0, np.inf
    given = [*node.inputs[1:3], None, None][:2]
    low, high = (None if value is None else match.scalar(value) for value in given)
    return -np.inf if low is None else low, np.inf if high is None else high
