"""Between which numbers a float value lies in every run, where the graph tells."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from optc.match import constant, producer

Bounds = tuple[np.float32, np.float32]

_DEPTH = 16
_MOVES = ("Expand", "Unsqueeze", "Squeeze", "Reshape", "Slice", "Transpose", "Identity", "Gather", "Tile")


def bounds(value: ir.Value | None, depth: int = _DEPTH) -> Bounds | None:
    """The smallest and the largest number that ``value`` (float32) can hold; None when it is not known.

    Both are finite: no element is infinite or NaN. Sees through constants, what selects, moves and joins
    elements, and sums, rounded as float32 rounds them.
    """
    if value is None or depth == 0 or value.dtype != ir.DataType.FLOAT:
        return None
    array = constant(value)
    if array is not None:
        return _finite(array.min(), array.max()) if array.size else None
    if node := producer(value, *_MOVES):
        return bounds(node.inputs[0], depth - 1)
    if node := producer(value, "Where", "Concat"):
        return _hull([bounds(each, depth - 1) for each in node.inputs[node.op_type == "Where" :]])
    if node := producer(value, "Add"):
        first, second = (bounds(each, depth - 1) for each in node.inputs)
        if first is None or second is None:
            return None
        with np.errstate(over="ignore"):
            return _finite(first[0] + second[0], first[1] + second[1])
    return None


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


def _hull(parts: list[Bounds | None]) -> Bounds | None:
    known = [part for part in parts if part is not None]
    if not known or len(known) < len(parts):
        return None
    return min(low for low, _ in known), max(high for _, high in known)


def _finite(low: np.float32, high: np.float32) -> Bounds | None:
    return (low, high) if np.isfinite(low) and np.isfinite(high) else None
