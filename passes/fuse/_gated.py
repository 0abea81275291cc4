"""A sink that is written as a gate behind the product with the values.

    softmax([s, sink])[:-1] = softmax(s) * sigmoid(logsumexp(s) - sink)

so the attended values times that sigmoid are attention with the logit ``sink`` in its softmax.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from optc import match
from optc.analysis.bounds import bounds
from optc.rewrite import NearMiss

from . import _mask, _sink


@dataclass(frozen=True)
class Gate:
    """``nodes`` multiply attended values by what ``sink`` leaves for them, and give ``output``."""

    sink: _sink.Sink
    nodes: tuple[ir.Node, ...]
    output: ir.Value


def behind(attended: ir.Value, softmax: ir.Node) -> Gate | None:
    """The gate that ``attended``, [..., queries, size], goes through and nothing else; None without one."""
    times = match.only_reader(attended)
    if times is None or times.op_type != "Mul":
        return None
    factor = times.inputs[1] if times.inputs[0] is attended else times.inputs[0]
    wide = _widened(factor)
    sigmoid = match.producer(factor if wide is None else wide.inputs[0], "Sigmoid")
    gap = None if sigmoid is None else match.producer(sigmoid.inputs[0], "Sub")
    total = None if gap is None else match.producer(gap.inputs[0], "ReduceLogSumExp")
    if sigmoid is None or gap is None or total is None or total.inputs[0] is not softmax.inputs[0]:
        return None
    if not _over_keys(total) or (match.attr_int(total, "keepdims", 1) == 1) != (wide is None):
        raise NearMiss("the sum that gates the attended values is not over the keys")
    logits = gap.inputs[1]
    if logits is None or logits.dtype != total.outputs[0].dtype:
        raise NearMiss("the type of what gates the attended values is not known")
    sink = _sink.of(logits, column=None, widen=wide is not None)
    nodes = (total, gap, sigmoid, *([] if wide is None else [wide]), times)
    return Gate(sink, nodes, times.outputs[0])


def check_rows(events: Sequence[_mask.Event], safe: bool) -> None:
    """Where no key is kept, a gate leaves NaN, and a sink 0: that must not happen, or be 0 already."""
    if safe:
        return
    for event in events:
        if isinstance(event, _mask.Filled) and event.fill == -np.inf:
            raise NearMiss("the gate of a row without keys is NaN, where a sink gives 0")
        if isinstance(event, _mask.Added) and not _is_finite(event.term):
            raise NearMiss("what is added to the scores may leave a row without keys, where a gate is NaN")


def _is_finite(term: object) -> bool:
    return isinstance(term, ir.Value) and bounds(term) is not None


def _widened(factor: ir.Value | None) -> ir.Node | None:
    """The node that adds a last axis to the gate."""
    node = match.producer(factor, "Unsqueeze")
    if node is None:
        return None
    axis, rank = match.scalar(node.inputs[1]), match.rank(node.outputs[0])
    return node if rank is not None and axis in (-1, rank - 1) else None


def _over_keys(total: ir.Node) -> bool:
    """Whether it sums over the last axis alone."""
    rank = match.rank(total.inputs[0])
    if len(total.inputs) > 1:
        axis = match.scalar(total.inputs[1])
        return rank is not None and axis in (-1, rank - 1)
    axes = match.attr_ints(total, "axes")
    return rank is not None and axes in ((-1,), (rank - 1,))
