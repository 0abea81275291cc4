"""Casts that change nothing, and chains of casts whose inner step loses nothing."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from .editor import Editor, Rule, attribute, producer

_FLOATS = frozenset({ir.DataType.FLOAT16, ir.DataType.FLOAT, ir.DataType.DOUBLE})
_INTEGERS = frozenset(
    {
        *(ir.DataType.BOOL, ir.DataType.INT8, ir.DataType.INT16, ir.DataType.INT32, ir.DataType.INT64),
        *(ir.DataType.UINT8, ir.DataType.UINT16, ir.DataType.UINT32, ir.DataType.UINT64),
    }
)


def _same_type(node: ir.Node, editor: Editor) -> bool:
    """``Cast(x)`` to the type that ``x`` has, ``CastLike`` too."""
    source, target = node.inputs[0], _target(node, editor)
    if source is None or target is None or editor.facts.dtype(source) != target:
        return False
    return editor.replace(node.outputs[0], source)


def _chain(node: ir.Node, editor: Editor) -> bool:
    """``Cast(Cast(x))`` where the inner cast keeps every value: straight to the outer type."""
    inner = producer(node.inputs[0], "Cast")
    if node.op_type != "Cast" or inner is None or inner.inputs[0] is None:
        return False
    start, middle, end = editor.facts.dtype(inner.inputs[0]), _target(inner, editor), _target(node, editor)
    if start is None or middle is None or end is None or not _lossless(start, middle):
        return False
    if end == start:
        return editor.replace(node.outputs[0], inner.inputs[0])
    known = _FLOATS | _INTEGERS
    if end not in known or (end in _INTEGERS and (middle in _FLOATS or middle == ir.DataType.BOOL)):
        return False  # float to integer out of range is not defined; the two ways may differ
    editor.set_input(node, 0, inner.inputs[0])
    return True


def _target(node: ir.Node, editor: Editor) -> ir.DataType | None:
    if node.op_type == "CastLike":
        return editor.facts.dtype(node.inputs[1])
    return ir.DataType(attribute(node, "to", 0)) if "to" in node.attributes else None


def _lossless(start: ir.DataType, end: ir.DataType) -> bool:
    known = _FLOATS | _INTEGERS
    if start not in known or end not in known:
        return False
    if end in _FLOATS and start in _INTEGERS - {ir.DataType.BOOL}:
        # numpy calls int64 to float64 safe; it is not.
        return int(np.iinfo(start.numpy()).max).bit_length() <= np.finfo(end.numpy()).nmant + 1
    return bool(np.can_cast(start.numpy(), end.numpy(), casting="safe"))


RULES = (
    Rule("cast to the same type", ("Cast", "CastLike"), _same_type),
    Rule("chain of casts", ("Cast",), _chain),
)
