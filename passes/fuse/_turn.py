"""Pairs of columns turned by an angle: x * cos + turned(x) * sin, where turned((a, b)) is (-b, a)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from optc import match

from ._scale import known_number

_DEPTH = 12


@dataclass(frozen=True)
class Part:
    """``source[..., start:stop:step]``."""

    source: ir.Value
    start: int
    stop: int
    step: int


def part(value: ir.Value | None) -> Part | None:
    """Which columns of which value ``value`` is, by ``Slice`` or ``Split`` of the last axis."""
    node = match.producer(value, "Slice", "Split")
    if value is None or node is None or node.inputs[0] is None:
        return None
    source = node.inputs[0]
    rank, width = match.rank(source), match.static_dim(source, -1)
    if rank is None or width is None:
        return None
    if node.op_type == "Split":
        return _split_part(node, value, source)
    if len(node.inputs) < 4:
        return None
    numbers = [match.scalar(each) for each in node.inputs[1:]] + [1.0] * (5 - len(node.inputs))
    if any(number is None for number in numbers):
        return None
    start, stop, axis, step = (int(number or 0) for number in numbers)
    if axis not in (-1, rank - 1) or step < 1:
        return None
    return Part(source, *slice(start, stop).indices(width)[:2], step)


def _split_part(node: ir.Node, value: ir.Value, source: ir.Value) -> Part | None:
    if match.attr_int(node, "axis", 0) not in (-1, (match.rank(source) or 0) - 1):
        return None
    widths = [match.static_dim(output, -1) for output in node.outputs]
    known = [width for width in widths if width is not None]
    position = value.index()
    if len(known) != len(widths) or position is None:
        return None
    start = sum(known[:position])
    return Part(source, start, start + known[position], 1)


@dataclass(frozen=True)
class Turned:
    """The pairs (a, b) of ``source`` as (-b, a): neighbours when ``interleaved``, else one of each half."""

    source: ir.Value
    interleaved: bool
    nodes: tuple[ir.Node, ...]


def turned(value: ir.Value | None) -> Turned | None:
    """``value`` as turned pairs of something."""
    merge = match.producer(value, "Reshape")
    join = match.producer(merge.inputs[0] if merge is not None else value, "Concat")
    if join is None or len(join.inputs) != 2 or not _on_last_axis(join):
        return None
    first, second = join.inputs
    nodes = [join] if merge is None else [merge, join]
    if merge is not None:
        lifted = [match.producer(each, "Unsqueeze") for each in (first, second)]
        if any(each is None or match.static_dim(each.outputs[0], -1) != 1 for each in lifted):
            return None
        first, second = (each.inputs[0] if each is not None else None for each in lifted)
        nodes += [each for each in lifted if each is not None]
    minus = match.producer(first, "Neg")
    high, low = part(minus.inputs[0] if minus is not None else None), part(second)
    if minus is None or high is None or low is None or high.source is not low.source:
        return None
    if not _are_pairs(low, high, merge is not None) or not _same_width(value, low.source):
        return None
    cuts = [each.producer() for each in (minus.inputs[0], second) if each is not None]
    nodes += [minus, *(each for each in cuts if each is not None)]
    return Turned(low.source, merge is not None, tuple(nodes))


def _are_pairs(low: Part, high: Part, interleaved: bool) -> bool:
    width = match.static_dim(low.source, -1) or 1
    if interleaved:
        wanted = [(0, 2), (1, 2)]
        return (
            width % 2 == 0 and [(p.start, p.step) for p in (low, high)] == wanted and _reach(low, high, width)
        )
    half = width // 2
    return width % 2 == 0 and [(p.start, p.stop, p.step) for p in (low, high)] == [
        (0, half, 1),
        (half, width, 1),
    ]


def _reach(low: Part, high: Part, width: int) -> bool:
    """Whether every other column up to the last is taken."""
    return low.stop >= width - 1 and high.stop >= width


def _same_width(a: ir.Value | None, b: ir.Value) -> bool:
    return a is not None and match.same_dim(match.dim(a, -1), match.dim(b, -1))


def _on_last_axis(concat: ir.Node) -> bool:
    return match.attr_int(concat, "axis", 0) in (-1, (match.rank(concat.outputs[0]) or 0) - 1)


def is_doubled(table: ir.Value | None, interleaved: bool, depth: int = _DEPTH) -> bool:
    """Whether both columns of each pair of ``table`` are known to be equal."""
    if table is None or depth == 0:
        return False
    if match.is_constant(table):
        return _array_doubled(match.constant(table), interleaved)
    node = table.producer()
    if node is None or node.domain not in ("", "ai.onnx"):
        return False
    if node.op_type == "Concat" and not interleaved:
        return len(node.inputs) == 2 and node.inputs[0] is node.inputs[1] and _on_last_axis(node)
    if node.op_type == "Reshape" and interleaved and _repeats_each(node):
        return True
    if node.op_type in ("Mul", "Div"):
        other = 1 if node.op_type == "Div" or known_number(node.inputs[1]) is not None else 0
        return known_number(node.inputs[other]) is not None and is_doubled(
            node.inputs[1 - other], interleaved, depth - 1
        )
    return _keeps_columns(node) and is_doubled(node.inputs[0], interleaved, depth - 1)


def _array_doubled(array: np.ndarray | None, interleaved: bool) -> bool:
    if array is None or array.ndim == 0 or array.shape[-1] % 2:
        return False
    half = array.shape[-1] // 2
    pairs = (array[..., ::2], array[..., 1::2]) if interleaved else (array[..., :half], array[..., half:])
    return bool((pairs[0] == pairs[1]).all())


def _repeats_each(merge: ir.Node) -> bool:
    """Reshape of [..., width, 1] repeated or stacked to [..., width, 2]."""
    value = merge.inputs[0]
    if match.static_dim(value, -1) != 2 or match.rank(value) != (match.rank(merge.outputs[0]) or 0) + 1:
        return False
    width = match.static_dim(merge.outputs[0], -1)
    if width is None or match.static_dim(value, -2) != width // 2:
        return False
    stack = match.producer(value, "Concat")
    if stack is not None:
        return len(stack.inputs) == 2 and stack.inputs[0] is stack.inputs[1] and _on_last_axis(stack)
    repeat = match.producer(value, "Expand", "Tile")
    return repeat is not None and match.static_dim(repeat.inputs[0], -1) == 1


def _keeps_columns(node: ir.Node) -> bool:
    """Whether the columns of the result are those of the first input, each changed in the same way."""
    if node.op_type in ("Cos", "Sin", "Cast", "Identity"):
        return True
    before, after = match.dim(node.inputs[0], -1), match.dim(node.outputs[0], -1)
    if not match.same_dim(before, after):
        return False
    if node.op_type == "Gather":
        return match.attr_int(node, "axis", 0) == 0 and (match.rank(node.inputs[0]) or 0) > 1
    if node.op_type == "Slice":
        whole = part(node.outputs[0])
        return whole is None or whole.step == 1
    if node.op_type == "Transpose":
        perm = match.attr_ints(node, "perm")
        return perm is not None and perm[-1] == len(perm) - 1
    return node.op_type in ("Unsqueeze", "Squeeze", "Reshape", "Expand", "Flatten") and before != 1
