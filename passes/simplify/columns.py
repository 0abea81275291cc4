"""Columns of a linear map that nothing reads: a packed projection of which only some parts are left.

Query, key and value often come from one product that is split, sliced or indexed afterwards. When a part is
dead, the product is narrowed to the columns of the others.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import onnx_ir as ir

from .affine import Linear, linear, weight_shape
from .dims import same
from .editor import Editor, Rule, attribute, operand
from .facts import Facts
from .linears import with_bias


@dataclass(frozen=True)
class _Layout:
    """Where the columns of the product lie in a value that holds its elements in another order.

    Attributes:
        axes: per axis of the value, which leading axis of the product it is, or None for an axis of columns.
        columns: the column at each place along the axes of columns.
        leads: a shape whose first dims are the leading axes, when a Reshape made others of the product's.
    """

    axes: tuple[int | None, ...]
    columns: np.ndarray
    leads: ir.Value | None = None

    def place(self, axis: int) -> int | None:
        """Which axis of ``columns`` an axis of the value is; None for a leading axis."""
        axis += len(self.axes) if axis < 0 else 0
        return None if self.axes[axis] is not None else self.axes[:axis].count(None)


@dataclass(frozen=True)
class _Part:
    """A value that holds some of the columns."""

    value: ir.Value
    layout: _Layout


def _narrow(node: ir.Node, editor: Editor) -> bool:
    shape = weight_shape(node.outputs[0], editor)
    if shape is None or not _may_be_partly_read(node.outputs[0]):
        return False
    end = with_bias(node, editor)
    rank = editor.facts.rank(end)
    if rank is None or rank < 2:
        return False
    parts = _parts(end, _Layout((*range(rank - 1), None), np.arange(shape[1])), editor)
    if parts is None:
        return False
    live = [part for part in parts if part.value.uses() or part.value.is_graph_output()]
    if not live or len({column for part in live for column in part.layout.columns.flat}) == shape[1]:
        return False
    map_ = linear(end, editor)
    if map_ is None or map_.other_reader(editor):
        return False
    for part in live:
        editor.replace(part.value, _emit(part, map_, node.op_type, editor))
    return True


def narrow_products(model: ir.Model) -> int:
    """Narrows all products of a graph whose columns are partly dead; returns how many."""
    editor = Editor(model, Facts(model, {}))
    editor.rewrite(RULES)
    editor.remove_unused_initializers()
    return editor.matched.total()


def _may_be_partly_read(value: ir.Value) -> bool:
    """A quick look ahead, because most products are read whole."""
    return bool(value.uses()) and all(
        use.node.op_type in (*_MOVES, *_CUTS, "Add") and use.idx in (0, 1) for use in value.uses()
    )


def _parts(value: ir.Value, layout: _Layout, editor: Editor) -> list[_Part] | None:
    """What the readers of ``value`` take of its columns; None when one of them takes all."""
    if value.is_graph_output():
        return None
    found: list[_Part] = []
    for use in value.uses():
        node = use.node
        if use.idx != 0 or node.domain not in ("", "ai.onnx"):
            return None
        if node.op_type in _CUTS:
            parts = _cut(node, layout, editor)
        elif (moved := _moved(node, layout, editor)) is not None:
            parts = _parts(node.outputs[0], moved, editor)
        else:
            parts = None
        if parts is None:
            return None
        found += parts
    return found


def _moved(node: ir.Node, layout: _Layout, editor: Editor) -> _Layout | None:
    if node.op_type == "Transpose":
        order = attribute(node, "perm", list(range(len(layout.axes)))[::-1])
        columns = [place for axis in order if (place := layout.place(axis)) is not None]
        return replace(
            layout,
            axes=tuple(layout.axes[axis] for axis in order),
            columns=layout.columns.transpose(columns),
        )
    return _reshaped(node, layout, editor) if node.op_type == "Reshape" else None


def _reshaped(node: ir.Node, layout: _Layout, editor: Editor) -> _Layout | None:
    """Through a Reshape that changes only one run of column axes, or only the leading axes."""
    before, after = editor.facts.shape(node.inputs[0]), editor.facts.shape(node.outputs[0])
    if before is None or after is None:
        return None
    if layout.axes == (0, None) and after[-1] == layout.columns.size:  # [rows, columns] get their axes back
        return _Layout((*range(len(after) - 1), None), layout.columns, node.inputs[1])
    front = next(axis for axis, lead in enumerate(layout.axes) if lead is None)
    back = len(layout.axes) - front - layout.columns.ndim
    new = len(after) - front - back
    if new < 1 or any(lead is not None for lead in layout.axes[front : front + layout.columns.ndim]):
        return None
    kept = [*range(front), *range(-back, 0)]
    middle = after[front : front + new]
    if not all(same(before[axis], after[axis]) for axis in kept):
        return None
    sizes = [dim for dim in middle if isinstance(dim, int)]
    if len(sizes) != new or np.prod(sizes) != layout.columns.size:
        return None
    axes = (*layout.axes[:front], *[None] * new, *layout.axes[front + layout.columns.ndim :])
    return replace(layout, axes=axes, columns=layout.columns.reshape(sizes))


def _cut(node: ir.Node, layout: _Layout, editor: Editor) -> list[_Part] | None:
    """The parts that a Split, Slice or Gather along axes of columns makes."""
    if node.op_type == "Split":
        return _split(node, layout, editor)
    cut = _sliced(node, layout, editor) if node.op_type == "Slice" else _gathered(node, layout, editor)
    return None if cut is None else [_Part(node.outputs[0], cut)]


def _split(node: ir.Node, layout: _Layout, editor: Editor) -> list[_Part] | None:
    place = layout.place(attribute(node, "axis", 0))
    if place is None:
        return None
    given = attribute(node, "split", None) if "split" in node.attributes else operand(node, 1)
    sizes = editor.facts.ints(given) if isinstance(given, ir.Value) else given
    whole, count = layout.columns.shape[place], len(node.outputs)
    if sizes is None and given is None:
        sizes = [min(-(-whole // count), whole - start) for start in range(0, whole, -(-whole // count))]
    if sizes is None or len(sizes) != count or sum(sizes) != whole:
        return None
    pieces = np.split(layout.columns, np.cumsum(sizes)[:-1], axis=place)
    return [
        _Part(output, replace(layout, columns=piece))
        for output, piece in zip(node.outputs, pieces, strict=True)
    ]


def _sliced(node: ir.Node, layout: _Layout, editor: Editor) -> _Layout | None:
    given = [editor.facts.ints(operand(node, index)) for index in (1, 2)]
    starts, ends = given
    if starts is None or ends is None or editor.opset < 10:
        return None
    axes = list(range(len(starts))) if operand(node, 3) is None else editor.facts.ints(operand(node, 3))
    steps = [1] * len(starts) if operand(node, 4) is None else editor.facts.ints(operand(node, 4))
    if axes is None or steps is None or any(step < 1 for step in steps):
        return None
    columns = layout.columns
    for axis, start, end, step in zip(axes, starts, ends, steps, strict=True):
        place = layout.place(axis)
        if place is None:
            return None
        columns = columns[(slice(None),) * place + (slice(start, end, step),)]
    return replace(layout, columns=columns) if columns.size else None


def _gathered(node: ir.Node, layout: _Layout, editor: Editor) -> _Layout | None:
    axis, indices = attribute(node, "axis", 0), editor.facts.array(node.inputs[1])
    place = layout.place(axis)
    if place is None or indices is None or indices.ndim > 1 or not indices.size:
        return None
    columns = np.take(layout.columns, indices, axis=place)
    axis += len(layout.axes) if axis < 0 else 0
    axes = layout.axes if indices.ndim else (*layout.axes[:axis], *layout.axes[axis + 1 :])
    return replace(layout, axes=axes, columns=columns)


def _emit(part: _Part, map_: Linear, op_type: str, editor: Editor) -> ir.Value:
    """The narrowed product, in the layout of the part."""
    old, columns = part.value.producer(), part.layout.columns
    assert old is not None
    value = _product(part, map_, op_type, editor)
    leads = sum(lead is not None for lead in part.layout.axes)
    if columns.ndim != 1 or part.layout.leads is not None:
        value = editor.add(old, "Reshape", [value, _shape(part, leads, editor)])
    places: Iterator[int] = iter(range(leads, leads + columns.ndim))
    order = [next(places) if lead is None else lead for lead in part.layout.axes]
    if order != sorted(order):
        value = editor.add(old, "Transpose", [value], {"perm": order})
    return value


def _shape(part: _Part, leads: int, editor: Editor) -> ir.Value:
    """The leading axes, then those of the columns, as the shape input of a Reshape."""
    old, name = part.value.producer(), f"{part.value.name}_shape"
    assert old is not None
    own = list(part.layout.columns.shape)
    if part.layout.leads is None:
        return editor.ints([0] * leads + own, name)
    ends = [editor.ints([number], name) for number in (0, leads)]
    front = editor.add(old, "Slice", [part.layout.leads, *ends])
    return editor.add(old, "Concat", [front, editor.ints(own, name)], {"axis": 0})


def _product(part: _Part, map_: Linear, op_type: str, editor: Editor) -> ir.Value:
    old, name, columns = part.value.producer(), part.value.name, part.layout.columns.reshape(-1)
    assert old is not None
    dtype = np.dtype(part.value.dtype.numpy())  # type: ignore[union-attr]
    weight = editor.constant(np.ascontiguousarray(map_.weight[:, columns], dtype=dtype), f"{name}_weight")
    bias = None
    if map_.bias is not None:
        bias = editor.constant(np.ascontiguousarray(map_.bias[columns], dtype=dtype), f"{name}_bias")
    if op_type == "Gemm":
        return editor.add(old, "Gemm", [map_.source, weight, *([] if bias is None else [bias])])
    value = editor.add(old, "MatMul", [map_.source, weight])
    return value if bias is None else editor.add(old, "Add", [value, bias])


_CUTS = ("Split", "Slice", "Gather")
_MOVES = ("Reshape", "Transpose")
RULES = (Rule("columns that nothing reads", ("MatMul", "Gemm"), _narrow),)
