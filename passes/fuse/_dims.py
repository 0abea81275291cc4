"""Comparing whole shapes whose dimensions may be symbolic."""

from __future__ import annotations

import onnx_ir as ir

from optc import match


def same_shape(a: ir.Value | None, b: ir.Value | None) -> bool:
    """Whether the two values are known to have equal shapes."""
    rank = match.rank(a)
    if rank is None or rank != match.rank(b):
        return False
    return all(match.same_dim(match.dim(a, axis), match.dim(b, axis)) for axis in range(rank))


def broadcasts_into(a: ir.Value | None, b: ir.Value | None) -> bool:
    """Whether ``a`` is known to broadcast to the shape of ``b`` without changing it."""
    own, other = match.rank(a), match.rank(b)
    if own is None or other is None or own > other:
        return False
    pairs = ((match.dim(a, axis), match.dim(b, axis)) for axis in range(-own, 0))
    return all(one == 1 or match.same_dim(one, two) for one, two in pairs)
