"""The casts around a piece of a half precision model that is computed in single precision."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import onnx_ir as ir

from optc import match

from ._norm_bodies import NARROW


@dataclass(frozen=True)
class Widened:
    """A piece of the graph from ``x`` to ``output``."""

    x: ir.Value
    output: ir.Value
    nodes: tuple[ir.Node, ...]


def widened(x: ir.Value, output: ir.Value, nodes: Iterable[ir.Node]) -> Widened:
    """The piece with the casts around it when it is cast to float and straight back again."""
    inside = tuple(dict.fromkeys(nodes))
    enter, leave = match.producer(x, "Cast"), match.only_reader(output)
    if enter is None or leave is None or not match.is_op(leave, "Cast") or x.dtype != ir.DataType.FLOAT:
        return Widened(x, output, inside)
    source, result = enter.inputs[0], leave.outputs[0]
    if source is None or source.dtype not in NARROW or result.dtype != source.dtype:
        return Widened(x, output, inside)
    # Others may read the widened input too: they keep the cast.
    own = (enter,) if all(use.node in inside for use in x.uses()) and not x.is_graph_output() else ()
    return Widened(source, result, (*own, *inside, leave))
