"""Comparing and multiplying dims that may be symbolic (``ir.SymbolicDim`` over the dims of the inputs)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import onnx_ir as ir

Dim = int | ir.SymbolicDim
Dims = tuple[Dim, ...]


def same(a: Dim, b: Dim) -> bool:
    """Whether two dims are equal for every value of the symbols; False when that is not certain."""
    if isinstance(a, int) and isinstance(b, int):
        return a == b
    if not _known(a) or not _known(b):
        return False
    if isinstance(a, ir.SymbolicDim) and isinstance(b, ir.SymbolicDim) and a.value == b.value:
        return True
    difference = a - b  # sympy cancels equal terms
    return difference == 0 if isinstance(difference, int) else difference.value == "0"


def same_shape(a: Sequence[Dim] | None, b: Sequence[Dim] | None) -> bool:
    """Whether two shapes are known and provably equal."""
    if a is None or b is None or len(a) != len(b):
        return False
    return all(same(x, y) for x, y in zip(a, b, strict=True))


def product(dims: Iterable[Dim]) -> Dim:
    """The number of elements, an expression when a dim is one."""
    total: Dim = 1
    for dim in dims:
        total = total * dim
    return total


def static(dims: Sequence[Dim] | None) -> tuple[int, ...] | None:
    """The shape when every dim is a number."""
    if dims is None or not all(isinstance(dim, int) for dim in dims):
        return None
    return tuple(dim for dim in dims if isinstance(dim, int))


def broadcast(shapes: Sequence[Sequence[Dim]]) -> tuple[Dim | None, ...]:
    """The multidirectional broadcast; None for a dim that cannot be told (two different symbols)."""
    rank = max(len(shape) for shape in shapes)
    padded = [(1,) * (rank - len(shape)) + tuple(shape) for shape in shapes]
    return tuple(_broadcast_dim(column) for column in zip(*padded, strict=True))


def _broadcast_dim(column: tuple[Dim, ...]) -> Dim | None:
    numbers = [dim for dim in column if isinstance(dim, int) and dim != 1]
    if numbers:
        return numbers[0]
    symbols = [dim for dim in column if not isinstance(dim, int)]
    if not symbols:
        return 1
    return symbols[0] if all(same(symbols[0], other) for other in symbols[1:]) else None


def _known(dim: Dim) -> bool:
    return isinstance(dim, int) or dim.value is not None
