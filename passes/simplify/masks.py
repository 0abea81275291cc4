"""Gathers with coordinates: an index that counts along an axis picks the data as it stands."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from .dims import Dims, same
from .editor import Editor, Rule, attribute, operand, producer
from .reshapes import axes_of
from .transposes import permutation
from .uniform import uniform

_DEPTH = 12
_ZERO = -1
_GRID = 1 << 20  # elements of a constant index that are looked at


def _gather_nd_of_a_grid(node: ir.Node, editor: Editor) -> bool:
    """``GatherND(x, grid)`` where each coordinate counts along an axis of its own: a reshape of ``x``."""
    data, index = node.inputs[0], node.inputs[1]
    axes = _grid_axes(index, editor)
    if data is None or index is None or axes is None or attribute(node, "batch_dims", 0) != 0:
        return False
    shape, grid = editor.facts.shape(data), editor.facts.shape(index)
    if shape is None or grid is None or len(axes) > len(shape):
        return False
    found = _placed(axes, shape, grid)
    if found is None or len(set(found)) != len(found) or len(grid) - 1 in found:
        return False
    if not all(same(grid[axis], dim) for axis, dim in zip(found, shape, strict=False)):
        return editor.skip(node, "gather with a grid kept: a coordinate does not run over the whole axis")
    if any(grid[axis] != 1 for axis in range(len(grid) - 1) if axis not in found):
        return editor.skip(node, "gather with a grid kept: the grid repeats rows")
    result = _laid_out(node, data, found, len(grid) - 1, shape, editor)
    return editor.replace(node.outputs[0], result)


def _placed(axes: Sequence[int | None], shape: Dims, grid: Dims) -> list[int] | None:
    """The axis of every coordinate; one that is always 0 takes a free axis of size 1, in a dim of size 1."""
    free = [axis for axis, size in enumerate(grid[:-1]) if size == 1 and axis not in axes]
    placed = []
    for axis, dim in zip(axes, shape, strict=False):
        if axis == _ZERO and dim == 1 and free:
            axis = free.pop(0)
        if axis is None or axis == _ZERO:
            return None
        placed.append(axis)
    return placed


def _laid_out(
    node: ir.Node, data: ir.Value, axes: Sequence[int], rank: int, shape: Dims, editor: Editor
) -> ir.Value:
    """``data`` with its leading dims at ``axes`` of ``rank`` leading axes, the others of size 1."""
    order = sorted(range(len(axes)), key=lambda position: axes[position])
    if order != sorted(order):
        rest = range(len(axes), len(shape))
        data = editor.add(node, "Transpose", [data], {"perm": [*order, *rest]})
    missing = [axis for axis in range(rank) if axis not in axes]
    if not missing:
        return data
    if editor.opset < 13:
        return editor.add(node, "Unsqueeze", [data], {"axes": missing})
    return editor.add(node, "Unsqueeze", [data, editor.ints(missing, f"{node.outputs[0].name}_axes")])


def _grid_axes(index: ir.Value | None, editor: Editor) -> list[int | None] | None:
    """For each coordinate of an index tensor the axis along which it counts, ``_ZERO`` where it is 0."""
    array = editor.facts.array(index, limit=_GRID)
    if array is not None:
        places = range(array.shape[-1]) if array.ndim else ()
        return [_counting(array[..., at]) if array[..., at].any() else _ZERO for at in places]
    parts = _coordinates(index, editor)
    if parts is None:
        return None
    return [_ZERO if uniform(part, editor) == 0 else counting_axis(part, editor) for part in parts]


def _coordinates(index: ir.Value | None, editor: Editor) -> list[ir.Value] | None:
    """The parts of an index tensor, one for each element of its last axis."""
    concat = producer(index, "Concat")
    parts = [index] if concat is None else list(concat.inputs)
    shapes = [editor.facts.shape(part) for part in parts]
    if any(shape is None or not shape or shape[-1] != 1 for shape in shapes):
        return None
    axis = -1 if concat is None else attribute(concat, "axis", 0)
    if axis not in (-1, len(shapes[0] or ()) - 1):
        return None
    return [part for part in parts if part is not None]


def _gather_of_everything(node: ir.Node, editor: Editor) -> bool:
    """``Gather(x, [0, 1, .. n-1])`` along an axis of size n."""
    data, index = node.inputs[0], node.inputs[1]
    shape, wanted = editor.facts.shape(data), editor.facts.shape(index)
    if data is None or index is None or shape is None or wanted is None or len(wanted) != 1:
        return False
    axis = attribute(node, "axis", 0)
    if counting_axis(index, editor) != 0 or not same(shape[axis], wanted[0]):
        return False
    return editor.replace(node.outputs[0], data)


def counting_axis(value: ir.Value | None, editor: Editor, depth: int = _DEPTH) -> int | None:
    """The axis along which the elements of ``value`` are 0, 1, 2, .. while the other axes repeat them."""
    array = editor.facts.array(value)
    if array is not None:
        return _counting(array)
    node = producer(value, "Range", "Unsqueeze", "Expand", "Identity", "Cast", "Reshape", "Transpose")
    if node is None or depth == 0:
        return None
    if node.op_type == "Range":
        facts = editor.facts
        counts = facts.ints(operand(node, 0)) == [0] and facts.ints(operand(node, 2)) == [1]
        return 0 if counts else None
    axis = counting_axis(node.inputs[0], editor, depth - 1)
    return None if axis is None else _follow(node, axis, editor)


def _counting(array: np.ndarray) -> int | None:
    if array.dtype.kind not in "iu":
        return None
    for axis, size in enumerate(array.shape):
        steps = np.arange(size).reshape(-1, *(1,) * (array.ndim - axis - 1))
        if size > 1 and np.array_equal(array, np.broadcast_to(steps, array.shape)):
            return axis
    return None


def _follow(node: ir.Node, axis: int, editor: Editor) -> int | None:
    """Where ``axis`` of the input of a rearranging node is in its output."""
    before, after = editor.facts.shape(node.inputs[0]), editor.facts.shape(node.outputs[0])
    if before is None or after is None:
        return None
    if node.op_type == "Identity":
        return axis
    if node.op_type == "Cast":
        return axis if node.outputs[0].dtype in (ir.DataType.INT64, ir.DataType.INT32) else None
    if node.op_type == "Transpose":
        perm = permutation(node, editor)
        return None if perm is None else perm.index(axis)
    if node.op_type == "Unsqueeze":
        added = axes_of(node, editor)
        if added is None:
            return None
        return [a for a in range(len(after)) if a not in {b % len(after) for b in added}][axis]
    if node.op_type == "Expand":
        moved = axis + len(after) - len(before)
        return moved if same(before[axis], after[moved]) else None
    return _follow_reshape(before, after, axis)


def _follow_reshape(before: Dims, after: Dims, axis: int) -> int | None:
    """A Reshape that only adds or drops axes of size 1."""
    if any(dim != 1 for position, dim in enumerate(before) if position != axis):
        return None
    wide = [position for position, dim in enumerate(after) if dim != 1]
    return wide[0] if len(wide) == 1 and same(after[wide[0]], before[axis]) else None


RULES = (
    Rule("gather with a full grid", ("GatherND",), _gather_nd_of_a_grid),
    Rule("gather of everything", ("Gather",), _gather_of_everything),
)
