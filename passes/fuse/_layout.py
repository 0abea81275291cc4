"""How the axes of a value lie in the values that it is a mere rearrangement of.

Every axis is a group of atoms, the axes [batch, heads, length, size] of the attention operand that the
search starts from. Transposes permute the groups, reshapes regroup the same sequence of atoms, and picking
one element of an axis adds an atom of its own with the position picked.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import onnx_ir as ir

from optc import match

from ._frame import Dim, same
from ._scale import known_number

_DEPTH = 8


@dataclass(frozen=True)
class Atom:
    """An axis that stays whole; ``picked`` is the position in it, when the operand is only that one."""

    name: str
    size: Dim
    picked: int | None = None


@dataclass(frozen=True)
class Layout:
    """``value`` as groups of atoms; ``nodes`` make ``scale`` times what the search started from of it."""

    value: ir.Value
    groups: tuple[tuple[Atom, ...], ...]
    scale: float = 1.0
    nodes: tuple[ir.Node, ...] = ()

    def reads(self, *axes: str) -> bool:
        """Whether the atoms of each axis are those named; atoms of size 1 can be anywhere."""
        atoms = [atom for group in self.groups for atom in group]
        single = {atom.name for atom in atoms if atom.size == 1}
        own = ["".join(atom.name for atom in group if atom.size != 1) for group in self.groups]
        return own == ["".join(name for name in axis if name not in single) for axis in axes]

    @property
    def picked(self) -> int | None:
        """The position picked from the axis ``c``, if one was."""
        return next((a.picked for group in self.groups for a in group if a.picked is not None), None)


def start(value: ir.Value) -> Layout:
    """A 4-D operand: batch, heads, sequence, size."""
    assert value.shape is not None
    return Layout(value, tuple((Atom(name, size),) for name, size in zip("bnsd", value.shape, strict=True)))


def start_sizes(layout: Layout) -> tuple[Dim, ...]:
    """The sizes of batch, heads, length and size."""
    sizes = {atom.name: atom.size for group in layout.groups for atom in group}
    return tuple(sizes[name] for name in "bnsd")


def sources(layout: Layout) -> Iterator[Layout]:
    """``layout``, and the layouts of the values that it was rearranged from, nearest first."""
    current: Layout | None = layout
    for _ in range(_DEPTH):
        if current is None:
            return
        yield current
        current = _back(current)


def results(layout: Layout) -> Iterator[Layout]:
    """``layout``, and the layouts of what it is rearranged into, as long as nothing else reads it."""
    current: Layout | None = layout
    for _ in range(_DEPTH):
        if current is None:
            return
        yield current
        current = _forth(current)


def _back(layout: Layout) -> Layout | None:
    node = layout.value.producer()
    if node is None or node.domain not in ("", "ai.onnx") or not node.inputs or node.inputs[0] is None:
        return None
    before, nodes = node.inputs[0], (*layout.nodes, node)
    if before.shape is None:
        return None
    groups: Sequence[tuple[Atom, ...]] | None = None
    if node.op_type == "Transpose":
        groups = _untransposed(node, layout.groups)
    elif node.op_type in ("Reshape", "Squeeze", "Unsqueeze"):
        groups = regroup([atom for group in layout.groups for atom in group], list(before.shape))
    elif node.op_type in ("Gather", "Split", "Slice") and layout.picked is None:
        groups = _unpicked(node, before.shape, layout)
    elif node.op_type in ("Mul", "Div"):
        return _unscaled(node, layout)
    return None if groups is None else replace(layout, value=before, groups=tuple(groups), nodes=nodes)


def _forth(layout: Layout) -> Layout | None:
    node = match.only_reader(layout.value)
    if node is None or node.domain not in ("", "ai.onnx") or node.inputs[0] is not layout.value:
        return None
    after, nodes = node.outputs[0], (*layout.nodes, node)
    groups: Sequence[tuple[Atom, ...]] | None = None
    if node.op_type == "Transpose":
        perm = _perm(node, len(layout.groups))
        groups = [layout.groups[p] for p in perm]
    elif node.op_type in ("Reshape", "Squeeze", "Unsqueeze") and after.shape is not None:
        groups = regroup([atom for group in layout.groups for atom in group], list(after.shape))
    return None if groups is None else replace(layout, value=after, groups=tuple(groups), nodes=nodes)


def _perm(node: ir.Node, rank: int) -> Sequence[int]:
    return match.attr_ints(node, "perm") or tuple(reversed(range(rank)))


def _untransposed(node: ir.Node, groups: Sequence[tuple[Atom, ...]]) -> list[tuple[Atom, ...]]:
    perm = _perm(node, len(groups))
    return [groups[perm.index(axis)] for axis in range(len(groups))]


def _unpicked(node: ir.Node, before: ir.Shape, layout: Layout) -> list[tuple[Atom, ...]] | None:
    """The layout before one element of an axis was picked."""
    found = picked(node, layout.value, before)
    if found is None:
        return None
    axis, position = found
    size = before[axis]
    if not isinstance(size, int):
        return None
    groups = list(layout.groups)
    kept = 0 if node.op_type == "Gather" else 1
    if kept and any(atom.size != 1 for atom in groups[axis]):
        return None
    groups[axis : axis + kept] = [(Atom("c", size, position % size),)]
    return groups


def picked(node: ir.Node, value: ir.Value, before: ir.Shape) -> tuple[int, int] | None:
    """The axis and the position of the one element that ``value`` has of the input of ``node``."""
    if node.op_type == "Gather":
        index = match.constant(node.inputs[1])
        axis = match.attr_int(node, "axis", 0) % before.rank()
        return (axis, int(index)) if index is not None and index.ndim == 0 else None
    if node.op_type == "Split":
        axis = match.attr_int(node, "axis", 0) % before.rank()
        single = all(match.static_dim(output, axis) == 1 for output in node.outputs)
        return (axis, value.index() or 0) if single else None
    axes, starts = (match.scalar(node.inputs[i]) if len(node.inputs) > i else None for i in (3, 1))
    if axes is None or starts is None or match.static_dim(value, int(axes)) != 1:
        return None
    return int(axes) % before.rank(), int(starts)


def _unscaled(node: ir.Node, layout: Layout) -> Layout | None:
    for index in (0, 1) if node.op_type == "Mul" else (0,):
        base, number = node.inputs[index], known_number(node.inputs[1 - index])
        if base is None or not number or match.rank(base) != len(layout.groups):
            continue
        scale = layout.scale * (number if node.op_type == "Mul" else 1 / number)
        return replace(layout, value=base, scale=scale, nodes=(*layout.nodes, node))
    return None


def regroup(atoms: Sequence[Atom], sizes: Sequence[Dim]) -> list[tuple[Atom, ...]] | None:
    """The same atoms as axes of ``sizes``; None where an axis would split an atom, or is not certain.

    Axes are matched from both ends; at most one in between, of any size, takes what is left.
    """
    head = _prefix(atoms, sizes)
    atoms, sizes = atoms[sum(map(len, head)) :], sizes[len(head) :]
    tail = [tuple(reversed(group)) for group in _prefix(atoms[::-1], sizes[::-1])][::-1]
    middle = atoms[: len(atoms) - sum(map(len, tail))]
    left = len(sizes) - len(tail)
    if left == 1:
        return [*head, tuple(middle), *tail]
    if left == 0 and all(atom.size == 1 for atom in middle):
        return [*head, *tail]
    return None


def _prefix(atoms: Sequence[Atom], sizes: Sequence[Dim]) -> list[tuple[Atom, ...]]:
    """Groups for the first axes, as far as they are certain."""
    groups: list[tuple[Atom, ...]] = []
    at = 0
    for size in sizes:
        stop = _end(atoms, at, size)
        if stop is None:
            break
        groups.append(tuple(atoms[at:stop]))
        at = stop
    return groups


def _end(atoms: Sequence[Atom], at: int, size: Dim) -> int | None:
    """Where the atoms end that make up an axis of ``size`` from position ``at`` on."""
    if size == 1:
        return at + 1 if at < len(atoms) and atoms[at].size == 1 else at
    product = 1
    while at < len(atoms):
        each = atoms[at].size
        at += 1
        if product == 1 and same([each], [size]):
            return at
        if not isinstance(each, int) or not isinstance(size, int):
            return None
        product *= each
        if product >= size:
            return at if product == size else None
    return None
