"""Between which numbers a float value lies in every run, where the graph tells."""

from __future__ import annotations

import operator

import numpy as np
import onnx_ir as ir

from optc.match import constant, producer

Bounds = tuple[np.floating, np.floating]

_DEPTH = 16
_FLOATS = (ir.DataType.FLOAT, ir.DataType.FLOAT16, ir.DataType.BFLOAT16)
_MOVES = ("Expand", "Unsqueeze", "Squeeze", "Reshape", "Slice", "Transpose", "Identity", "Gather", "Tile")


def bounds(value: ir.Value | None, depth: int = _DEPTH) -> Bounds | None:
    """The smallest and the largest number that ``value`` (a float) can hold; None when it is not known.

    Both are finite: no element is infinite or NaN. Sees through constants, what selects, moves and joins
    elements, sums, products and differences, rounded as the type rounds them, and truth values as numbers.
    """
    if value is None or depth == 0 or value.dtype not in _FLOATS:
        return None
    array = constant(value)
    if array is not None:
        return _finite(array.min(), array.max()) if array.size else None
    if node := producer(value, *_MOVES):
        return bounds(node.inputs[0], depth - 1)
    if node := producer(value, "Where", "Concat"):
        return _hull([bounds(each, depth - 1) for each in node.inputs[node.op_type == "Where" :]])
    if (node := producer(value, "Cast")) and node.inputs[0] is not None:
        number = value.dtype.numpy().type
        return (number(0), number(1)) if node.inputs[0].dtype == ir.DataType.BOOL else None
    if node := producer(value, *_ARITHMETIC):
        first, second = (bounds(each, depth - 1) for each in node.inputs)
        if first is None or second is None:
            return None
        with np.errstate(over="ignore"):
            ends = [_ARITHMETIC[node.op_type](a, b) for a in first for b in second]
        return _finite(min(ends), max(ends))
    return None


_ARITHMETIC = {"Add": operator.add, "Sub": operator.sub, "Mul": operator.mul}


def masked_or_above(value: ir.Value | None, floor: float, depth: int = _DEPTH) -> bool:
    """Whether every element of ``value`` (float32) is known to be -inf, or at least ``floor`` and not NaN.

    Sees through constants, and what selects, moves and joins elements.
    """
    if value is None or depth == 0 or value.dtype != ir.DataType.FLOAT:
        return False
    array = constant(value)
    if array is not None:
        return bool(((array == -np.inf) | (array >= floor)).all())
    if node := producer(value, *_MOVES):
        return masked_or_above(node.inputs[0], floor, depth - 1)
    if node := producer(value, "Where", "Concat"):
        branches = node.inputs[node.op_type == "Where" :]
        return all(masked_or_above(each, floor, depth - 1) for each in branches)
    known = bounds(value, depth)
    return known is not None and bool(known[0] >= floor)


def has_no_masked_row(mask: ir.Value) -> bool:
    """Whether it can be shown that no row (along the last axis) of a mask masks everything.

    Masks are boolean (True: keep) or additive (-inf: masked).
    """
    array = constant(mask)
    if array is None:
        return bounds(mask) is not None
    if array.ndim == 0 or array.shape[-1] == 0:
        return False
    kept = array if array.dtype == bool else array > -np.inf
    return bool(kept.any(-1).all())


def _hull(parts: list[Bounds | None]) -> Bounds | None:
    known = [part for part in parts if part is not None]
    if not known or len(known) < len(parts):
        return None
    return min(low for low, _ in known), max(high for _, high in known)


def _finite(low: np.floating, high: np.floating) -> Bounds | None:
    return (low, high) if np.isfinite(low) and np.isfinite(high) else None
