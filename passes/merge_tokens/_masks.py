"""What the mask of an attention says: nothing about single keys, which tokens are padding, or more."""

from __future__ import annotations

from typing import Literal

import numpy as np
import onnx_ir as ir

from optc import match

_DEPTH = 64
_DROPPED = -1000.0  # what is added to the scores of keys that are masked is below
_TESTS = ("Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual")
_POINTWISE = (
    "Where",
    "Add",
    "Sub",
    "Mul",
    "And",
    "Or",
    "Min",
    "Max",
    "Not",
    "Cast",
    "Identity",
    "Neg",
    *_TESTS,
)
_MOVES = ("Expand", "Unsqueeze", "Squeeze", "Reshape")
Meaning = Literal["nothing", "uniform", "padding"]
MEANINGS = ("nothing", "uniform", "padding")


def meaning(mask: ir.Value | None) -> Meaning | str:
    """What a mask does, or why that is not understood.

    "nothing"; "uniform", one number for all keys and queries; "padding", which drops keys for every query
    alike. The mask is additive or boolean, broadcast to [batch, heads, queries, keys].
    """
    if mask is None or _is_nothing(mask):
        return "nothing"
    rank = match.rank(mask)
    if rank is None:
        return "the rank of the mask of an attention is not known"
    if all(match.dim(mask, axis) == 1 for axis in (-1, -2)[:rank]):
        return "uniform"
    if not _varies(mask, -1):
        return "the mask of an attention differs from query to query, not from key to key"
    if rank > 1 and _is_causal(mask):
        return "the attention is causal"
    if rank > 1 and _varies(mask, -2):
        return "the mask of an attention differs from query to query (causal, relative, windows)"
    if rank > 2 and _varies(mask, -3):
        return "the mask of an attention differs from head to head"
    if not _is_of_flags(mask, _DEPTH, {}):
        return "the mask of an attention is not known to be one of padding"
    return "padding"


def _is_nothing(mask: ir.Value) -> bool:
    """Whether it changes no probability: what is added to all keys alike does not."""
    array = match.constant(mask)
    if array is None or array.dtype == bool:
        return array is not None and bool(array.all())
    flat = array.reshape(-1, array.shape[-1]) if array.ndim else array.reshape(1, 1)
    return bool(np.isfinite(flat).all() and (flat == flat[:, :1]).all())


def _is_causal(mask: ir.Value) -> bool:
    """Whether a constant mask drops every key behind its query."""
    array = match.constant(mask)
    if array is None or array.shape[-1] != array.shape[-2] or array.shape[-1] < 2:
        return False
    keeps = array if array.dtype == bool else array > _DROPPED
    behind = ~np.tri(array.shape[-1], dtype=bool)
    return not bool(keeps[..., behind].any())


def _varies(value: ir.Value, axis: int, depth: int = _DEPTH) -> bool:
    """Whether elements along ``axis`` (counted from the end) may differ."""
    rank = match.rank(value)
    if rank is None or depth == 0:
        return True
    if rank < -axis or match.dim(value, axis) == 1:
        return False
    array = match.constant(value)
    if array is not None:
        return not np.array_equal(array, np.broadcast_to(np.take(array, [0], axis), array.shape), True)
    node = value.producer()
    if node is None or node.domain not in ("", "ai.onnx"):
        return True
    if node.op_type == "Expand":
        source = node.inputs[0]
        return source is None or _varies(source, axis, depth - 1)
    if node.op_type in _POINTWISE:
        return any(_varies(v, axis, depth - 1) for v in node.inputs if v is not None)
    return True


def _is_of_flags(value: ir.Value | None, depth: int, seen: dict[ir.Value, bool]) -> bool:
    """Whether the mask is made of flags per token: an integer or boolean input, or one [batch, tokens]."""
    if value is None or match.is_constant(value):
        return True
    if value in seen:
        return seen[value]
    node = value.producer()
    if node is None:
        dtype = value.dtype
        flags = dtype is not None and (dtype.is_integer() or dtype == ir.DataType.BOOL)
        return flags or match.rank(value) == 2
    if depth == 0 or node.domain not in ("", "ai.onnx") or node.op_type not in (*_POINTWISE, *_MOVES):
        return False
    data = node.inputs[:1] if node.op_type in _MOVES else node.inputs
    seen[value] = all(_is_of_flags(each, depth - 1, seen) for each in data)
    return seen[value]
