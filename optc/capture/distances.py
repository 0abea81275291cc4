"""Distances between the rows of two tables in terms of ONNX."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import onnx_ir as ir
import torch
from onnxscript import opset18 as op

from .literals import ints, number
from .recorded import recorded

_MM, _DIRECT = 1, 2
_FEW = 25  # rows, up to which torch does not take a matrix product


def cdist(x1: Any, x2: Any, p: float, compute_mode: int | None = None) -> Any:
    """[..., P, M] and [..., R, M] to [..., P, R].

    Euclidean distances of more than 25 rows come from a matrix product, as in torch: it takes less time and
    memory, and is less exact for points close to each other. Where the numbers of rows are not known,
    the model decides when it runs.
    """
    if p != 2 or compute_mode == _DIRECT:
        return _direct(x1, x2, p)
    rows = (x1.shape[-2], x2.shape[-2])
    if compute_mode == _MM or any(isinstance(count, int) and count > _FEW for count in rows):
        return _by_product(x1, x2)
    if all(isinstance(count, int) for count in rows):
        return _direct(x1, x2, p)
    sizes = [op.Shape(x, start=-2, end=-1) for x in (x1, x2)]
    many = op.Squeeze(op.Greater(op.Max(*sizes), ints(_FEW)))
    return op.If(
        many,
        then_branch=_branch("product", lambda: _by_product(x1, x2)),
        else_branch=_branch("direct", lambda: _direct(x1, x2, p)),
    )


def _branch(name: str, compute: Callable[[], Any]) -> Any:
    result, nodes = recorded(compute)
    return ir.Graph([], [result], nodes=nodes, name=name)


def _by_product(x1: Any, x2: Any) -> Any:
    """|a|^2 + |b|^2 - 2ab as one product of longer rows, in the order of torch."""
    (norm1, one1), (norm2, one2) = (
        (
            square := op.ReduceSum(op.Mul(x, x), ints(len(x.shape) - 1)),
            op.Expand(number(1.0, x), op.Shape(square)),
        )
        for x in (x1, x2)
    )
    left = op.Concat(op.Mul(x1, number(-2.0, x1)), norm1, one1, axis=-1)
    right = op.Concat(x2, one2, norm2, axis=-1)
    swapped = op.Transpose(right, perm=_swapped(len(x2.shape)))
    squares, zero = op.MatMul(left, swapped), number(0.0, x1)
    return op.Sqrt(op.Where(op.Less(squares, zero), zero, squares))


def _swapped(rank: int) -> list[int]:
    return [*range(rank - 2), rank - 1, rank - 2]


def _direct(x1: Any, x2: Any, p: float) -> Any:
    axis = ints(
        max(len(x1.shape), len(x2.shape))
    )  # not -1: ONNX Runtime would keep the axis of what is empty
    apart = op.Abs(op.Sub(op.Unsqueeze(x1, ints(-2)), op.Unsqueeze(x2, ints(-3))))
    if p == 0:
        return op.ReduceSum(op.Min(op.Ceil(apart), number(1.0, x1)), axis, keepdims=0)
    if p == 1:
        return op.ReduceSum(apart, axis, keepdims=0)
    if p == 2:
        return op.Sqrt(op.ReduceSum(op.Mul(apart, apart), axis, keepdims=0))
    if p == float("inf"):
        return _largest(apart, x1, axis)
    total = op.ReduceSum(op.Pow(apart, number(p, x1)), axis, keepdims=0)
    return op.Pow(total, number(1 / p, x1))


def _largest(apart: Any, like: Any, axis: Any) -> Any:
    """As in torch, NaN is nothing, and the largest of nothing is 0."""
    zero = number(0.0, like)
    more = op.Expand(zero, op.Concat(op.Shape(apart, start=0, end=-1), ints(1), axis=0))
    return op.ReduceMax(op.Concat(op.Where(op.IsNaN(apart), zero, apart), more, axis=-1), axis, keepdims=0)


TABLE: dict[Callable[..., Any], Callable[..., Any]] = {torch.ops.aten._cdist_forward.default: cdist}
