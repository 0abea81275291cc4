"""Followers read the probabilities of their leader."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx_ir as ir

from optc.passbase import Context

from ._groups import Group
from ._sites import Site


def share(stack: Sequence[Site], group: Group, heads: np.ndarray, ctx: Context) -> list[dict[str, Any]]:
    """Rewires one group, and says what was done per follower.

    Args:
        heads: [layers, layers, heads] which head of the row's layer serves each head of the column's.
    """
    leader = stack[group.leader]
    notes = []
    for place in ctx.trail.each("shared attention", group.members[1:], lambda place: stack[place].product):
        follower, chosen = stack[place], heads[group.leader, place]
        moved = not np.array_equal(chosen, np.arange(len(chosen)))
        value = _reordered(follower, leader.probabilities, chosen) if moved else leader.probabilities
        follower.product.replace_input_with(follower.index, value)
        notes.append({"layer": follower.layer, "leader": leader.layer, "heads": chosen.tolist()})
    return notes


def _reordered(follower: Site, probabilities: ir.Value, heads: np.ndarray) -> ir.Value:
    """The leader's probabilities with, for each head of the follower, the head that is most like it."""
    graph = follower.product.graph
    assert isinstance(graph, ir.Graph), "blocks lie in the main graph"
    name = f"{follower.probabilities.name}_shared"
    index = ir.Value(name=f"{name}_heads", const_value=ir.tensor(heads.astype(np.int64)))
    index.type, index.shape = ir.TensorType(ir.DataType.INT64), ir.Shape(heads.shape)
    graph.register_initializer(index)
    node = ir.node("Gather", [probabilities, index], {"axis": 1}, name=name)
    value = node.outputs[0]
    value.name, value.type, value.shape = name, probabilities.type, probabilities.shape
    graph.insert_before(follower.product, node)
    return value
