"""Products of rows with the weights of the group that they belong to, as mixtures of experts have them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import onnx_ir as ir
import torch
from onnxscript import opset18 as op

from .literals import ints, number


def grouped_product(rows: Any, weights: Any, ends: Any) -> Any:
    """Every row times the matrix of its group; rows behind the last group give 0.

    One product per group, so that the weights of each are constants, and no row meets another group's.

    Args:
        rows: [S, K], sorted by group.
        weights: [E, K, N].
        ends: [E] integers that do not decrease, the row behind the last of each group.

    Raises:
        NotImplementedError: the shapes are others, or the number of groups is not known.
    """
    groups, width = _static(weights, 0), _static(weights, 2)
    if len(rows.shape) != 2 or len(weights.shape) != 3 or groups is None or width is None:
        raise NotImplementedError("products of groups are translated for rows [S, K] and weights [E, K, N]")
    count = op.Shape(rows, start=0, end=1)
    bounds = _parts(op.Cast(ends, to=ir.DataType.INT64), groups)
    starts = [ints(0), *bounds[:-1]]
    products = [
        op.MatMul(op.Slice(rows, start, end, ints(0)), op.Squeeze(weight, ints(0)))
        for start, end, weight in zip(starts, bounds, _parts(weights, groups), strict=True)
    ]
    left = op.Concat(op.Sub(count, bounds[-1]), ints(width), axis=0)
    joined = op.Concat(*products, op.Expand(number(0.0, rows), left), axis=0)
    return op.Reshape(joined, op.Concat(count, ints(width), axis=0))


def _static(value: Any, axis: int) -> int | None:
    size = value.shape[axis] if value.shape is not None and axis < len(value.shape) else None
    return size if isinstance(size, int) else None


def _parts(value: Any, count: int) -> list[Any]:
    """Slices of one along the first axis."""
    if count == 1:
        return [value]
    return list(op.Split(value, axis=0, num_outputs=count))


def _grouped_mm(rows: Any, weights: Any, ends: Any = None, bias: Any = None, out_dtype: Any = None) -> Any:
    if ends is None or bias is not None or out_dtype is not None:
        raise NotImplementedError("grouped_mm is translated with offs, without bias and out_dtype")
    return grouped_product(rows, weights, ends)


def table() -> dict[Callable[..., Any], Callable[..., Any]]:
    """Translations; that of transformers, whose CPU form it is, only where transformers has been imported."""
    found: dict[Callable[..., Any], Callable[..., Any]] = {torch.ops.aten._grouped_mm.default: _grouped_mm}
    if hasattr(torch.ops.transformers, "grouped_mm_fallback"):
        found[torch.ops.transformers.grouped_mm_fallback.default] = grouped_product
    return found
