"""The nodes that attention patterns put around a fused call: layout changes and mask arithmetic."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from optc.analysis.broadcast_rules import caps
from optc.newnode import New, Operand, constant
from optc.rewrite import NearMiss


def element_type(x: Operand) -> ir.DataType:
    """The element type of a value; a near miss where shape inference did not find it."""
    if x.dtype is None:
        raise NearMiss(f"the element type of {_label(x)} is not known")
    return x.dtype


def dims(x: Operand) -> list[int | ir.SymbolicDim]:
    """The dimensions of a value; a near miss where shape inference did not find its rank."""
    if x.shape is None:
        raise NearMiss(f"the rank of {_label(x)} is not known")
    return list(x.shape)


def _label(x: Operand) -> str:
    return repr(x.name) if isinstance(x, ir.Value) else x.op_type


def typed(x: ir.Value, like: ir.Value, shape: ir.Shape) -> ir.Value:
    """``x``, the result of a new call, told its shape and that it has the type of ``like``."""
    x.type, x.shape = like.type, shape
    return x


def ints(*values: int) -> New:
    """A 1-D int64 constant."""
    return constant(np.array(values, np.int64))


def number(value: float, kind: ir.DataType) -> New:
    """A scalar constant of the element type ``kind``."""
    return constant(np.array(value).astype(kind.numpy()))


def transpose(x: Operand, perm: Sequence[int]) -> Operand:
    """``x`` with its axes permuted; ``x`` itself for the identity."""
    if list(perm) == list(range(len(perm))):
        return x
    size = dims(x)
    return New("Transpose", (x,), element_type(x), ir.Shape([size[p] for p in perm]), {"perm": [*perm]})


def unsqueeze(x: Operand, *axes: int) -> Operand:
    """``x`` with dimensions of 1 at ``axes`` of the result, in ascending order."""
    size = dims(x)
    for axis in axes:
        size.insert(axis, 1)
    return New("Unsqueeze", (x, ints(*axes)), element_type(x), ir.Shape(size))


def squeeze(x: Operand, axis: int) -> Operand:
    """``x`` without its dimension ``axis``, which is 1."""
    size = dims(x)
    del size[axis]
    return New("Squeeze", (x, ints(axis)), element_type(x), ir.Shape(size))


def can_reshape(x: Operand, sizes: Sequence[int | ir.SymbolicDim]) -> bool:
    """Whether all of ``sizes`` but one are numbers or dimensions of ``x``."""
    return sum(_axis_of(size, x) is None for size in sizes if not isinstance(size, int)) <= 1


def reshape(x: Operand, sizes: Sequence[int | ir.SymbolicDim]) -> Operand:
    """``x`` with the dimensions ``sizes``, for which :func:`can_reshape` holds."""
    target = [size if isinstance(size, int) else -1 for size in sizes]
    if target.count(-1) <= 1:
        return New("Reshape", (x, ints(*target)), element_type(x), ir.Shape(sizes))
    shape = New("Shape", (x,), ir.DataType.INT64, ir.Shape([len(dims(x))]))
    parts = tuple(_size(size, x, shape) for size in sizes)
    joint = New("Concat", parts, ir.DataType.INT64, ir.Shape([len(sizes)]), {"axis": 0})
    return New("Reshape", (x, joint), element_type(x), ir.Shape(sizes))


def _axis_of(size: ir.SymbolicDim, x: Operand) -> int | None:
    """The axis of ``x`` that is known to have the dimension ``size``."""
    if size.value is None:
        return None
    return next((axis for axis, own in enumerate(dims(x)) if own == size), None)


def _size(size: int | ir.SymbolicDim, x: Operand, shape: New) -> New:
    """One element of the shape to reshape ``x``, of shape ``shape``, to."""
    axis = None if isinstance(size, int) else _axis_of(size, x)
    if axis is None:
        return ints(size if isinstance(size, int) else -1)
    return New("Gather", (shape, ints(axis)), ir.DataType.INT64, ir.Shape([1]))


def slice_last(x: Operand, start: int, stop: int, step: int = 1) -> Operand:
    """``x[..., start:stop:step]``, with ``start`` and ``stop`` in range."""
    size = [*dims(x)[:-1], len(range(start, stop, step))]
    bounds = (ints(start), ints(stop), ints(-1), *([ints(step)] if step != 1 else []))
    return New("Slice", (x, *bounds), element_type(x), ir.Shape(size))


def add(x: Operand, y: Operand) -> Operand:
    """``x + y``."""
    return New("Add", (x, y), element_type(x), _broadcast(x, y))


def multiply(x: Operand, y: Operand) -> Operand:
    """``x * y``."""
    return New("Mul", (x, y), element_type(x), _broadcast(x, y))


def maximum(x: Operand, y: Operand) -> Operand:
    """The larger of ``x`` and ``y``."""
    return New("Max", (x, y), element_type(x), _broadcast(x, y))


def both(x: Operand, y: Operand) -> Operand:
    """``x and y``."""
    return New("And", (x, y), ir.DataType.BOOL, _broadcast(x, y))


def negate(x: Operand) -> Operand:
    """``-x``."""
    return New("Neg", (x,), element_type(x), x.shape)


def invert(x: Operand) -> Operand:
    """``not x``; what a ``Not`` inverted where ``x`` comes from one."""
    node = x.producer() if isinstance(x, ir.Value) else None
    if node is not None and node.op_type == "Not" and node.inputs[0] is not None:
        return node.inputs[0]
    return New("Not", (x,), ir.DataType.BOOL, x.shape)


def where(condition: Operand, x: Operand, y: Operand) -> Operand:
    """``x`` where ``condition`` holds, else ``y``."""
    return New("Where", (condition, x, y), element_type(x), _broadcast(condition, x, y))


def _broadcast(*operands: Operand) -> ir.Shape:
    """The shape of an element-wise result; a size that is not certain is left unknown."""
    sizes = [dims(x) for x in operands]
    rank = max(map(len, sizes))
    padded = [[*[1] * (rank - len(size)), *size] for size in sizes]
    return ir.Shape([_wider([*axis]) for axis in zip(*padded, strict=True)])


def _wider(sizes: list[int | ir.SymbolicDim]) -> int | ir.SymbolicDim | None:
    large = [size for size in sizes if size != 1]
    if not large:
        return 1
    fixed = next((size for size in large if isinstance(size, int)), None)
    if fixed is not None:
        return fixed
    return next((size for size in large if all(each == size or caps(each, size) for each in large)), None)
