"""Attention with its heads split from, and merged into, the last axis of 3-D operands."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import onnx_ir as ir

from optc import match, rewrite
from optc.analysis.bounds import bounds
from optc.newnode import Operand
from optc.rewrite import Match, NearMiss, Pattern

from . import _bodies, _frame, _layout, _new, _shift
from ._inside import inside
from ._layout import Layout

_FULL_PRECISION = (ir.DataType.FLOAT, ir.DataType.DOUBLE)


class Heads(Pattern):
    """Reshape and Transpose around Attention -> MultiHeadAttention"""

    name: ClassVar[str] = "heads"
    family: ClassVar[str] = "attention"
    anchors: ClassVar[frozenset[str]] = frozenset({"Attention"})
    after: ClassVar[tuple[str, ...]] = ("attention",)
    domain: ClassVar[str] = rewrite.DOMAIN

    def match(self, node: ir.Node, model: ir.Model) -> Match | None:
        """The fused attention ``node`` with what splits and merges its heads."""
        heads, size = _static(node.inputs[0], "queries")
        kv_heads, _ = _static(node.inputs[1], "keys")
        _, value_size = _static(node.inputs[2], "values")
        merge = _merged(node.outputs[0])
        form = _bodies.form_of(node, model.functions[node.op_identifier()], rewrite.opset(model))
        full = form.kind in _FULL_PRECISION
        q, k = _split(node.inputs[0], "queries", full), _split(node.inputs[1], "keys", full)
        v = _split(node.inputs[2], "values", False)
        if form.mask is None or _shift.hides_all(node.inputs[3]):
            k = _unbiased(k)
        if not (form.safe and form.mask is not None and bounds(node.inputs[3]) is None):
            # every row of weights sums to 1, or is NaN
            v, merge = _moved(v, merge, heads // kv_heads, value_size)
        factor = q.scale * k.scale
        if factor != 1:
            form = replace(form, scale_at=form.scale_at or "q")
        attributes = {
            "num_heads": heads,
            "kv_num_heads": kv_heads,
            "scale": node.attributes["scale"].as_float() * factor,
            "causal": int(form.causal),
            "safe": int(form.safe),
        }
        return Match(
            "MultiHeadAttention",
            [q.operand, k.operand, v.operand, *node.inputs[3:]],
            [merge.output],
            _bodies.multi_head(form, heads, kv_heads, size, value_size),
            attributes,
            inside([node, *merge.nodes], [*q.nodes, *k.nodes, *v.nodes]),
            merge.after,
        )


@dataclass(frozen=True)
class _Split:
    """``operand`` [batch, length, heads * size], of which ``nodes`` make ``scale`` times the 4-D operand."""

    operand: Operand
    scale: float
    nodes: tuple[ir.Node, ...]


@dataclass(frozen=True)
class _Merge:
    """``nodes`` make ``output`` of the 4-D result; so does ``after`` of the merged one."""

    output: ir.Value
    nodes: tuple[ir.Node, ...]
    after: Callable[[ir.Value], Operand] | None = None


def _unbiased(keys: _Split) -> _Split:
    """The keys without a bias, which adds the same to all scores of a query."""
    found = _shift.biased(keys.operand)
    return keys if found is None else replace(keys, operand=found.source, nodes=(*keys.nodes, found.add))


def _moved(values: _Split, merge: _Merge, group: int, size: int) -> tuple[_Split, _Merge]:
    """The values without a bias that the projection of the result can take over, and that projection."""
    found = _shift.biased(values.operand)
    if found is None or merge.after is not None:
        return values, merge
    bias = np.repeat(found.bias.reshape(-1, size), group, 0).reshape(-1)
    end = _shift.projected(merge.output, bias)
    if end is None:
        return values, merge
    without = replace(values, operand=found.source, nodes=(*values.nodes, found.add))
    return without, _Merge(end.output, (*merge.nodes, *end.nodes), end.after)


def _static(value: ir.Value | None, what: str) -> tuple[int, int]:
    """The number of heads and the head size."""
    assert value is not None and value.shape is not None
    heads, size = value.shape[1], value.shape[3]
    if not isinstance(heads, int) or not isinstance(size, int):
        raise NearMiss(f"the number or the size of the heads of {what} is not known")
    return heads, size


def _split(value: ir.Value | None, what: str, scalable: bool) -> _Split:
    """Where the heads of ``value`` are split off.

    A source in just the right layout is preferred, and of those the furthest, which takes in a scale before
    the split where it may (``scalable``).
    """
    assert value is not None
    sources = _layout.sources(_layout.start(value))
    found = [(layout, _arranged(layout)) for layout in sources if scalable or layout.scale == 1]
    usable = [(layout, operand) for layout, operand in found if operand is not None]
    if not usable and match.is_constant(value):  # the runtime rearranges it once
        batch, heads, length, size = _new.dims(value)
        assert isinstance(heads, int) and isinstance(size, int)
        rows = _new.transpose(value, (0, 2, 1, 3))
        return _Split(_new.reshape(rows, [batch, length, heads * size]), 1.0, ())
    if not usable:
        raise NearMiss(f"the heads of {what} are not split off by a reshape and a transpose")
    direct = [pair for pair in usable if isinstance(pair[1], ir.Value)]
    layout, operand = direct[-1] if direct else usable[0]
    return _Split(operand, layout.scale, layout.nodes)


def _arranged(layout: Layout) -> Operand | None:
    """``layout``'s value as [batch, length, heads * size], if no more than that has to be done to it."""
    batch, heads, length, size = _layout.start_sizes(layout)
    if layout.reads("b", "s", "nd"):
        return layout.value
    if layout.reads("s", "b", "nd"):
        return _new.transpose(layout.value, (1, 0, 2))
    if layout.reads("bs", "nd") and isinstance(heads, int) and isinstance(size, int):
        return _reshaped(layout.value, [batch, length, heads * size])
    return _picked(layout)


def _reshaped(value: ir.Value, sizes: list[_frame.Dim]) -> Operand | None:
    return _new.reshape(value, sizes) if _new.can_reshape(value, sizes) else None


def _picked(layout: Layout) -> Operand | None:
    """One of several operands that one projection computes side by side."""
    position = layout.picked
    _, heads, _, size = _layout.start_sizes(layout)
    if position is None or not isinstance(heads, int) or not isinstance(size, int):
        return None
    width = heads * size
    if layout.reads("b", "s", "cnd"):
        return _new.slice_last(layout.value, position * width, (position + 1) * width)
    if layout.reads("s", "b", "cnd"):
        part = _new.slice_last(layout.value, position * width, (position + 1) * width)
        return _new.transpose(part, (1, 0, 2))
    return None


def _merged(value: ir.Value) -> _Merge:
    """Where the heads of the result are merged into one axis."""
    assert value.shape is not None
    batch, heads, length, size = value.shape
    assert isinstance(heads, int) and isinstance(size, int)
    joint = ir.Shape([batch, length, heads * size])
    for layout in _layout.results(_layout.start(value)):
        output = layout.value
        if layout.reads("b", "s", "nd"):
            return _Merge(output, layout.nodes)
        change = _change(layout)
        if change is not None:
            return _Merge(output, layout.nodes, lambda y: change(_new.typed(y, value, joint)))  # noqa: B023
    raise NearMiss("the heads are not merged by a transpose and a reshape")


def _change(layout: Layout) -> Callable[[ir.Value], Operand] | None:
    """What makes ``layout``'s value of [batch, length, heads * size]."""
    sizes = _new.dims(layout.value)
    dynamic = sum(not isinstance(each, int) for each in sizes)
    if layout.reads("s", "b", "nd"):
        return lambda y: _new.transpose(y, (1, 0, 2))
    if layout.reads("bs", "nd") and dynamic <= 1:
        return lambda y: _new.reshape(y, sizes)
    if layout.reads("sb", "nd") and dynamic <= 1:
        return lambda y: _new.reshape(_new.transpose(y, (1, 0, 2)), sizes)
    return None
