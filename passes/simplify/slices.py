"""Slices that keep everything and pads that add nothing."""

from __future__ import annotations

import onnx_ir as ir

from .dims import Dim, same
from .editor import Editor, Rule, attribute, operand


def _full_slice(node: ir.Node, editor: Editor) -> bool:
    """Every sliced axis starts at 0, goes to its end and has step 1."""
    facts, source = editor.facts, node.inputs[0]
    if source is None or editor.opset < 10:
        return False
    shape, starts, ends = facts.shape(source), facts.ints(operand(node, 1)), facts.contents(operand(node, 2))
    if starts is None or ends is None or any(start != 0 for start in starts):
        return False
    axes = list(range(len(starts))) if operand(node, 3) is None else facts.ints(operand(node, 3))
    steps = [1] * len(starts) if operand(node, 4) is None else facts.ints(operand(node, 4))
    if axes is None or steps is None or any(step != 1 for step in steps):
        return False
    for axis, end in zip(axes, ends, strict=True):
        if not _reaches(end, None if shape is None else shape[axis]):
            return False
    return editor.replace(node.outputs[0], source)


def _reaches(end: Dim, size: Dim | None) -> bool:
    if isinstance(end, int) and end >= 2**31 - 1:
        return True
    if size is None:
        return False
    return end >= size if isinstance(end, int) and isinstance(size, int) else same(end, size)


def _no_padding(node: ir.Node, editor: Editor) -> bool:
    source = node.inputs[0]
    pads = attribute(node, "pads", None) if "pads" in node.attributes else editor.facts.ints(operand(node, 1))
    if source is None or pads is None or any(pad != 0 for pad in pads):
        return False
    return editor.replace(node.outputs[0], source)


RULES = (
    Rule("slice of everything", ("Slice",), _full_slice),
    Rule("padding by nothing", ("Pad",), _no_padding),
)
