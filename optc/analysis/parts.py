"""The halves of a block: attention, MLP, and what else has a skip connection of its own."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import onnx_ir as ir

from optc.analysis.flow import Flow
from optc.analysis.residual import Join, kind_of
from optc.analysis.stream import Segment


@dataclass(frozen=True, eq=False)
class Part:
    """One half of a block: ``exit`` is computed from ``entry`` by ``nodes``.

    Parts of a block follow each other, each with its own skip connection. Where attention and MLP share one
    skip connection (``Block.parallel``), a part is the branch alone and ``exit`` the term that is added.

    Attributes:
        kind: "attention", "mlp", "conv" or "recurrent".
        nodes: in graph order.
    """

    kind: str
    entry: ir.Value
    exit: ir.Value
    nodes: tuple[ir.Node, ...]


def parts_of(flow: Flow, segment: Segment, inner: Iterable[Join]) -> list[Part]:
    """Returns the parts of one segment.

    Args:
        inner: joins that lie inside of branches; a segment that hides attention and MLP in its branch
            (a bottleneck around a whole layer) has these as its parts.
    """
    join = segment.join
    if join is None:
        kind = kind_of(flow, segment.ops)
        return [] if kind is None else [_part(flow, kind, segment.entry, segment.exit, segment.ops)]
    if join.kind == "attention":
        for parts in (_branches(flow, join), _nested(flow, segment, inner)):
            if {"attention", "mlp"} <= {part.kind for part in parts}:
                return parts
    return [_part(flow, join.kind, segment.entry, segment.exit, segment.ops)]


def real(flow: Flow, number: int) -> ir.Value:
    """The value of the graph behind a number that is known to be one."""
    value = flow.values[number]
    assert value is not None, "entries and exits are values of the graph"
    return value


def _part(flow: Flow, kind: str, entry: int, exit: int, ops: Iterable[int]) -> Part:
    nodes = tuple(flow.nodes[owner] for owner in flow.owners(list(ops)))
    return Part(kind, real(flow, entry), real(flow, exit), nodes)


def _branches(flow: Flow, join: Join) -> list[Part]:
    """One part for every term of the sum with heavy ops of its own."""
    parts = []
    for bit, term in enumerate(join.terms):
        own = [op for op in join.ops if join.feeds[op] == 1 << bit]
        kind = kind_of(flow, own)
        if kind is not None and flow.values[term] is not None:
            parts.append(_part(flow, kind, join.entry, term, own))
    return parts


def _nested(flow: Flow, segment: Segment, inner: Iterable[Join]) -> list[Part]:
    ops = set(segment.ops)
    inside = [join for join in inner if join.ops[-1] in ops and flow.values[join.out] is not None]
    return [_part(flow, join.kind, join.entry, join.out, join.ops) for join in inside]
