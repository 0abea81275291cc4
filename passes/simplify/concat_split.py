"""Concat and Split: of one part, of each other, and of parts that are empty."""

from __future__ import annotations

import onnx_ir as ir

from .dims import same
from .editor import Editor, Rule, attribute, producer


def _one_part(node: ir.Node, editor: Editor) -> bool:
    """A Concat of one input, a Split into one output."""
    parts = node.inputs if node.op_type == "Concat" else node.outputs
    source = node.inputs[0]
    if len(parts) != 1 or source is None:
        return False
    if node.op_type == "Split" and editor.facts.dtype(source) is None:
        return False
    return editor.replace(node.outputs[0], source)


def _concat_of_split(node: ir.Node, editor: Editor) -> bool:
    """All parts of a Split, in their order, along its axis."""
    split = producer(node.inputs[0], "Split")
    if split is None or split.inputs[0] is None or list(node.inputs) != list(split.outputs):
        return False
    axis, other = _axis(node, editor, split.inputs[0]), _axis(split, editor, split.inputs[0])
    if axis is None or axis != other:
        return False
    return editor.replace(node.outputs[0], split.inputs[0])


def _split_of_concat(node: ir.Node, editor: Editor) -> bool:
    """A Split into the very parts that were concatenated."""
    concat = producer(node.inputs[0], "Concat")
    if concat is None or len(concat.inputs) != len(node.outputs):
        return False
    axis, other = _axis(node, editor, node.inputs[0]), _axis(concat, editor, node.inputs[0])
    if axis is None or axis != other:
        return False
    for part, output in zip(concat.inputs, node.outputs, strict=True):
        mine, theirs = editor.facts.shape(output), editor.facts.shape(part)
        if mine is None or theirs is None or not same(mine[axis], theirs[axis]):
            return False
    for part, output in zip(list(concat.inputs), list(node.outputs), strict=True):
        if part is not None and (output.uses() or output.is_graph_output()):
            editor.replace(output, part)
    return True


def _nested_concat(node: ir.Node, editor: Editor) -> bool:
    """``Concat(Concat(a, b), c)`` along one axis."""
    axis = _axis(node, editor, node.outputs[0])
    for index, value in enumerate(node.inputs):
        inner = producer(value, "Concat")
        if inner is None or value is None or not editor.only_reader(value, node):
            continue
        if axis is None or _axis(inner, editor, value) != axis:
            continue
        parts = [*node.inputs[:index], *inner.inputs, *node.inputs[index + 1 :]]
        result = editor.add(node, "Concat", parts, {"axis": attribute(node, "axis", 0)})
        return editor.replace(node.outputs[0], result)
    return False


def _axis(node: ir.Node, editor: Editor, value: ir.Value | None) -> int | None:
    if node.op_type == "Concat" and "axis" not in node.attributes:
        return None  # before opset 4 the default was another
    axis = int(attribute(node, "axis", 0))
    if axis >= 0:
        return axis
    rank = editor.facts.rank(value)
    return None if rank is None else axis + rank


RULES = (
    Rule("concat or split of one part", ("Concat", "Split"), _one_part),
    Rule("concat of a split", ("Concat",), _concat_of_split),
    Rule("split of a concat", ("Split",), _split_of_concat),
    Rule("nested concat", ("Concat",), _nested_concat),
)
