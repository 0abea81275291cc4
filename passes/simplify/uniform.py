"""What is known of a tensor without knowing its shape: that all elements are one number, or its bounds."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir

from .editor import Editor, attribute, operand, producer

_REARRANGING = ("Identity", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Expand", "Transpose", "Tile")
_DEPTH = 12  # how far back a question follows the producers
_COMPARISONS = ("Equal", "Less", "LessOrEqual", "Greater", "GreaterOrEqual")
_MIRRORED = {"Less": "Greater", "LessOrEqual": "GreaterOrEqual"}
_LIMIT = 1 << 20  # elements: the mask of a thousand tokens


def uniform(value: ir.Value | None, editor: Editor, depth: int = _DEPTH) -> Any | None:
    """The one number (numpy scalar) that every element of ``value`` is, or None."""
    array = editor.facts.array(value, limit=_LIMIT)
    if array is not None:
        flat = array.reshape(-1)
        if flat.size == 0 or flat[:1].tobytes() != flat[-1:].tobytes():
            return None
        first = flat[:1].tobytes()  # bits: 0.0 and -0.0 differ, a NaN equals itself
        return flat[0] if flat.tobytes() == first * flat.size else None
    node = producer(value, *_REARRANGING, "ConstantOfShape", "And", "Or", "Not", "Cast", *_COMPARISONS)
    if node is None or depth == 0:
        return None
    if node.op_type in _REARRANGING:
        return uniform(node.inputs[0], editor, depth - 1)
    if node.op_type == "ConstantOfShape":
        tensor = attribute(node, "value", None)
        return np.float32(0) if tensor is None else tensor.numpy().reshape(-1)[0]
    if node.op_type in _COMPARISONS:
        return _compared(node, editor, depth)
    return _logical(node, editor, depth)


def _logical(node: ir.Node, editor: Editor, depth: int) -> Any | None:
    known = [uniform(value, editor, depth - 1) for value in node.inputs]
    if node.op_type == "Cast":
        to_bool = attribute(node, "to", 0) == ir.DataType.BOOL.value
        return np.bool_(known[0]) if to_bool and known[0] is not None else None
    if node.op_type == "Not":
        return None if known[0] is None else np.bool_(not known[0])
    decisive = node.op_type == "Or"
    if any(item is not None and bool(item) == decisive for item in known):
        return np.bool_(decisive)
    return None if any(item is None for item in known) else np.bool_(not decisive)


def _compared(node: ir.Node, editor: Editor, depth: int) -> Any | None:
    """``iota >= 0`` and the like: a comparison of bounds with a constant."""
    left, right = bounds(node.inputs[0], editor, depth - 1), bounds(node.inputs[1], editor, depth - 1)
    op_type = node.op_type
    if op_type in _MIRRORED:
        left, right, op_type = right, left, _MIRRORED[op_type]
    if op_type == "Equal":
        return None
    (low, high), (other_low, other_high) = left, right
    strict = op_type == "Greater"
    if low is not None and other_high is not None and low >= other_high + strict:
        return np.bool_(True)
    if high is not None and other_low is not None and high < other_low + strict:
        return np.bool_(False)
    return None


def bounds(value: ir.Value | None, editor: Editor, depth: int = _DEPTH) -> tuple[int | None, int | None]:
    """The least and the greatest number that an integer tensor can contain, None where not known."""
    array = editor.facts.array(value, limit=_LIMIT)
    if array is not None:
        whole = array.dtype.kind in "iu" and array.size > 0
        return (int(array.min()), int(array.max())) if whole else (None, None)
    node = producer(value, *_REARRANGING, "Range", "Shape", "Size", "Gather", "Slice")
    if node is None or depth == 0:
        return None, None
    if node.op_type in ("Shape", "Size"):
        return 0, None
    if node.op_type == "Range":
        return _range_bounds(node, editor)
    return bounds(node.inputs[0], editor, depth - 1)


def _range_bounds(node: ir.Node, editor: Editor) -> tuple[int | None, int | None]:
    start, step = editor.facts.ints(operand(node, 0)), editor.facts.ints(operand(node, 2))
    return (start[0], None) if start and step and step[0] > 0 else (None, None)
