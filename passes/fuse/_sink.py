"""Attention sinks: one more logit per query takes part in the softmax, and its column is dropped behind it.

Xiao et al., "Efficient Streaming Language Models with Attention Sinks", 2023; learned, one per head, in
gpt-oss. A query may so attend to nothing: its weights sum to less than 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import onnx_ir as ir

from optc import match
from optc.newnode import New, Operand, constant
from optc.rewrite import NearMiss

from . import _frame, _mask, _new

_LARGEST = 1 << 24  # elements of a constant that are looked at


@dataclass(frozen=True)
class Sink:
    """``logits`` [batch|1, heads|1, queries|1, 1] join the scores as their column ``column``, 0 or -1.

    ``least`` is the smallest of them, None where they are not known when compiling. ``column`` is None where
    they take part without being written beside the scores.
    """

    logits: Operand
    column: int | None
    least: float | None


def joined(concat: ir.Node, index: int, kind: ir.DataType) -> Sink:
    """What ``concat`` joins to scores of element type ``kind`` that are its input ``index``."""
    other = concat.inputs[1 - index]
    if other is None or other.dtype != kind or match.dim(other, -1) != 1:
        raise NearMiss("what is joined to the scores is not one column of their type")
    return of(other, -1 if index == 0 else 0)


def of(other: ir.Value, column: int | None, *, widen: bool = False) -> Sink:
    """The sink that ``other`` holds, once where it is repeated; ``widen`` adds an axis at its end."""
    array = match.constant(other)
    if array is not None and 0 < array.size <= _LARGEST:
        narrow = _narrowed(array)
        return Sink(constant(narrow[..., None] if widen else narrow), column, _least(array))
    if widen:
        return Sink(_new.unsqueeze(other, len(_new.dims(other))), column, None)
    spread = match.producer(other, "Expand")
    source = other if spread is None or spread.inputs[0] is None else spread.inputs[0]
    known = match.constant(source)
    return Sink(source, column, None if known is None else _least(known))


def cast(sink: Sink, kind: ir.DataType) -> Sink:
    """The sink after a cast of the scores that it has joined."""
    return replace(sink, logits=New("Cast", (sink.logits,), kind, sink.logits.shape, {"to": kind.value}))


def check_dropped(sink: Sink | None, dropped: int | None) -> None:
    """The column that is dropped must be the one that was joined."""
    if sink is None and dropped is not None:
        raise NearMiss("a column of the probabilities is dropped that is no sink")
    if sink is not None and sink.column != dropped:
        raise NearMiss("a column is joined to the scores, and not dropped from the probabilities")


def check_fills(sink: Sink, events: Sequence[_mask.Event]) -> None:
    """Masks turn finite fills into the lowest number, which next to a sink must make no difference.

    In a row that keeps no key the sink takes all if exp(fill - sink) is 0.
    """
    finite = [f for f in map(_fill, events) if f is not None and f != -np.inf]
    if not finite:
        return
    if sink.least is None and max(finite) > _mask.ABSORBING_FILL:
        raise NearMiss(f"masked scores are set to {max(finite):g}, next to a sink that is not a constant")
    if sink.least is not None and not sink.least >= max(finite) / 2:
        raise NearMiss(f"masked scores are set to {max(finite):g}, next to a sink of {sink.least:g}")


def placed(sink: Sink, q: Operand) -> Operand:
    """The logits, which must fit scores whose first three axes are those of the queries ``q``."""
    lead, sizes = _new.dims(q)[:-1], _new.dims(sink.logits)
    if len(lead) != 3:
        raise NearMiss("a sink joins scores without an axis of heads")
    if len(sizes) > 4 or (sizes and sizes[-1] != 1):
        raise NearMiss("what is joined to the scores is not one column of their type")
    for size, whole in zip(reversed(sizes[:-1]), reversed(lead), strict=False):
        if not _frame.fits(size, whole):
            raise NearMiss(f"a sink of {size} is not known to fit scores of {whole}")
    return sink.logits


def dropped_column(node: ir.Node) -> int | None:
    """Which column a ``Slice`` leaves out of the last axis, 0 or -1, if that is all it does; else None."""
    source = node.inputs[0]
    rank, size = match.rank(source), match.static_dim(source, -1)
    start, end, axis = (match.scalar(value) for value in (*node.inputs[1:4], *[None] * 3)[:3])
    step = match.scalar(node.inputs[4]) if len(node.inputs) > 4 else 1
    if rank is None or axis not in (-1, rank - 1) or start is None or end is None or step != 1:
        return None
    if start == 0 and (end == -1 or (size is not None and end == size - 1)):
        return -1
    whole = end >= np.iinfo(np.int32).max or (size is not None and end >= size)
    return 0 if start == 1 and whole else None


def _fill(event: _mask.Event) -> float | None:
    if isinstance(event, _mask.Filled):
        return event.fill
    return event.floor if isinstance(event, _mask.Floored) else None


def _least(array: np.ndarray) -> float | None:
    return float(array.astype(np.float64).min()) if array.size else None


def _narrowed(array: np.ndarray) -> np.ndarray:
    """Without the repetition along axes on which all entries are the same."""
    for axis in range(array.ndim):
        first = array.take([0], axis)
        if array.shape[axis] > 1 and np.array_equal(np.broadcast_to(first, array.shape), array):
            array = first
    return array
