"""Puts the reduction of a method at a place of the graph."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import onnx_ir as ir

from optc import match
from optc.analysis.axes_layout import Dim, Layout

from . import _attend, _prune, _tome, _transform
from ._emit import Emitter
from ._level import Level, canonical, restored_layout
from ._masks import meaning
from ._places import Place
from ._walk import sized

PADDING = 1e-30  # the size of a token of padding: nothing beside content, and its own kind next to itself
_FLOAT, _INT64 = ir.TensorType(ir.DataType.FLOAT), ir.TensorType(ir.DataType.INT64)


@dataclass
class Plan:
    """What is asked for in one stream.

    Attributes:
        amounts: tokens to remove, by layer; layers that are not in it keep theirs.
        share: of the unprotected tokens to keep instead, or None.
        tokens: how many there are before the first place, a number or a dim.
        counts: how many there are behind each place, filled in as the places are made.
    """

    model: ir.Model
    layouts: dict[ir.Value, Layout]
    amounts: Mapping[int, int]
    share: float | None
    tokens: Dim
    protected: int
    proportional: bool
    score: _prune.Score
    temperature: float
    method: Literal["tome", "transform", "prune", "pyramid"]
    counts: list[Dim]

    def __call__(self, place: Place, level: Level | None, value: ir.Value) -> Level | None:
        """The level behind a place, or None where nothing goes."""
        count = self.tokens if level is None else level.count
        gone = self._gone(place, count)
        if gone == 0:
            return None
        node = value.producer()
        assert node is not None
        site = _Site(
            self, place, level, value, count, gone, Emitter(self.model, node, f"merge_{place.block}")
        )
        made = _METHODS[self.method](site)
        self.counts.append(made.count)
        return made

    def _gone(self, place: Place, count: Dim) -> int:
        """How many tokens go; where their number is not known, how many should."""
        wanted = self.amounts.get(place.layer, 0)
        if not isinstance(count, int):
            return wanted
        free = count - self.protected
        if wanted and self.share is not None:
            wanted = free - math.ceil(self.share * free - 1e-6)
        return max(min(wanted, free // 2 if self.method == "tome" else free - 1), 0)


@dataclass
class _Site:
    """A place being made."""

    plan: Plan
    place: Place
    level: Level | None
    value: ir.Value
    count: Dim
    gone: int
    e: Emitter

    @property
    def counted(self) -> bool:
        """Whether the number of tokens is known when compiling."""
        return isinstance(self.count, int)

    @property
    def share(self) -> float | None:
        """The share to keep, where it must be worked out at run time."""
        return None if self.counted else self.plan.share

    @property
    def layout(self) -> Layout:
        """Of the tokens."""
        return self.plan.layouts[self.value]

    @property
    def batch(self) -> Dim:
        """How many samples there are."""
        axis = self.layout.axis("batch")
        return 1 if axis is None else self.layout.groups[axis][0].size

    @property
    def left(self) -> Dim:
        """How many tokens there are behind the place."""
        if isinstance(self.count, int):
            return self.count - self.gone
        return ir.SymbolicDim(f"tokens_behind_block_{self.place.block}")

    @property
    def padded(self) -> bool:
        """Whether the attention masks padding."""
        return meaning(self.place.mask) == "padding"

    def size(self) -> ir.Value | None:
        """What each token stands for, with next to nothing for padding; None where all are single."""
        known = self.level.size if self.level is not None else None
        if known is not None or not self.padded:
            return known
        assert self.place.mask is not None
        return flags(self.e, _attend.mask_at(self.level, self.place.mask))

    def behind(self, results: Mapping[str, ir.Value], *, bias: bool) -> Level:
        """The level of a call's results, by name."""
        left, layout = self.left, self.layout
        x = ir.TensorType(self.value.dtype or ir.DataType.FLOAT)
        kinds = {
            "y": (x, [self.batch, left, layout.groups[-1][0].size]),
            "new_size": (_FLOAT, [self.batch, left, 1]),
            "bias": (_FLOAT, [self.batch, 1, 1, left]),
            "index": (_INT64, [self.batch, left, 1]),
            "place": (_INT64, [self.batch, self.count, 1]),
        }
        for name, value in results.items():
            value.type, value.shape = kinds[name][0], ir.Shape(kinds[name][1])
        tokens = restored_layout(self.e, results["y"], layout)
        tokens.shape = sized(layout, left)
        return Level(
            self.level,
            left,
            tokens,
            results.get("new_size"),
            results.get("bias") if bias else None,
            self.e,
            results["index"],
            results["place"],
        )

    def call(
        self,
        kind: str,
        text: str,
        inputs: Sequence[ir.Value],
        outputs: Sequence[str],
        attributes: Mapping[str, int],
        **floats: float,
    ) -> dict[str, ir.Value]:
        """A call of a function with lists of one number, and floats, as attributes."""
        given = {**{name: [number] for name, number in attributes.items()}, **floats}
        return dict(zip(outputs, self.e.call(kind, text, inputs, outputs, given), strict=True))


def _tome_level(site: _Site) -> Level:
    plan, lead = site.plan, site.plan.protected
    x = canonical(site.e, site.value, site.layout)
    keys, axis = _keys(site.place.keys)
    size = site.size()
    form = _tome.TomeForm(
        heads_axis=axis,
        sized=size is not None,
        padded=site.padded,
        ordered=lead > 0,
        lead=lead > 0,
        counted=site.counted,
        share=site.share,
    )
    even, odd = lead + lead % 2, lead + 1 - lead % 2
    attributes = {"r": site.gone, "even": even, "odd": odd, "lead": lead}
    if isinstance(site.count, int):
        sources, sinks = (site.count - even + 1) // 2, (site.count - odd + 1) // 2
        attributes |= {"sources": sources, "sinks": sinks, "rest": sources - site.gone}
    inputs = [x, keys, *([] if size is None else [size])]
    results = site.call("TokenMerge", _tome.body(form), inputs, _tome.OUTPUTS, attributes)
    return site.behind(results, bias=plan.proportional)


def _prune_level(site: _Site) -> Level:
    form, attributes = _selection(site)
    inputs = _selecting(site, form)
    text = _prune.body(form)
    results = site.call("TokenPrune", text, inputs, _prune.OUTPUTS, attributes, scale=site.place.scale)
    return site.behind(results, bias=False)


def _transform_level(site: _Site) -> Level:
    select, attributes = _selection(site)
    keys, axis = _keys(site.place.keys)
    size = site.size()
    form = _transform.TransformForm(select, axis, size is not None)
    inputs = [*_selecting(site, select), keys, *([] if size is None else [size])]
    floats = {"scale": site.place.scale, "temperature": site.plan.temperature}
    text = _transform.body(form)
    results = site.call("TokenTransform", text, inputs, _transform.OUTPUTS, attributes, **floats)
    return site.behind(results, bias=site.plan.proportional)


def _selection(site: _Site) -> tuple[_prune.PruneForm, dict[str, int]]:
    """How tokens are chosen by attention, and the attributes that say how many."""
    mask, lead = site.place.mask, site.plan.protected
    kind: Literal["none", "added", "bool"] = "none"
    if mask is not None and site.padded:
        kind = "bool" if mask.dtype == ir.DataType.BOOL else "added"
    form = _prune.PruneForm(site.plan.score, kind, site.padded, lead > 0, site.counted, site.share)
    if isinstance(site.count, int):
        return form, {"lead": lead, "keep": site.count - lead - site.gone}
    return form, {"lead": lead, "r": site.gone}


def _selecting(site: _Site, form: _prune.PruneForm) -> list[ir.Value]:
    inputs = [canonical(site.e, site.value, site.layout), site.place.queries, site.place.keys]
    mask = site.place.mask
    if form.mask != "none":
        assert mask is not None
        inputs.append(_attend.mask_at(site.level, mask))
    if form.padded:
        assert mask is not None
        inputs.append(flags(site.e, _attend.mask_at(site.level, mask)))
    return inputs


def _keys(k: ir.Value) -> tuple[ir.Value, int]:
    """The keys of an attention with an axis of heads, and that axis; before heads are split off."""
    node = match.producer(k, "Transpose")
    if node is not None and match.attr_ints(node, "perm") == (0, 2, 1, 3) and node.inputs[0] is not None:
        return node.inputs[0], 2
    return k, 1


def flags(e: Emitter, mask: ir.Value) -> ir.Value:
    """[batch, tokens, 1] of a mask of padding: 1 for content, next to nothing for padding."""
    flat = _attend.per_token(e, mask)
    if flat.dtype != ir.DataType.BOOL:
        flat = e.op("Greater", flat, e.constant(np.array(-1, np.float32)), dtype=ir.DataType.BOOL)
    one, none = e.constant(np.array(1, np.float32)), e.constant(np.array(PADDING, np.float32))
    return e.op("Where", flat, one, none, dtype=ir.DataType.FLOAT)


_METHODS: dict[str, Callable[[_Site], Level]] = {
    "tome": _tome_level,
    "transform": _transform_level,
    "prune": _prune_level,
    "pyramid": _prune_level,
}
