"""From the parts of attention as they were found to the call that stands for them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import onnx_ir as ir

from optc import match
from optc.analysis.broadcast_rules import caps
from optc.newnode import Operand
from optc.rewrite import Match, NearMiss

from . import _bodies, _frame, _gated, _mask, _new, _operands, _products, _sink
from ._causal import is_causal
from ._inside import inside
from ._probabilities import Use
from ._read import Reading, frames, read
from ._scores import Way

_FULL_PRECISION = (ir.DataType.FLOAT, ir.DataType.DOUBLE)


def fused(way: Way, softmax: ir.Node, use: Use, opset: int) -> Match:
    """The call for attention whose scores come by ``way`` and whose probabilities go to ``use``."""
    _check_axis(softmax)
    queries, keys = _products.queries_and_keys(way.product)
    queries = replace(queries, value=_ranked(queries.value, keys.value))
    weighing = _products.weighing(use.product, use.index, use.swapped)
    axes = _frame.head_axes(queries.value, frames(way)) or [1]
    whole = _frame.leading(queries.value, "queries")
    q = _frame.framed(queries.value, whole, axes, "queries")
    k = _frame.framed(keys.value, whole, axes, "keys")
    v = _frame.framed(weighing.values, whole, axes, "values")
    if shared := axes[0] == 1:  # learned queries, which all of the batch may have in common
        axes = [_new.dims(k)[0], *axes[1:]]
    reading = read(way, k if shared else q, axes)
    heads = _heads(q, k, v)
    if reading.row_factor is not None:
        q = _new.multiply(q, reading.row_factor)
    events, safe = _settled(reading, use)
    result = _result(use.product, axes, weighing.perm)
    if (gate := _gated.behind(result.output, softmax)) is not None:
        _gated.check_rows(events, safe)
        result = _gated_result(result, gate, reading)
    sinks = _sinks(reading, use, events, q, axes[:1])
    mask = _mask.combine(events, reading.mask_kind or reading.kind)
    sizes = [*axes, _new.dims(q)[-2], _new.dims(k)[-2]]
    causal = isinstance(mask, ir.Value) and is_causal(mask, *sizes[-2:])
    mask = None if causal else mask
    _check_mask(mask, sizes)
    scale, scale_at = _scale(reading, queries.scale, keys.scale, _new.element_type(q))
    form = _bodies.AttentionForm(
        opset=opset,
        kind=_new.element_type(q),
        inner=reading.kind,
        scale_at=scale_at,
        mask=None if mask is None else _new.element_type(mask),
        causal=causal,
        safe=safe,
        kv_heads=heads.shared,
        group=heads.group,
        capped=reading.cap is not None,
        sink=bool(sinks),
    )
    _check_types(form, heads)
    core = [way.product, *(step.node for step in way.steps), softmax, *use.nodes, use.product, *result.nodes]
    nodes = inside(core, [*queries.nodes, *keys.nodes, *heads.nodes])
    attributes = {"scale": scale, "causal": int(causal), "safe": int(safe)}
    inputs, body = [q, heads.k, heads.v, *sinks], _bodies.attention(form)
    kind = "SinkAttention" if sinks else "Attention"
    if reading.cap is not None:
        if len(axes) == 1 or reading.cap <= 0:
            raise NearMiss("scores are capped without heads, or by a number that is not positive")
        kind = "CappedAttention"
        attributes |= {"scale": scale * reading.cap, "softcap": reading.cap}
    if len(axes) == 1:
        kind, body = "MultiHeadAttention", _one_head(form, heads)
        attributes |= {"num_heads": 1, "kv_num_heads": 1}
    if mask is not None:
        inputs.append(_new.unsqueeze(mask, 1) if len(axes) == 1 and len(_new.dims(mask)) == 3 else mask)
    return Match(kind, inputs, [result.output], body, attributes, nodes, result.after)


def _ranked(queries: Operand, keys: Operand) -> Operand:
    """``queries`` with as many axes as the keys: a product repeats those that have no batch."""
    missing = len(_new.dims(keys)) - len(_new.dims(queries))
    if missing <= 0 or len(_new.dims(queries)) < 2:
        return queries
    return _new.unsqueeze(queries, *range(missing))


@dataclass(frozen=True)
class _Result:
    """``output`` is what the call stands for, after ``after``; ``nodes`` come between it and the product."""

    output: ir.Value
    nodes: tuple[ir.Node, ...] = ()
    after: Callable[[ir.Value], Operand] | None = None


@dataclass(frozen=True)
class _Heads:
    """Keys and values with ``shared`` heads, each used by ``group`` query heads; ``nodes`` repeated them."""

    k: Operand
    v: Operand
    shared: int = 1
    group: int = 1
    nodes: tuple[ir.Node, ...] = ()


def _one_head(form: _bodies.AttentionForm, heads: _Heads) -> str:
    """Attention without an axis of heads is that of one head, with nothing to split or merge."""
    size, value_size = _new.dims(heads.k)[-1], _new.dims(heads.v)[-1]
    if not isinstance(size, int) or not isinstance(value_size, int):
        raise NearMiss("the head size is not known")
    return _bodies.multi_head(form, 1, 1, size, value_size)


def _check_axis(softmax: ir.Node) -> None:
    rank = match.rank(softmax.outputs[0])
    axis = match.attr_int(softmax, "axis", -1)
    if axis != -1 and (rank is None or axis != rank - 1):
        raise NearMiss("the softmax is not over the last axis")


def _heads(q: Operand, k: Operand, v: Operand) -> _Heads:
    """Checks that the leading axes of queries, keys and values belong together.

    Lengths need not be known: masks are known to fit the keys, so the product with the values holds only for
    as many of them, whatever their dimension is called (caches that are inputs have a name each).
    """
    found_k, found_v = _operands.shared_heads(k), _operands.shared_heads(v)
    heads = _Heads(k, v)
    if found_k is not None and found_v is not None and found_k.group == found_v.group:
        shared = _new.dims(found_k.value)[1]
        assert isinstance(shared, int)
        nodes = (*found_k.nodes, *found_v.nodes)
        heads = _Heads(found_k.value, found_v.value, shared, found_k.group, nodes)
    lead, lead_k, lead_v = (_new.dims(x)[:-2] for x in (q, heads.k, heads.v))
    if not _frame.same(lead_k, lead_v) or not (lead[:1] == [1] or _frame.same(lead[:1], lead_k[:1])):
        raise NearMiss("queries, keys and values are not known to have the same batch and heads")
    keys, values = _new.dims(heads.k)[-2], _new.dims(heads.v)[-2]
    if isinstance(keys, int) and isinstance(values, int) and keys != values:
        raise NearMiss("keys and values differ in length")
    if heads.group == 1 and lead[1:] != lead_k[1:] and lead_k[1:] != [1]:
        raise NearMiss("queries and keys differ in their number of heads")
    return heads


def _settled(reading: Reading, use: Use) -> tuple[list[_mask.Event], bool]:
    """The masking events, and whether rows without any key give 0.

    Probabilities set to 0 where the scores were masked before make the row 0 when all of it is masked: that
    is a mask of -inf with the NaN of an empty row replaced.
    """
    events = list(reading.events)
    for condition, keeps in use.keep:
        before = [i for i, event in enumerate(events) if _is_fill(event, condition, keeps)]
        if not before:
            raise NearMiss("the probabilities are masked after the softmax, by what did not mask the scores")
        for i in before:
            event = events[i]
            assert isinstance(event, _mask.Filled)
            events[i] = replace(event, fill=-np.inf)
    return events, use.safe or bool(use.keep)


def _sinks(
    reading: Reading, use: Use, events: Sequence[_mask.Event], q: Operand, batch: Sequence[_frame.Dim]
) -> list[Operand]:
    """What takes part in the softmax beside the keys: one operand, or nothing."""
    _sink.check_dropped(reading.sink, use.dropped)
    if reading.sink is None:
        return []
    if _new.dims(q)[:1] != batch:
        raise NearMiss("a sink joins scores of queries of batch 1")
    if reading.cap is not None:
        raise NearMiss("a sink joins scores that are capped")
    _sink.check_fills(reading.sink, events)
    return [_sink.placed(reading.sink, q)]


def _is_fill(event: _mask.Event, condition: ir.Value, keeps: bool) -> bool:
    if not isinstance(event, _mask.Filled):
        return False
    if event.origin is condition:
        return event.keeps == keeps
    inverse = match.producer(condition, "Not") or match.producer(event.origin, "Not")
    if inverse is None:
        return False
    return {inverse.inputs[0], inverse.outputs[0]} == {condition, event.origin} and event.keeps != keeps


def _check_mask(mask: Operand | None, scores: Sequence[_frame.Dim]) -> None:
    """The mask must broadcast to the scores, [..., queries, keys], and not widen them."""
    if mask is None:
        return
    sizes = _new.dims(mask)
    if len(sizes) > len(scores):
        raise NearMiss("a mask has more axes than the scores")
    for size, score in zip(reversed(sizes), reversed(scores), strict=False):
        if not _frame.fits(size, score) and not caps(size, score):
            unknown = isinstance(size, ir.SymbolicDim) and size.value is None
            shown = "unknown size" if unknown else size
            raise NearMiss(f"a mask of {shown} is not known to fit scores of {score}")


def _scale(reading: Reading, q: float, k: float, kind: ir.DataType) -> tuple[float, str]:
    """All scales before the cap, if any, as one number, and where it multiplies."""
    named = [("q", q), ("k", k), *reading.scales]
    total = math.prod(number for _, number in named)
    places = {place for place, number in named if number != 1}
    if total == 1 and not places and reading.cap is None:
        return 1.0, ""
    if kind in _FULL_PRECISION:
        return total, "q"
    if len(places) > 1 or places == {"k"} or reading.cap is not None:
        raise NearMiss("in half precision, scaling in one place would round differently")
    return total, places.pop()


def _check_types(form: _bodies.AttentionForm, heads: _Heads) -> None:
    kinds = {form.kind, _new.element_type(heads.k), _new.element_type(heads.v)}
    if len(kinds) > 1 or not form.kind.is_floating_point():
        raise NearMiss("queries, keys and values are not of one floating-point type")


def _result(product: ir.Node, axes: Sequence[_frame.Dim], perm: tuple[int, ...] | None) -> _Result:
    """Which value the call stands for, when its own result has the leading dimensions ``axes``.

    ``perm`` is how the product permutes [..., queries, size].
    """
    output = product.outputs[0]
    own = _frame.leading(output, "attention output")
    if perm is not None and perm != tuple(sorted(perm)):
        return _permuted(output, axes, perm)
    if len(own) == len(axes):
        return _Result(output)
    reader = match.only_reader(output)
    if reader is not None and reader.op_type == "Reshape":
        target = reader.outputs[0]
        if target.shape is not None and _frame.same(target.shape[:], [*axes, *_new.dims(output)[-2:]]):
            return _Result(target, (reader,))
    sizes = _new.dims(output)
    inner = ir.Shape([*axes, *sizes[-2:]])
    _check_regrouping(output, inner, sizes)
    return _Result(output, after=lambda y: _new.reshape(_new.typed(y, output, inner), sizes))


def _gated_result(result: _Result, gate: _gated.Gate, reading: Reading) -> _Result:
    """The result behind ``gate``, whose sink takes part in the softmax that ``reading`` leads to."""
    if reading.sink is not None or result.after is not None:
        raise NearMiss("the attended values are gated, with another sink among the scores or another layout")
    logits = _frame.term(gate.sink.logits, reading.frame, reading.axes, reading.q)
    reading.sink = replace(gate.sink, logits=logits)
    return _Result(gate.output, (*result.nodes, *gate.nodes))


def _check_regrouping(output: ir.Value, inner: ir.Shape, sizes: Sequence[_frame.Dim]) -> None:
    result = _new.typed(ir.Value(name=None), output, inner)
    if not _new.can_reshape(result, sizes):
        raise NearMiss("the result is in another layout, with more than one dynamic dimension")


def _permuted(output: ir.Value, axes: Sequence[_frame.Dim], perm: tuple[int, ...]) -> _Result:
    """An Einsum's result whose axes are not in the order of the call's."""
    sizes = _new.dims(output)
    own = [sizes[perm.index(axis)] for axis in range(len(perm))]
    inner = ir.Shape([*axes, *own[-2:]])
    if len(perm) == len(axes) + 2:
        return _Result(output, after=lambda y: _new.transpose(_new.typed(y, output, inner), perm))
    _check_regrouping(output, inner, own)
    return _Result(
        output, after=lambda y: _new.transpose(_new.reshape(_new.typed(y, output, inner), own), perm)
    )
