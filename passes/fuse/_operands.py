"""Queries, keys and values as they come into the two products of attention."""

from __future__ import annotations

from dataclasses import dataclass

import onnx_ir as ir

from optc import match
from optc.newnode import Operand
from optc.rewrite import NearMiss

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
    found = _before_transpose(value)
    if found is None:
        rank = len(_new.dims(value))
        perm = [*range(rank - 2), rank - 1, rank - 2]
        return Scaled(_new.transpose(value, perm), outer.scale, outer.nodes)
    base, perm, nodes = found
    if perm != sorted(perm):
        return Scaled(_new.transpose(base, perm), outer.scale, (*outer.nodes, *nodes))
    inner = unscaled(base)
    return Scaled(inner.value, outer.scale * inner.scale, (*outer.nodes, *nodes, *inner.nodes))


def _before_transpose(x: ir.Value) -> tuple[ir.Value, list[int], tuple[ir.Node, ...]] | None:
    """A value, and the permutation of it whose last two axes ``x`` has exchanged."""
    node = match.producer(x, "Transpose")
    if node is not None and node.inputs[0] is not None and match.rank(x) is not None:
        rank = len(_new.dims(x))
        perm = list(match.attr_ints(node, "perm") or reversed(range(rank)))
        return node.inputs[0], [*perm[:-2], perm[-1], perm[-2]], (node,)
    return _flattened_transpose(x)


def _flattened_transpose(x: ir.Value) -> tuple[ir.Value, list[int], tuple[ir.Node, ...]] | None:
    """A transpose done on three axes, with all leading ones in one, as the dynamo exporter writes it."""
    unflatten = match.producer(x, "Reshape")
    swap = match.producer(unflatten.inputs[0], "Transpose") if unflatten is not None else None
    flatten = match.producer(swap.inputs[0], "Reshape") if swap is not None else None
    if unflatten is None or swap is None or flatten is None or flatten.inputs[0] is None:
        return None
    base, flat = flatten.inputs[0], flatten.outputs[0]
    if match.attr_ints(swap, "perm") != (0, 2, 1) or match.rank(flat) != 3 or match.rank(x) is None:
        return None
    before, after = _new.dims(base), _new.dims(x)
    if not same(before[-2:], _new.dims(flat)[-2:]) or not same(after, [*before[:-2], before[-1], before[-2]]):
        return None
    return base, list(range(len(before))), (unflatten, swap, flatten)


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
    if not isinstance(x, ir.Value):
        return None
    merge = match.producer(x, "Reshape")
    repeat = match.producer(merge.inputs[0], "Expand", "Tile") if merge is not None else None
    insert = match.producer(repeat.inputs[0], "Unsqueeze", "Reshape") if repeat is not None else None
    if merge is None or repeat is None or insert is None or insert.inputs[0] is None:
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
    return Shared(base, group, (merge, repeat, insert))


def value_operand(product: ir.Node, index: int) -> ir.Value:
    """The values that the probabilities, input ``index`` of ``product``, weigh."""
    other = product.inputs[1 - index]
    if index != 0 or other is None:
        raise NearMiss("the probabilities come second in the product with the values")
    return other
