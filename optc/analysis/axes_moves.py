"""Rules for operators that move, join and cut axes."""

from __future__ import annotations

import onnx_ir as ir

from optc import match
from optc.analysis import shapes
from optc.analysis.axes_layout import Factor, Layout, Mixes, Step
from optc.analysis.axes_operands import Layouts, aligned, axes_of, only_first, operand, sized, sizes_of
from optc.analysis.axes_regroup import regroup

_ALL = 2**31 - 1  # the end of a slice that goes as far as there is something


def transpose(node: ir.Node, layouts: Layouts) -> Step:
    """Puts the axes in another order."""
    layout = only_first(node, layouts)
    perm = match.attr_ints(node, "perm") or tuple(reversed(range(len(layout.groups))))
    return Step((Layout(tuple(layout.groups[axis] for axis in perm)),))


def regrouping(node: ir.Node, layouts: Layouts) -> Step:
    """Cuts and joins axes."""
    return Step((regroup(only_first(node, layouts), sizes_of(node.outputs[0])),))


def expand(node: ir.Node, layouts: Layouts) -> Step:
    """Broadcasts to a shape."""
    layout = only_first(node, layouts)
    extra = len(sizes_of(node.outputs[0])) - len(layout.groups)
    groups = [*[()] * extra, *(g if any(f.role for f in g) else () for g in layout.groups)]
    return Step((sized(groups, node.outputs[0]),))


def concat(node: ir.Node, layouts: Layouts) -> Step:
    """Appends along an axis."""
    first = next(layouts[value] for value in node.inputs if value is not None and value in layouts)
    rank = len(first.groups)
    axis = match.attr_int(node, "axis", 0) % rank
    if axis == first.tokens:
        return _put_back(node, layouts)
    if first.has_role(axis):
        raise Mixes("Concat appends to the samples")
    roles = [group if any(f.role for f in group) else () for group in first.groups]
    for value in node.inputs:
        if value in layouts and value is not None:
            own = [group if any(f.role for f in group) else () for group in layouts[value].groups]
            if own != roles:
                raise Mixes("Concat joins tokens on different axes")
    layout = sized(roles, node.outputs[0])
    sides = aligned(node, layouts, layout, range(len(node.inputs)))
    return Step((layout,), sides)


def _put_back(node: ir.Node, layouts: Layouts) -> Step:
    """The first tokens in front of the others, which were apart from them."""
    *ahead, last = (operand(node, index) for index in range(len(node.inputs)))
    if last not in layouts or any(value in layouts for value in ahead):
        raise Mixes("Concat appends to the tokens")
    layout = layouts[last]
    axis, skip = layout.tokens, layout.skip
    counts = [match.static_dim(value, axis) for value in ahead]
    if not layout.is_whole(axis) or None in counts or sum(filter(None, counts)) != skip:
        raise Mixes("Concat appends to the tokens")
    return Step((_cut(layout, -skip),), first=skip)


def _cut(layout: Layout, count: int) -> Layout:
    """The layout of the tokens behind the first ``count`` of those that are in it."""
    axis = layout.tokens
    [factor] = layout.groups[axis]
    cut = Factor("token", factor.size - count, factor.skip + count)
    return Layout(tuple((cut,) if i == axis else group for i, group in enumerate(layout.groups)))


def split(node: ir.Node, layouts: Layouts) -> Step:
    """Cuts an axis into parts."""
    layout = only_first(node, layouts)
    axis = match.attr_int(node, "axis", 0) % len(layout.groups)
    if axis == layout.tokens and layout.is_whole(axis) and len(node.outputs) == 2:
        count = match.static_dim(node.outputs[0], axis)
        if count is not None:
            return Step((None, _cut(layout, count)), first=layout.skip + count)
    if layout.has_role(axis):
        raise Mixes("Split cuts the axis of tokens")
    groups = [group if i != axis else () for i, group in enumerate(layout.groups)]
    return Step(tuple(sized(groups, value) for value in node.outputs))


def gather(node: ir.Node, layouts: Layouts) -> Step:
    """Picks along an axis."""
    layout = only_first(node, layouts)
    axis = match.attr_int(node, "axis", 0) % len(layout.groups)
    index = operand(node, 1)
    if axis == layout.tokens:
        picked = match.constant(index)
        if picked is None or not layout.is_whole(axis) or not picked.size or picked.min() < 0:
            raise Mixes("Gather picks tokens")
        return Step((None,), first=layout.skip + int(picked.max()) + 1)
    if layout.has_role(axis):
        raise Mixes("Gather picks samples")
    groups = list(layout.groups)
    groups[axis : axis + 1] = [()] * (match.rank(index) or 0)
    return Step((sized(groups, node.outputs[0]),))


def slice_(node: ir.Node, layouts: Layouts) -> Step:
    """Cuts axes."""
    layout = only_first(node, layouts)
    rank = len(layout.groups)
    axes = axes_of(node, 3) if len(node.inputs) > 3 else list(range(rank))
    starts, ends = (shapes.constant_ints(operand(node, i)) for i in (1, 2))
    steps = shapes.constant_ints(node.inputs[4]) if len(node.inputs) > 4 else None
    if axes is None:
        raise Mixes("Slice cuts an axis that is not known")
    if all(not layout.has_role(axis % rank) for axis in axes):
        gone = {axis % rank for axis in axes}
        groups = [group if i not in gone else () for i, group in enumerate(layout.groups)]
        return Step((sized(groups, node.outputs[0]),))
    if [axis % rank for axis in axes] == [layout.tokens] and layout.is_whole(layout.tokens):
        begin, end = (known[0] if known is not None else None for known in (starts, ends))
        [tokens] = layout.groups[layout.tokens]
        if steps in (None, (1,)) and isinstance(begin, int) and isinstance(end, int) and begin >= 0:
            if end >= (tokens.size if isinstance(tokens.size, int) else _ALL):
                return Step((_cut(layout, begin),), first=layout.skip + begin)
            if begin == 0 and end > 0:
                return Step((None,), first=layout.skip + end)
    raise Mixes("Slice picks tokens")
