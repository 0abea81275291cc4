"""Projections of one input computed as one product: query, key and value, or gate and up."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import onnx_ir as ir

from optc import match
from optc.newnode import Operand
from optc.rewrite import Match, Pattern

from ._bias import bias_add
from ._constants import is_float


@dataclass(frozen=True)
class _Projection:
    """``output = x W + bias``, with W turned (``[N, K]``) or not (``[K, N]``)."""

    weight: ir.Value
    bias: ir.Value | None
    output: ir.Value
    nodes: tuple[ir.Node, ...]
    width: int


class PackedLinear(Pattern):
    """Two or three products of the same value with constant matrices, and the biases behind them."""

    name: ClassVar[str] = "packed_linear"
    family: ClassVar[str] = "packed-linear"
    anchors: ClassVar[frozenset[str]] = frozenset({"MatMul", "Gemm"})
    after: ClassVar[tuple[str, ...]] = ("heads",)  # which rids projections of biases

    def match(self, node: ir.Node, model: ir.Model) -> Match | None:
        """The projections that read what ``node`` reads, in the graph that ``node`` is in."""
        x = node.inputs[0]
        if x is None or match.is_constant(x) or not is_float(x.dtype):
            return None
        alike = [use.node for use in x.uses() if use.idx == 0 and _is_like(use.node, node)]
        found = [projection for other in alike if (projection := _projection(other)) is not None]
        group = next((g for g in _groups(found) if any(node in p.nodes for p in g)), [])
        if len(group) < 2:
            return None
        turned = int(_is_turned(node))
        biases = {f"b{i}": p.bias for i, p in enumerate(group, 1) if p.bias is not None}
        named: dict[str, Operand] = {"x": x, **{f"w{i}": p.weight for i, p in enumerate(group, 1)}, **biases}
        outputs = [projection.output for projection in group]
        nodes = [each for projection in group for each in projection.nodes]
        body = _body(list(named), len(group), turned)
        attributes = {"transB": 1} if turned else {}
        return Match("PackedLinear", [*named.values()], outputs, body, attributes, nodes)


def _is_like(other: ir.Node, node: ir.Node) -> bool:
    """Whether the two could be one product, as far as their ops go."""
    same_op = other.op_type == node.op_type and match.is_op(other, node.op_type)
    return same_op and other.graph is node.graph and _is_turned(other) == _is_turned(node)


def _is_turned(node: ir.Node) -> bool:
    return bool(match.attr_int(node, "transB", 0))


def _projection(node: ir.Node) -> _Projection | None:
    """The product with a constant matrix that ``node`` is, with the bias that belongs to it."""
    weight, y = node.inputs[1], node.outputs[0]
    width = match.static_dim(weight, 0 if _is_turned(node) else 1)
    if weight is None or match.rank(weight) != 2 or width is None or not match.is_constant(weight):
        return None
    if node.op_type == "MatMul":
        add = bias_add(y)
        if add is None:
            return _Projection(weight, None, y, (node,), width)
        return _Projection(weight, add[1], add[0].outputs[0], (node, add[0]), width)
    plain = match.attr_float(node, "alpha", 1.0) == 1.0 and match.attr_float(node, "beta", 1.0) == 1.0
    bias = node.inputs[2] if len(node.inputs) > 2 else None
    fits = bias is None or (
        match.is_constant(bias) and match.rank(bias) == 1 and match.static_dim(bias, 0) == width
    )
    if not plain or not fits or match.attr_int(node, "transA", 0):
        return None
    return _Projection(weight, bias, y, (node,), width)


def _groups(found: Sequence[_Projection]) -> list[list[_Projection]]:
    """Which projections go together: all of up to three, else those of equal width in threes and twos."""
    if len(found) <= 3:
        return [list(found)]
    by_width: dict[int, list[_Projection]] = {}
    for projection in found:
        by_width.setdefault(projection.width, []).append(projection)
    groups = []
    for members in by_width.values():
        first = 3 if len(members) % 2 else 0
        starts = [0] if first else []
        starts += range(first, len(members), 2)
        groups += [members[i:j] for i, j in zip(starts, [*starts[1:], len(members)], strict=True)]
    return groups


def _body(names: Sequence[str], count: int, turned: int) -> str:
    lines = []
    for i in range(1, count + 1):
        bias = f"b{i}" if f"b{i}" in names else None
        if turned:
            lines.append(f"y{i} = Gemm <transB = 1> (x, w{i}{', ' + bias if bias else ''})")
        elif bias:
            lines += [f"product{i} = MatMul(x, w{i})", f"y{i} = Add(product{i}, {bias})"]
        else:
            lines.append(f"y{i} = MatMul(x, w{i})")
    results = ", ".join(f"y{i}" for i in range(1, count + 1))
    text = "\n".join(lines)
    return f"({', '.join(names)}) => ({results}) {{\n{text}\n}}"
