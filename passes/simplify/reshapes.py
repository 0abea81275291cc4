"""Reshape, Flatten, Squeeze and Unsqueeze: no-ops, chains, and shape operands that can be constants."""

from __future__ import annotations

from collections.abc import Sequence

import onnx_ir as ir

from .dims import Dim, Dims, same, same_shape
from .editor import Editor, Rule, attribute, operand, producer

_RESHAPING = ("Reshape", "Flatten", "Squeeze", "Unsqueeze")


def _no_op(node: ir.Node, editor: Editor) -> bool:
    """The shape stays as it is."""
    source = node.inputs[0]
    if source is None or not same_shape(editor.facts.shape(source), editor.facts.shape(node.outputs[0])):
        return False
    return editor.replace(node.outputs[0], source)


def _constant_shape(node: ir.Node, editor: Editor) -> bool:
    """A computed shape operand becomes a constant: numbers, 0 for a dim that is copied, at most one -1."""
    facts, source, shape = editor.facts, node.inputs[0], operand(node, 1)
    if source is None or shape is None or facts.const(shape) is not None:
        return False
    before, after, wanted = facts.shape(source), facts.shape(node.outputs[0]), facts.contents(shape)
    if before is None or wanted is None:
        return False
    if after is not None and len(after) == len(wanted):
        wanted = [
            to if isinstance(to, int) and to > 0 else dim for dim, to in zip(wanted, after, strict=True)
        ]
    literal = _literal_shape(before, wanted, keeps_zero=bool(attribute(node, "allowzero", 0)))
    if literal is None:
        return editor.skip(node, "reshape keeps its computed shape: more than one dim is not known")
    if "allowzero" in node.attributes:
        node.attributes.pop("allowzero")
    editor.set_input(node, 1, editor.ints(literal, f"{node.outputs[0].name}_shape"))
    return True


def _literal_shape(before: Dims, wanted: Sequence[Dim], *, keeps_zero: bool) -> list[int] | None:
    """The operand that means ``wanted`` at every run, for a Reshape with allowzero=0.

    A -1 in place of a symbol is only right when no other dim can be zero: the runtime refuses to infer a
    dim of an empty tensor.
    """
    literal: list[int] = []
    for position, dim in enumerate(wanted):
        if isinstance(dim, int):
            if dim == 0 and keeps_zero:
                return None
            literal.append(dim)
        elif position < len(before) and same(before[position], dim):
            literal.append(0)
        else:
            literal.append(-1)
    inferred = [position for position, dim in enumerate(literal) if dim == -1]
    if len(inferred) > 1:
        return None
    if inferred and not isinstance(wanted[inferred[0]], int) and 0 in literal:
        return None
    return literal


def _after_reshaping(node: ir.Node, editor: Editor) -> bool:
    """``Reshape(Reshape(x))``, also of a Flatten, Squeeze or Unsqueeze: the last one decides."""
    inner = producer(node.inputs[0], *_RESHAPING)
    if inner is None or inner.inputs[0] is None or attribute(node, "allowzero", 0):
        return False
    facts = editor.facts
    numbers = facts.ints(operand(node, 1))
    before, middle = facts.shape(inner.inputs[0]), facts.shape(inner.outputs[0])
    if numbers is None or facts.const(operand(node, 1)) is None:
        return False
    for position, number in enumerate(numbers):
        if number == 0 and not _copies_the_same(before, middle, position):
            return False
    editor.set_input(node, 0, inner.inputs[0])
    return True


def _copies_the_same(before: Dims | None, middle: Dims | None, position: int) -> bool:
    if before is None or middle is None or position >= min(len(before), len(middle)):
        return False
    return same(before[position], middle[position])


def _undone(node: ir.Node, editor: Editor) -> bool:
    """A chain of reshaping nodes that ends in the shape it began with."""
    last = producer(node.inputs[0], *_RESHAPING)
    start = last.inputs[0] if last is not None else None
    if start is None or not same_shape(editor.facts.shape(start), editor.facts.shape(node.outputs[0])):
        return False
    return editor.replace(node.outputs[0], start)


def _squeeze_unsqueeze(node: ir.Node, editor: Editor) -> bool:
    """``Squeeze(Unsqueeze(x, axes), axes)`` and the reverse, by their axes alone."""
    other = producer(node.inputs[0], "Unsqueeze" if node.op_type == "Squeeze" else "Squeeze")
    if other is None or other.inputs[0] is None:
        return False
    wide = node.inputs[0] if node.op_type == "Squeeze" else other.inputs[0]
    mine, theirs = axes_of(node, editor), axes_of(other, editor)
    if mine is None or theirs is None:
        return False
    if any(axis < 0 for axis in (*mine, *theirs)):
        rank = editor.facts.rank(wide)
        if rank is None:
            return False
        mine, theirs = sorted(a % rank for a in mine), sorted(a % rank for a in theirs)
    if sorted(mine) != sorted(theirs):
        return False
    return editor.replace(node.outputs[0], other.inputs[0])


def _chained_unsqueeze(node: ir.Node, editor: Editor) -> bool:
    """``Unsqueeze(Unsqueeze(x))``: one with the axes of both."""
    inner = producer(node.inputs[0], "Unsqueeze")
    if inner is None or inner.inputs[0] is None or editor.opset < 13:
        return False
    rank = editor.facts.rank(inner.inputs[0])
    first, second = axes_of(inner, editor), axes_of(node, editor)
    if rank is None or first is None or second is None or not editor.only_reader(inner.outputs[0], node):
        return False
    wide = rank + len(first) + len(second)
    outer = {axis % wide for axis in second}
    free = [axis for axis in range(wide) if axis not in outer]
    axes = sorted(outer | {free[axis % len(free)] for axis in first})
    operands = [inner.inputs[0], editor.ints(axes, f"{node.outputs[0].name}_axes")]
    return editor.replace(node.outputs[0], editor.add(node, "Unsqueeze", operands))


def axes_of(node: ir.Node, editor: Editor) -> list[int] | None:
    """The axes of a Squeeze or Unsqueeze, from the input (opset 13) or the attribute; None when unknown."""
    if "axes" in node.attributes:
        return [int(axis) for axis in attribute(node, "axes", ())]
    return editor.facts.ints(operand(node, 1))


RULES = (
    Rule("reshape to the same shape", _RESHAPING, _no_op),
    Rule("reshaping undone", _RESHAPING, _undone),
    Rule("squeeze of unsqueeze", ("Squeeze", "Unsqueeze"), _squeeze_unsqueeze),
    Rule("constant shape of a reshape", ("Reshape",), _constant_shape),
    Rule("chain of reshapes", ("Reshape",), _after_reshaping),
    Rule("chain of unsqueezes", ("Unsqueeze",), _chained_unsqueeze),
)
