"""A softmax does not see what is subtracted from a whole row, so the maximum of the row need not be."""

from __future__ import annotations

import onnx_ir as ir

from .editor import Editor, Rule, attribute, operand, producer


def _minus_maximum(node: ir.Node, editor: Editor) -> bool:
    """``softmax(x - max(x))`` over one axis as ``softmax(x)``.

    Bit for bit: softmax subtracts the maximum itself, and the maximum of what is left here is 0. A row with
    +inf, with NaN, or of nothing but -inf is NaN in both.
    """
    shift = producer(node.inputs[0], "Sub")
    peak = producer(shift.inputs[1], "ReduceMax") if shift is not None else None
    if shift is None or peak is None or peak.inputs[0] is not shift.inputs[0] or editor.opset < 13:
        return False
    source = shift.inputs[0]
    if source is None or source.shape is None or source.dtype is None:
        return False
    rank = source.shape.rank()
    axes, axis = _axes(peak, editor), attribute(node, "axis", -1)
    if rank == 0 or not source.dtype.is_floating_point() or attribute(peak, "keepdims", 1) != 1:
        return False
    if axes is None or [each % rank for each in axes] != [axis % rank]:
        return False
    editor.set_input(node, 0, source)
    return True


def _axes(reduction: ir.Node, editor: Editor) -> list[int] | None:
    given = attribute(reduction, "axes", None)
    if given is not None:
        return [*given]
    array = editor.facts.array(operand(reduction, 1))
    return None if array is None else [int(each) for each in array.reshape(-1)]


RULES = (Rule("softmax of scores minus their maximum", ("Softmax", "LogSoftmax"), _minus_maximum),)
