"""Transposes that move nothing, chains of them, and reshape-transpose-reshape that is one."""

from __future__ import annotations

import onnx_ir as ir

from .dims import Dim, product, same, same_shape
from .editor import Editor, Rule, attribute, producer


def _no_op(node: ir.Node, editor: Editor) -> bool:
    perm = permutation(node, editor)
    if perm is None or perm != list(range(len(perm))) or node.inputs[0] is None:
        return False
    return editor.replace(node.outputs[0], node.inputs[0])


def _chain(node: ir.Node, editor: Editor) -> bool:
    """``Transpose(Transpose(x))``: one, or none when the second undoes the first."""
    inner = producer(node.inputs[0], "Transpose")
    if inner is None or inner.inputs[0] is None:
        return False
    first, second = permutation(inner, editor), permutation(node, editor)
    if first is None or second is None or len(first) != len(second):
        return False
    perm = [first[axis] for axis in second]
    if perm != sorted(perm) and not editor.only_reader(inner.outputs[0], node):
        return False
    result = inner.inputs[0]
    if perm != sorted(perm):
        result = editor.add(node, "Transpose", [result], {"perm": perm})
    return editor.replace(node.outputs[0], result)


def _between_reshapes(node: ir.Node, editor: Editor) -> bool:
    """``Reshape(Transpose(Reshape(x)))`` that merges axes, permutes them and splits them as they were."""
    transpose = producer(node.inputs[0], "Transpose")
    merge = producer(transpose.inputs[0], "Reshape", "Flatten") if transpose is not None else None
    if transpose is None or merge is None:
        return False
    facts, source = editor.facts, merge.inputs[0]
    before, middle = facts.shape(source), facts.shape(merge.outputs[0])
    after, perm = facts.shape(node.outputs[0]), permutation(transpose, editor)
    if source is None or before is None or middle is None or after is None or perm is None:
        return False
    groups = _groups(before, middle)
    if groups is None:
        return False
    order = [axis for group in perm for axis in groups[group]]
    if not same_shape([before[axis] for axis in order], after):
        return False
    result = source
    if order != sorted(order):
        result = editor.add(node, "Transpose", [source], {"perm": order})
    return editor.replace(node.outputs[0], result)


def permutation(node: ir.Node, editor: Editor) -> list[int] | None:
    """The ``perm`` of a Transpose; the default reverses the axes, for which the rank must be known."""
    perm = attribute(node, "perm", None)
    if perm is not None:
        return [int(axis) for axis in perm]
    rank = editor.facts.rank(node.inputs[0])
    return None if rank is None else list(range(rank))[::-1]


def _groups(before: tuple[Dim, ...], merged: tuple[Dim, ...]) -> list[list[int]] | None:
    """For each merged dim the consecutive axes whose product it is, or None when it is no pure merge."""
    groups: list[list[int]] = []
    axis = 0
    for position, dim in enumerate(merged):
        last = position == len(merged) - 1
        stop = axis + 1
        while stop <= len(before) and not same(product(before[axis:stop]), dim):
            stop += 1
        if last:
            stop = len(before)  # trailing axes of size 1 belong to the last dim
        if stop > len(before) or not same(product(before[axis:stop]), dim):
            return None
        groups.append(list(range(axis, stop)))
        axis = stop
    return groups if axis == len(before) else None


RULES = (
    Rule("transpose that moves nothing", ("Transpose",), _no_op),
    Rule("chain of transposes", ("Transpose",), _chain),
    Rule("reshape-transpose-reshape", ("Reshape",), _between_reshapes),
)
