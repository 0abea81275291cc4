"""How much a row of an activation (a token) counts: by its relative error.

What follows a product is a norm, or a sum with a residual that is as large where the product is. Otherwise a
single token with massive activations would decide for all.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from optc import newnode
from optc.newnode import New, Operand

from .calibration.probes import AXES_ARE_AN_INPUT, reduction

_DAMPING = 0.05  # of the mean power, added to the power of a row: rows of zeros must not count most
_TINY = 1e-20


def inverse_power(value: ir.Value, opset: int) -> New:
    """The reciprocal of the mean square along the last axis, which is kept with size 1."""
    power = _row_mean(_node("Mul", value, value), opset)
    floor = _node("Mul", reduction("ReduceMean", power, None, opset), _scalar(_DAMPING))
    return _node("Reciprocal", _node("Add", _node("Add", power, floor), _scalar(_TINY)))


def _row_mean(value: New, opset: int) -> New:
    if opset < AXES_ARE_AN_INPUT:
        return New("ReduceMean", (value,), ir.DataType.FLOAT, None, {"axes": [-1], "keepdims": 1})
    axes = newnode.constant(np.array([-1], np.int64))
    return New("ReduceMean", (value, axes), ir.DataType.FLOAT, None, {"keepdims": 1})


def _node(op_type: str, *inputs: Operand) -> New:
    """A node of the observed copy, which needs no shapes."""
    return New(op_type, inputs, ir.DataType.FLOAT, None)


def _scalar(number: float) -> New:
    return newnode.constant(np.array(number, np.float32))
