"""What a reshape does to axes that are groups of factors."""

from __future__ import annotations

from collections.abc import Sequence

import onnx_ir as ir

from optc.analysis.axes_layout import Dim, Factor, Group, Layout, Mixes


def regroup(layout: Layout, sizes: Sequence[Dim | None]) -> Layout:
    """The layout after a reshape to ``sizes``; raises Mixes where an axis of tokens or batch is cut."""
    rest = [factor for group in layout.groups for factor in group if factor.role or factor.size != 1]
    groups: list[Group] = []
    for size in sizes:
        if size is None:
            raise Mixes("a size of a reshape is not known")
        groups.append(_taken(rest, size))
    if any(factor.size != 1 for factor in rest):
        raise Mixes("a reshape cuts the axis of tokens")
    if rest:
        groups[-1] = (*groups[-1], *rest)
    return Layout(tuple(_without_ones(group) for group in groups))


def _taken(rest: list[Factor], size: Dim) -> Group:
    """Takes the factors of one axis off the front of ``rest``."""
    taken: list[Factor] = []
    total: Dim = 1
    while not equal(total, size):
        if not rest:
            raise Mixes("a reshape cuts the axis of tokens")
        factor = rest.pop(0)
        left = size // total if isinstance(size, int) and isinstance(total, int) else None
        if left is not None and isinstance(factor.size, int) and left < factor.size:
            if factor.role or left * total != size or factor.size % left:
                raise Mixes("a reshape cuts the axis of tokens into parts (windows, or a grid)")
            rest.insert(0, Factor("", factor.size // left))
            factor = Factor("", left)
        taken.append(factor)
        total = factor.size if total == 1 else total * factor.size
    if not taken and size == 1 and rest and rest[0].role and rest[0].size == 1:
        taken.append(rest.pop(0))
    return tuple(taken)


def _without_ones(group: Group) -> Group:
    """A batch of one inside an axis is no part of it."""
    return tuple(f for f in group if len(group) == 1 or f.size != 1 or f.role == "token")


def equal(one: Dim, other: Dim) -> bool:
    """Whether two sizes are known to be the same; an unknown one is not."""
    if isinstance(one, int) and isinstance(other, int):
        return one == other
    if isinstance(one, ir.SymbolicDim) and one.value is None:
        return False
    if isinstance(other, ir.SymbolicDim) and other.value is None:
        return False
    if one == other:
        return True
    difference = one - other if isinstance(one, ir.SymbolicDim) else other - one
    return isinstance(difference, ir.SymbolicDim) and difference.simplify().value == "0"
