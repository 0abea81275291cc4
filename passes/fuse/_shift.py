"""Biases that attention lets pass: that of the keys cancels, that of the values comes out as it went in.

A bias of the keys adds one number to all scores of a query, which its softmax does not see. The weights of a
query sum to 1, so a bias of the values is added to the result, and the next projection takes it into its own
bias: ``(a + b) @ w + c = a @ w + (b @ w + c)``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from optc import match
from optc.newnode import New, Operand, constant

from . import _new
from ._bias import bias_add, is_bias

_DEPTH = 16
_MOVES = ("Expand", "Unsqueeze", "Squeeze", "Reshape", "Slice", "Transpose", "Identity", "Gather", "Tile")
_HIDDEN = -1e30
_LARGEST = 4096.0  # a larger bias leaves little of the scores in float32; without it they are all there again


@dataclass(frozen=True)
class Biased:
    """``source`` + ``bias``, a constant vector over the last axis, as ``add`` computes it."""

    source: ir.Value
    bias: np.ndarray
    add: ir.Node


def biased(operand: Operand) -> Biased | None:
    """How a bias was added to an operand, if that is its last step."""
    add = match.producer(operand, "Add") if isinstance(operand, ir.Value) else None
    for source, bias in match.operands(add) if add is not None else ():
        if is_bias(bias, source) and source.shape is not None and source.dtype is not None:
            array = match.constant(bias)
            if array is not None and (np.abs(array.astype(np.float64)) <= _LARGEST).all():
                assert add is not None
                return Biased(source, array, add)
    return None


def hides_all(mask: ir.Value | None) -> bool:
    """Whether what ``mask`` hides is far below any score, so that nothing of the score is left.

    Where -10000 hides all keys of a query, its weights depend on how the scores were rounded.
    """
    value, depth = mask, _DEPTH
    while value is not None and value.dtype != ir.DataType.BOOL:
        node = match.producer(value, *_MOVES)
        if node is None or depth == 0:
            return all(map(_is_extreme, _choices(value)))
        value, depth = node.inputs[0], depth - 1
    return True


def _choices(value: ir.Value) -> list[ir.Value | None]:
    node = match.producer(value, "Where")
    return [value] if node is None else [*node.inputs[1:]]


def _is_extreme(value: ir.Value | None) -> bool:
    array = match.constant(value)
    return array is not None and bool(((array == 0) | (array <= _HIDDEN)).all())


@dataclass(frozen=True)
class Projected:
    """The projection behind attention: ``output`` of ``nodes``, as ``after`` makes it of the result."""

    output: ir.Value
    nodes: tuple[ir.Node, ...]
    after: Callable[[ir.Value], Operand]


def projected(result: ir.Value, bias: np.ndarray) -> Projected | None:
    """The projection of ``result`` with ``bias`` in its own bias, where it has one and is the only reader."""
    product = match.only_reader(result)
    if product is None or not match.is_op(product, "MatMul") or product.inputs[0] is not result:
        return None
    weight, found = product.inputs[1], bias_add(product.outputs[0])
    if weight is None or match.rank(weight) != 2 or found is None:
        return None
    add, own = found
    matrix, vector = match.constant(weight), match.constant(own)
    dtype, shape = result.dtype, product.outputs[0].shape
    if matrix is None or vector is None or dtype is None or shape is None:
        return None
    joint = constant((bias.astype(np.float64) @ matrix.astype(np.float64) + vector).astype(vector.dtype))

    def after(y: ir.Value) -> Operand:
        y = _new.typed(y, result, result.shape or ir.Shape([]))
        return New("Add", (New("MatMul", (y, weight), dtype, shape), joint), dtype, shape)

    return Projected(add.outputs[0], (product, add), after)
