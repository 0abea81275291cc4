"""The tokens as they are behind one place: how many, how large, and which of the original ones they are."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import onnx_ir as ir

from optc.analysis.axes_layout import Dim, Layout, Side

from ._emit import Emitter


@dataclass(eq=False)
class Level:
    """State behind one place; before the first one, with all tokens, it is None.

    Attributes:
        count: how many tokens there are, a number or a dim of its own.
        tokens: the value that stands for the reduced one, in its layout.
        size: [batch, tokens, 1], how many original tokens each stands for; None where all count the same.
        bias: [batch, 1, 1, tokens], what attention adds for a key; None for nothing.
        emitter: puts nodes right behind those that made this level.
        own_index: [batch, tokens, 1], the token of the level before that each one is, or stands for.
        own_place: [batch, tokens before, 1], where each token of the level before is now.
    """

    before: Level | None
    count: Dim
    tokens: ir.Value
    size: ir.Value | None
    bias: ir.Value | None
    emitter: Emitter
    own_index: ir.Value
    own_place: ir.Value
    _index: ir.Value | None = None
    _place: ir.Value | None = None
    restored: dict[ir.Value, ir.Value] = field(default_factory=dict)
    sides: dict[tuple[ir.Value, Side, int], ir.Value] = field(default_factory=dict)
    masks: dict[tuple[ir.Value, bool], ir.Value] = field(default_factory=dict)

    def index(self) -> ir.Value:
        """[batch, tokens, 1]: which original token each one is, or stands for."""
        if self.before is None:
            return self.own_index
        if self._index is None:
            older = self.before.index()
            self._index = self.emitter.op("GatherND", older, self.own_index, batch_dims=1)
        return self._index

    def place_of(self) -> ir.Value:
        """[batch, original tokens, 1]: where each original token is now."""
        if self.before is None:
            return self.own_place
        if self._place is None:
            older = self.before.place_of()
            self._place = self.emitter.op("GatherND", self.own_place, older, batch_dims=1)
        return self._place


def canonical(e: Emitter, value: ir.Value, layout: Layout) -> ir.Value:
    """``value`` as [batch, tokens, ...]; the axes of tokens and batch must be whole."""
    order = _order(layout)
    if order != sorted(order):
        value = e.op("Transpose", value, perm=order)
    return value if layout.axis("batch") is not None else e.op("Unsqueeze", value, e.ints(0))


def restored_layout(e: Emitter, value: ir.Value, layout: Layout) -> ir.Value:
    """The inverse of :func:`canonical`."""
    if layout.axis("batch") is None:
        value = e.op("Squeeze", value, e.ints(0))
    order = _order(layout)
    if order == sorted(order):
        return value
    return e.op("Transpose", value, perm=[order.index(axis) for axis in range(len(order))])


def _order(layout: Layout) -> list[int]:
    batch = layout.axis("batch")
    first = [layout.tokens] if batch is None else [batch, layout.tokens]
    return [*first, *(axis for axis in range(len(layout.groups)) if axis not in first)]


def all_tokens(level: Level, value: ir.Value, layout: Layout, anchor: ir.Node) -> ir.Value:
    """``value`` with as many tokens, in the same order, as there were before any place."""
    if value not in level.restored:
        places = level.place_of()
        e = Emitter(level.emitter.model, anchor, f"{value.name}_unmerge")
        places = _behind(e, places, layout.skip)
        full = e.op("GatherND", canonical(e, value, layout), places, batch_dims=1)
        level.restored[value] = restored_layout(e, full, layout)
    return level.restored[value]


def side_of(level: Level, value: ir.Value, side: Side, layout: Layout) -> ir.Value:
    """An operand with a number for every original token, as the tokens of this level have it.

    Args:
        layout: of the node's output, to which the operand is broadcast.
    """
    key = (value, side, layout.skip)
    if key not in level.sides:
        level.sides[key] = _gathered(level, value, side, layout)
    return level.sides[key]


def _gathered(level: Level, value: ir.Value, side: Side, layout: Layout) -> ir.Value:
    assert value.shape is not None
    e, rank, own = level.emitter, len(layout.groups), len(value.shape)
    index = _behind(e, level.index(), layout.skip)
    batch = layout.axis("batch")
    if side.batch is not None:
        order = [side.batch, side.tokens]
        order += [axis for axis in range(own) if axis not in order]
        moved = value if order == sorted(order) else e.op("Transpose", value, perm=order)
        picked = e.op("GatherND", moved, index, batch_dims=1)
        back = [order.index(axis) for axis in range(own)]
        return picked if order == sorted(order) else e.op("Transpose", picked, perm=back)
    if rank > own:
        value = e.op("Unsqueeze", value, e.ints(*range(rank - own)))
    order = [layout.tokens, *(axis for axis in range(rank) if axis not in (layout.tokens, batch))]
    if batch is not None:
        value = e.op("Squeeze", value, e.ints(batch))
        places = [axis for axis in range(rank) if axis != batch]
    else:
        places = list(range(rank))
    perm = [places.index(axis) for axis in order]
    if perm != sorted(perm):
        value = e.op("Transpose", value, perm=perm)
    picked = e.op("GatherND", value, index)  # [batch, tokens, the others]
    if batch is None:
        picked, full = e.op("Squeeze", picked, e.ints(0)), order
    else:
        full = [batch, *order]
    back = [full.index(axis) for axis in range(rank)]
    return picked if back == sorted(back) else e.op("Transpose", picked, perm=back)


def _behind(e: Emitter, index: ir.Value, skip: int) -> ir.Value:
    """Of [batch, tokens, 1] the tokens behind the first ``skip``, counted from there; those stay in front."""
    if not skip:
        return index
    far = e.ints(np.iinfo(np.int64).max)
    return e.op("Sub", e.op("Slice", index, e.ints(skip), far, e.ints(1)), e.constant(np.array(skip)))
