"""Operands of attention before they were scaled, transposed and repeated for the products."""

from __future__ import annotations

from dataclasses import dataclass

import onnx_ir as ir

from optc import match
from optc.newnode import Operand

from . import _new
from ._frame import same
from ._scale import known_number


@dataclass(frozen=True)
class Scaled:
    """``value`` times ``scale`` is what was asked about; ``nodes`` compute that."""

    value: Operand
    scale: float
    nodes: tuple[ir.Node, ...] = ()


def unscaled(x: ir.Value) -> Scaled:
    """``x`` before multiplications by numbers."""
    node = match.producer(x, "Mul", "Div")
    if node is None:
        return Scaled(x, 1.0)
    for index in (0, 1) if node.op_type == "Mul" else (0,):
        base, number = node.inputs[index], known_number(node.inputs[1 - index])
        if number is None or base is None or match.rank(base) != match.rank(x):
            continue
        if node.op_type == "Div" and number == 0:
            continue
        inner = unscaled(base)
        factor = number if node.op_type == "Mul" else 1 / number
        return Scaled(inner.value, inner.scale * factor, (node, *inner.nodes))
    return Scaled(x, 1.0)


def keys(transposed: ir.Value) -> Scaled:
    """The keys [..., length, size] whose transpose, [..., size, length], comes into the product."""
    outer = unscaled(transposed)
    value = outer.value
    assert isinstance(value, ir.Value)
    before, nodes = _before_transpose(value)
    inner = unscaled(before) if isinstance(before, ir.Value) else Scaled(before, 1.0)
    return Scaled(inner.value, outer.scale * inner.scale, (*outer.nodes, *nodes, *inner.nodes))


def _before_transpose(x: ir.Value) -> tuple[Operand, tuple[ir.Node, ...]]:
    """``x`` with its last two axes exchanged, and the nodes that exchanged them before."""
    rank = len(_new.dims(x))
    node = match.producer(x, "Transpose")
    if node is not None and node.inputs[0] is not None:
        perm = list(match.attr_ints(node, "perm") or reversed(range(rank)))
        return _new.transpose(node.inputs[0], [*perm[:-2], perm[-1], perm[-2]]), (node,)
    flattened = _flattened_transpose(x)
    if flattened is not None:
        return flattened
    return _new.transpose(x, [*range(rank - 2), rank - 1, rank - 2]), ()


def _flattened_transpose(x: ir.Value) -> tuple[Operand, tuple[ir.Node, ...]] | None:
    """A transpose done on three axes, with all leading ones in one, as the dynamo exporter writes it."""
    unflatten = match.producer(x, "Reshape")
    swap = match.producer(unflatten.inputs[0], "Transpose") if unflatten is not None else None
    flatten = match.producer(swap.inputs[0], "Reshape") if swap is not None else None
    if unflatten is None or swap is None or flatten is None or flatten.inputs[0] is None:
        return None
    base, flat = flatten.inputs[0], flatten.outputs[0]
    if match.attr_ints(swap, "perm") != (0, 2, 1) or match.rank(flat) != 3 or match.rank(base) is None:
        return None
    before, after, nodes = _new.dims(base), _new.dims(x), (unflatten, swap, flatten)
    pair = before[-2:]
    if not same(pair, _new.dims(flat)[-2:]) or not same(pair[::-1], after[-2:]):
        return None
    if same(before[:-2], after[:-2]):
        return base, nodes
    target = [*after[:-2], *pair]
    return (_new.reshape(base, target), nodes) if _new.can_reshape(base, target) else None


@dataclass(frozen=True)
class Shared:
    """Heads of keys or values, each of which ``group`` query heads share one after the other."""

    value: ir.Value
    group: int
    nodes: tuple[ir.Node, ...]


def shared_heads(x: Operand) -> Shared | None:
    """``x`` [batch, heads, length, size] before each head was repeated, where it was.

    That is Unsqueeze, Expand or Tile, Reshape:
    [B, n, T, D] -> [B, n, 1, T, D] -> [B, n, g, T, D] -> [B, n * g, T, D].
    """
    merge = match.producer(x, "Reshape") if isinstance(x, ir.Value) else x
    if merge is None or merge.op_type != "Reshape" or not isinstance(merge.inputs[0], ir.Value):
        return None
    repeat = match.producer(merge.inputs[0], "Expand", "Tile")
    insert = match.producer(repeat.inputs[0], "Unsqueeze", "Reshape") if repeat is not None else None
    if repeat is None or insert is None or insert.inputs[0] is None:
        return None
    base, wide, merged = insert.inputs[0], repeat.outputs[0], _new.dims(x)
    if match.rank(base) != 4 or match.rank(wide) != 5 or match.rank(insert.outputs[0]) != 5:
        return None
    (b, n, t, d), group = _new.dims(base), match.static_dim(wide, 2)
    inserted = _new.dims(insert.outputs[0])
    if not isinstance(n, int) or group is None or not same(inserted, [b, n, 1, t, d]):
        return None
    if not same(_new.dims(wide), [b, n, group, t, d]) or not same(merged, [b, n * group, t, d]):
        return None
    return Shared(base, group, (*([merge] if isinstance(merge, ir.Node) else []), repeat, insert))
