"""Softmax and the maximum of its rows, which it subtracts itself."""

from __future__ import annotations

import onnx_ir as ir

from .editor import Editor, Rule, attribute, operand, producer

_FULL_PRECISION = (ir.DataType.FLOAT, ir.DataType.DOUBLE)


def _minus_maximum(node: ir.Node, editor: Editor) -> bool:
    """``softmax(x - max(x))`` over one axis as ``softmax(x)``.

    Bit for bit: softmax subtracts the maximum itself, and the maximum of what is left here is 0. A row with
    +inf, with NaN, or of nothing but -inf is NaN in both.
    """
    source, axis = _below_zero(node.inputs[0], editor)
    if source is None or source.shape is None or axis != attribute(node, "axis", -1) % len(source.shape):
        return False
    editor.set_input(node, 0, source)
    return True


def _written_out(node: ir.Node, editor: Editor) -> bool:
    """``e / sum(e)`` of ``e = exp(x - max(x))``, all over one axis, as ``softmax(x)``.

    Without the maximum it stays: there large numbers overflow, and in softmax they do not.
    """
    powers, total = producer(node.inputs[0], "Exp"), producer(node.inputs[1], "ReduceSum")
    if powers is None or total is None or total.inputs[0] is not powers.outputs[0]:
        return False
    source, axis = _below_zero(powers.inputs[0], editor)
    if source is None or axis is None or axis != _one_axis(total, editor):
        return False
    if source.dtype not in _FULL_PRECISION:
        return editor.skip(node, "softmax stays written out: half precision would round differently")
    if powers.outputs[0].is_graph_output() or len(powers.outputs[0].uses()) > 2:
        return editor.skip(node, "softmax stays written out: its exponentials are used otherwise")
    return editor.replace(node.outputs[0], editor.add(node, "Softmax", [source], {"axis": axis}))


def _below_zero(value: ir.Value | None, editor: Editor) -> tuple[ir.Value | None, int | None]:
    """``x`` and the axis, where ``value`` is ``x`` minus its maximum over one axis; else None twice."""
    shift = producer(value, "Sub")
    peak = producer(shift.inputs[1], "ReduceMax") if shift is not None else None
    if shift is None or peak is None or peak.inputs[0] is not shift.inputs[0] or editor.opset < 13:
        return None, None
    source = shift.inputs[0]
    if source is None or source.dtype is None or not source.dtype.is_floating_point():
        return None, None
    axis = _one_axis(peak, editor)
    return (None, None) if axis is None else (source, axis)


def _one_axis(reduction: ir.Node, editor: Editor) -> int | None:
    """The only axis of a reduction that keeps it, counted from the front; None for any other."""
    source = reduction.inputs[0]
    if source is None or not source.shape or attribute(reduction, "keepdims", 1) != 1:
        return None
    given = attribute(reduction, "axes", None)
    if given is None:
        array = editor.facts.array(operand(reduction, 1))
        given = [] if array is None else array.reshape(-1)
    return int(given[0]) % len(source.shape) if len(given) == 1 else None


RULES = (
    Rule("softmax of scores minus their maximum", ("Softmax", "LogSoftmax"), _minus_maximum),
    Rule("softmax written out", ("Div",), _written_out),
)
