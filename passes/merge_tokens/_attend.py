"""Attention over tokens that stand for several: proportional attention.

A key that stands for s tokens counts s times, which is adding log(s) to its scores (Bolya et al., 2023).
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx_ir as ir

from optc import rewrite
from optc.passes.fuse import _bodies
from optc.rewrite import Match

from ._emit import Emitter
from ._level import Level
from ._masks import MEANINGS, meaning

_LOW = -1e30


def weighted(model: ir.Model, node: ir.Node, level: Level) -> ir.Node:
    """Puts a call with the mask for the tokens of ``level`` in the place of an attention, and returns it."""
    given = node.inputs[3] if len(node.inputs) > 3 else None
    mask = _mask(node, given, level)
    if mask is given:
        return node
    form = _bodies.form_of(node, model.functions[node.op_identifier()], rewrite.opset(model))
    capped = rewrite.kind(node) == "CappedAttention"
    form = replace(form, mask=None if mask is None else mask.dtype, capped=capped)
    attributes = {name: _plain(attribute) for name, attribute in node.attributes.items()}
    inputs = [*node.inputs[:3], *([] if mask is None else [mask])]
    kind = rewrite.kind(node)
    assert kind is not None and isinstance(node.graph, ir.Graph)
    function = rewrite.function_for(model, Match(kind, inputs, [], _bodies.attention(form), attributes))
    call = ir.node(function.name, inputs, attributes, domain=rewrite.DOMAIN, name=node.name)
    call.metadata_props.update(node.metadata_props)
    node.graph.insert_before(node, call)
    old, new = node.outputs[0], call.outputs[0]
    new.type, new.shape = old.type, old.shape
    name, old.name = old.name, None
    old.replace_all_uses_with(new, replace_graph_outputs=True)
    new.name = name
    node.graph.remove(node, safe=True)
    return call


def _plain(attribute: ir.Attr) -> float | int:
    return attribute.as_float() if attribute.type == ir.AttributeType.FLOAT else attribute.as_int()


def _mask(node: ir.Node, given: ir.Value | None, level: Level) -> ir.Value | None:
    means, bias = meaning(given), level.bias
    if means == "nothing":
        return bias
    assert given is not None and means in MEANINGS
    if means == "uniform":
        return given if bias is None else _joined(level, given, bias)
    # Sizes of padding are next to nothing, which the bias turns into a mask.
    return mask_at(level, given) if bias is None else bias


def _joined(level: Level, given: ir.Value, bias: ir.Value) -> ir.Value:
    key = (given, True)
    if key not in level.masks:
        e = level.emitter
        if given.dtype == ir.DataType.BOOL:
            low = e.constant(np.array(_LOW, np.float32))
            level.masks[key] = e.op("Where", given, bias, low, dtype=bias.dtype)
        else:
            level.masks[key] = e.op("Add", given, bias)
    return level.masks[key]


def mask_at(level: Level | None, given: ir.Value) -> ir.Value:
    """A mask of padding, [batch, 1, 1, tokens], for the tokens that are left."""
    if level is None:
        return given
    key = (given, False)
    if key not in level.masks:
        level.masks[key] = _picked(level, given)
    return level.masks[key]


def _picked(level: Level, given: ir.Value) -> ir.Value:
    e, index = level.emitter, level.index()
    chosen = e.op("GatherND", per_token(e, given), index, batch_dims=1)
    mask = e.op("Reshape", chosen, e.ints(0, 1, 1, -1))
    assert level.own_index.shape is not None
    mask.shape = ir.Shape([level.own_index.shape[0], 1, 1, level.count])
    return mask


def per_token(e: Emitter, mask: ir.Value) -> ir.Value:
    """A mask of padding, the same for all heads and queries, as [batch, tokens, 1]."""
    assert mask.shape is not None
    rank = len(mask.shape)
    if rank > 1:
        axes = list(range(max(rank - 3, 0), rank - 1))
        begin, end = e.ints(*[0] * len(axes)), e.ints(*[1] * len(axes))
        mask = e.op("Slice", mask, begin, end, e.ints(*axes))
    if rank < 4:
        return e.op("Reshape", mask, e.ints(1, -1, 1))
    return e.op("Reshape", mask, e.ints(0, -1, 1))
