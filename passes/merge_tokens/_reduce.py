"""Puts the reduction of a method at a place of the graph."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from optc import match
from optc.analysis.axes_layout import Dim, Layout

from . import _attend, _tome
from ._emit import Emitter
from ._level import Level, canonical, restored_layout
from ._masks import meaning
from ._places import Place
from ._walk import sized

PADDING = 1e-30  # the size of a token of padding: nothing beside content, and its own kind next to itself


@dataclass
class Tome:
    """Merges by bipartite matching; ``amounts`` by layer, ``tokens`` before the first place."""

    model: ir.Model
    layouts: dict[ir.Value, Layout]
    amounts: dict[int, int]
    tokens: int
    protected: int
    proportional: bool

    def __call__(self, place: Place, level: Level | None, value: ir.Value) -> Level | None:
        """The level behind the place, or None where nothing goes."""
        count = self.tokens if level is None else level.count
        assert count is not None
        r = min(self.amounts.get(place.layer, 0), (count - self.protected) // 2)
        if r <= 0:
            return None
        node = value.producer()
        assert node is not None and node.graph is not None
        e = Emitter(self.model, node, f"merge_{place.block}")
        layout = self.layouts[value]
        x = canonical(e, value, layout)
        keys, axis = _keys(place.keys)
        mask = place.mask
        padded = meaning(mask) == "padding"
        size = level.size if level is not None else None
        if padded and size is None:
            assert mask is not None
            size = _flags(e, mask)
        counts = _counts(count, self.protected, r)
        form = _tome.TomeForm(axis, size is not None, padded, self.protected > 0, self.protected > 0)
        inputs = [x, keys, *([] if size is None else [size])]
        attributes = {name: [number] for name, number in counts.items()}
        tokens, new, bias, kept, merged, into = e.call(
            "TokenMerge", _tome.body(form), inputs, _tome.OUTPUTS, attributes
        )
        batch_axis, left = layout.axis("batch"), count - r
        batch = 1 if batch_axis is None else layout.groups[batch_axis][0].size
        kind = ir.TensorType(x.dtype or ir.DataType.FLOAT)
        _typed(tokens, kind, [batch, left, layout.groups[-1][0].size])
        _typed(new, kind, [batch, left, 1])
        _typed(bias, kind, [batch, 1, 1, left])
        for output, number in ((kept, counts["rest"]), (merged, r), (into, r)):
            _typed(output, ir.TensorType(ir.DataType.INT64), [batch, number, 1])
        result = restored_layout(e, tokens, layout)
        result.shape = sized(layout, left)
        keep = bias if self.proportional else None
        return Level(level, count - r, result, new, keep, e, kept, merged, into, counts)


def _typed(value: ir.Value, kind: ir.TensorType, dims: Sequence[Dim]) -> None:
    value.type, value.shape = kind, ir.Shape(dims)


def _counts(tokens: int, lead: int, r: int) -> dict[str, int]:
    even, odd = lead + lead % 2, lead + 1 - lead % 2
    sources, sinks = (tokens - even + 1) // 2, (tokens - odd + 1) // 2
    return {
        "r": r,
        "even": even,
        "odd": odd,
        "sources": sources,
        "sinks": sinks,
        "rest": sources - r,
        "lead": lead,
    }


def _keys(k: ir.Value) -> tuple[ir.Value, int]:
    """The keys of an attention with an axis of heads, and that axis; before heads are split off."""
    node = match.producer(k, "Transpose")
    if node is not None and match.attr_ints(node, "perm") == (0, 2, 1, 3) and node.inputs[0] is not None:
        return node.inputs[0], 2
    return k, 1


def _flags(e: Emitter, mask: ir.Value) -> ir.Value:
    """Sizes of single tokens: 1 for content, next to nothing for padding."""
    flat = _attend.per_token(e, mask)
    if flat.dtype != ir.DataType.BOOL:
        flat = e.op("Greater", flat, e.constant(np.array(-1, np.float32)), dtype=ir.DataType.BOOL)
    one, none = e.constant(np.array(1, np.float32)), e.constant(np.array(PADDING, np.float32))
    return e.op("Where", flat, one, none, dtype=ir.DataType.FLOAT)
