"""Grids that values of a model have had before: what was quantized is not rounded to another grid."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from optc import match

from .graph import Graph
from .grid import Grid


def grid_of(node: ir.Node | None) -> Grid | None:
    """The grid of a QuantizeLinear or DequantizeLinear, where it is one that could have been chosen here."""
    if node is None or len(node.inputs) < 3 or node.inputs[2] is None:
        return None
    scale, zero = match.scalar(node.inputs[1]), match.scalar(node.inputs[2])
    if scale is None or zero is None or node.inputs[2].dtype != ir.DataType.UINT8:
        return None
    return Grid(np.float32(scale), int(zero))


def grid_behind(value: ir.Value) -> Grid | None:
    """The grid that a QuantizeLinear of the model rounds the value to."""
    found = (grid_of(node) for node in _rounding(value))
    return next((grid for grid in found if grid is not None), None)


def take_over(value: ir.Value, grid: Grid, codes: ir.Value, graph: Graph) -> None:
    """Makes what reads the codes of the model read ``codes``, which are the same."""
    for node in _rounding(value):
        old = node.outputs[0]
        if old is not codes and grid_of(node) == grid and not old.is_graph_output():
            graph.replace(old, codes)
            graph.remove(node)


def _rounding(value: ir.Value) -> list[ir.Node]:
    """The QuantizeLinear nodes that read the value in its own graph."""
    maker = value.producer()
    return [
        node
        for node, index in value.uses()
        if index == 0 and match.is_op(node, "QuantizeLinear") and (maker is None or node.graph is maker.graph)
    ]
