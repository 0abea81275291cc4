"""Masks that let each query attend to the keys up to its own position."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from optc import match

from ._frame import Dim, same
from ._scale import known_number

_LARGEST = 4096 * 4096  # elements of a constant mask that are looked at


def is_causal(mask: ir.Value, queries: Dim, keys: Dim) -> bool:
    """Whether ``mask``, bool or to be added, hides exactly the keys after each query."""
    shape = mask.shape
    if shape is None or shape.rank() < 2 or any(size != 1 for size in shape[:-2]):
        return False
    if not same(shape[-2:], [queries, keys]):
        return False
    if match.is_constant(mask):
        return _hides_future(mask)
    return _lower_triangle(mask) or _chosen_triangle(mask)


def _hides_future(mask: ir.Value) -> bool:
    assert mask.shape is not None
    size = [each for each in mask.shape if isinstance(each, int)]
    if len(size) != mask.shape.rank() or np.prod(size) > _LARGEST:
        return False
    array = match.constant(mask)
    if array is None:
        return False
    past = np.tri(size[-2], size[-1], dtype=np.bool_)
    if array.dtype == np.bool_:
        return bool((array == past).all())
    return bool((array == np.where(past, 0, -np.inf)).all())


def _chosen_triangle(mask: ir.Value) -> bool:
    """Where(past, 0, -inf) or Where(future, -inf, 0)."""
    choice = match.producer(mask, "Where")
    if choice is None:
        return False
    picked = (known_number(choice.inputs[1]), known_number(choice.inputs[2]))
    if picked == (0.0, -np.inf):
        return _lower_triangle(choice.inputs[0])
    return picked == (-np.inf, 0.0) and _upper_triangle(choice.inputs[0])


def _lower_triangle(value: ir.Value | None) -> bool:
    """Trilu(ones, upper=0, k=0)."""
    inverse = match.producer(value, "Not")
    if inverse is not None:
        return _upper_triangle(inverse.inputs[0])
    return _triangle(value, upper=0, diagonal=0)


def _upper_triangle(value: ir.Value | None) -> bool:
    """Trilu(ones, upper=1, k=1)."""
    inverse = match.producer(value, "Not")
    if inverse is not None:
        return _lower_triangle(inverse.inputs[0])
    return _triangle(value, upper=1, diagonal=1)


def _triangle(value: ir.Value | None, *, upper: int, diagonal: int) -> bool:
    cast = match.producer(value, "Cast")
    node = match.producer(cast.inputs[0] if cast is not None else value, "Trilu")
    if node is None or match.attr_int(node, "upper", 1) != upper:
        return False
    offset = 0.0 if len(node.inputs) < 2 or node.inputs[1] is None else match.scalar(node.inputs[1])
    ones = _ones(node.inputs[0])
    return offset == diagonal and ones


def _ones(value: ir.Value | None) -> bool:
    filled = known_number(value)
    if filled is not None:
        return filled == 1
    expand = match.producer(value, "Expand")
    array = match.constant(expand.inputs[0] if expand is not None else value)
    return array is not None and array.size <= _LARGEST and bool(array.all())
