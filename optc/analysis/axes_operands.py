"""What the rules of `axes_rules` ask of the operands of a node."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import onnx_ir as ir

from optc import match
from optc.analysis import shapes
from optc.analysis.axes_layout import Dim, Factor, Group, Layout, Mixes, Side
from optc.analysis.axes_regroup import equal

Layouts = Mapping[ir.Value, Layout]


def sizes_of(value: ir.Value) -> list[Dim | None]:
    """The dimensions of a value, None where one is not known; raises Mixes where its rank is not."""
    if value.shape is None:
        raise Mixes(f"the shape of {value.name!r} is not known")
    return [match.dim(value, axis) for axis in range(len(value.shape))]


def sized(groups: Sequence[Group], value: ir.Value) -> Layout:
    """The layout with these groups whose axes without roles have the sizes of ``value``."""
    sizes = sizes_of(value)
    if len(sizes) != len(groups):
        raise Mixes(f"the rank of {value.name!r} is not what it should be")
    out: list[Group] = []
    for group, size in zip(groups, sizes, strict=True):
        out.append(group if any(f.role for f in group) else (Factor("", ir.SymbolicDim(None)),))
        if size is not None and not any(f.role for f in group):
            out[-1] = (Factor("", size),)
    return Layout(tuple(out))


def operand(node: ir.Node, index: int = 0) -> ir.Value:
    """An input that has to be there."""
    value = node.inputs[index] if index < len(node.inputs) else None
    if value is None:
        raise Mixes(f"{node.op_type} lacks an input")
    return value


def only_first(node: ir.Node, layouts: Layouts) -> Layout:
    """The layout of the first input, where no other follows the tokens."""
    if any(value in layouts for value in node.inputs[1:] if value is not None):
        raise Mixes(f"{node.op_type} takes tokens as another operand than its first")
    return layouts[operand(node)]


def aligned(
    node: ir.Node, layouts: Layouts, layout: Layout, indices: Sequence[int], kept: int = 0
) -> tuple[Side, ...]:
    """The operands without tokens that have as many numbers as there are tokens, broadcast to ``layout``.

    ``kept`` axes at the end of an operand are not broadcast.
    """
    sides, rank = [], len(layout.groups)
    for index in indices:
        value = node.inputs[index]
        if value is None or value in layouts:
            continue
        sizes = sizes_of(value)
        axis, batch = layout.tokens - rank + len(sizes), layout.axis("batch")
        batch = None if batch is None else batch - rank + len(sizes)
        if axis < 0 or axis >= len(sizes) - kept or sizes[axis] == 1:
            if batch is not None and 0 <= batch < len(sizes) and sizes[batch] is None:
                raise Mixes(f"the shape of {value.name!r} is not known")
            continue
        whole = layout.is_whole(layout.tokens)
        size = sizes[axis]
        if not whole or size is None or not equal(size, layout.groups[layout.tokens][0].size):
            raise Mixes(f"{node.op_type} joins tokens with {value.name!r} of the shape {value.shape}")
        has_batch = batch is not None and 0 <= batch < len(sizes) and sizes[batch] != 1
        sides.append(Side(index, axis, batch if has_batch else None))
    return tuple(sides)


def axes_of(node: ir.Node, index: int) -> list[int] | None:
    """The axes given as an attribute or as an input; None when they are not known, or none are given."""
    given: Sequence[int | str] | None = match.attr_ints(node, "axes")
    if given is None and len(node.inputs) > index and node.inputs[index] is not None:
        given = shapes.constant_ints(node.inputs[index])
    if given is None or not all(isinstance(axis, int) for axis in given):
        return None
    return [axis for axis in given if isinstance(axis, int)]
