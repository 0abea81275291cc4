"""The leading axes of attention: scores in 3-D or 5-D layouts seen as [batch, heads, queries, keys]."""

from __future__ import annotations

import functools
import operator
from collections.abc import Sequence
from typing import TypeAlias

import onnx_ir as ir

from optc import match
from optc.newnode import New, Operand
from optc.rewrite import NearMiss

from . import _new

Dim: TypeAlias = "int | ir.SymbolicDim"


def leading(x: Operand | None, what: str) -> list[Dim]:
    """All but the last two dimensions."""
    if x is None or x.shape is None:
        raise NearMiss(f"the rank of the {what} is not known")
    if x.shape.rank() < 2:
        raise NearMiss(f"the {what} are a vector")
    return list(x.shape)[:-2]


def same(a: Sequence[Dim], b: Sequence[Dim]) -> bool:
    """Whether two lists of dimensions are known to be equal."""
    return len(a) == len(b) and all(x == y and _known(x) for x, y in zip(a, b, strict=True))


def fits(size: Dim | None, whole: Dim | None) -> bool:
    """Whether a dimension is known to broadcast to ``whole``."""
    return size == 1 or (size is not None and whole is not None and same([size], [whole]))


def _known(size: Dim) -> bool:
    return isinstance(size, int) or size.value is not None


def head_axes(q: Operand, frames: Sequence[Sequence[Dim]]) -> list[Dim]:
    """The leading axes in which to see attention whose queries are ``q``: [batch, heads], or [batch].

    ``frames`` are the leading axes that the scores have on their way to the softmax.
    """
    own = leading(q, "queries")
    if len(own) == 2:
        return own
    if len(own) > 2:
        return [_product(own[:-1]), own[-1]]
    for frame in frames:
        if len(frame) == 2:
            return [*frame]
    split = match.producer(q, "Reshape") if isinstance(q, ir.Value) else None
    source = split.inputs[0] if split is not None else None
    if source is not None and match.rank(source) == 4:
        before = leading(source, "queries")
        if isinstance(before[1], int) and same(_new.dims(source)[-2:], _new.dims(q)[-2:]):
            return before
    return own


def _product(sizes: Sequence[Dim]) -> Dim:
    return functools.reduce(operator.mul, sizes)


def framed(x: Operand, whole: Sequence[Dim], axes: Sequence[Dim], what: str) -> Operand:
    """``x`` [..., length, size] with the leading dimensions ``axes``, in the same order in memory.

    ``whole`` are the leading dimensions that are regrouped to ``axes``; those of ``x`` may end in 1 instead.
    """
    own = leading(x, what)
    if len(own) == len(axes):
        return x
    if not same(own, whole):
        if len(axes) < 2 or not same(own, [*whole[:-1], 1]) or axes[-1] != whole[-1]:
            raise NearMiss(f"the {what} have other leading axes than the queries")
        axes = [*axes[:-1], 1]
    node = x.producer() if isinstance(x, ir.Value) else None
    if node is not None and node.op_type == "Reshape" and node.inputs[0] is not None:
        source = node.inputs[0]
        if source.shape is not None and same(source.shape[:], [*axes, *_new.dims(x)[-2:]]):
            return source
    return regrouped(x, [*axes, *_new.dims(x)[-2:]], what)


def regrouped(x: Operand, sizes: Sequence[Dim], what: str) -> Operand:
    """``x`` reshaped to ``sizes``."""
    if not _new.can_reshape(x, sizes):
        raise NearMiss(f"the {what} are in another layout, with more than one dynamic dimension")
    return _new.reshape(x, sizes)


def regroups(node: ir.Node) -> bool:
    """Whether a reshape of scores changes only their leading axes."""
    before, after = node.inputs[0], node.outputs[0]
    if before is None or before.shape is None or after.shape is None:
        return False
    return before.shape.rank() >= 2 and same(before.shape[-2:], after.shape[-2:])


def term(x: Operand, frame: Sequence[Dim], axes: Sequence[Dim], q: Operand) -> Operand:
    """A mask that fits scores with the leading axes ``frame``, for scores with the leading axes ``axes``.

    ``q`` has the leading axes ``axes``, as the queries have; its shape gives dynamic sizes.
    """
    if x.shape is None:
        raise NearMiss("the rank of a mask is not known")
    if x.shape.rank() <= 2 or len(frame) == len(axes):
        return x
    own = [*[1] * (len(frame) + 2 - x.shape.rank()), *_new.dims(x)[:-2]]
    if len(own) != len(frame):
        raise NearMiss("a mask has more axes than the scores")
    tail = _new.dims(x)[-2:]
    if all(size == 1 for size in own):
        return regrouped(x, [*(1 for _ in axes), *tail], "masks")
    if same(own, frame):
        return regrouped(x, [*axes, *tail], "masks")
    if len(frame) == len(axes) + 1:
        return _tiled(x, own, frame, axes, q)
    raise NearMiss("a mask does not fit the axes of the scores")


def _tiled(x: Operand, own: list[Dim], frame: Sequence[Dim], axes: Sequence[Dim], q: Operand) -> Operand:
    """A mask per window, [1, windows, ...], for scores whose first axis is batch * windows."""
    windows, rest = own[1], own[2:]
    if own[0] != 1 or not isinstance(windows, int) or windows != frame[1]:
        raise NearMiss("a mask does not fit the axes of the scores")
    if any(size not in (1, axis) for size, axis in zip(rest, axes[1:], strict=True)):
        raise NearMiss("a mask does not fit the axes of the scores")
    flat = regrouped(x, [windows, *rest, *_new.dims(x)[-2:]], "masks")
    if axes[0] == windows:
        return flat
    count = New("Shape", (q,), ir.DataType.INT64, ir.Shape([len(_new.dims(q))]))
    first = New("Gather", (count, _new.ints(0)), ir.DataType.INT64, ir.Shape([1]))
    batch = New("Div", (first, _new.ints(windows)), ir.DataType.INT64, ir.Shape([1]))
    ones = _new.ints(*(1 for _ in _new.dims(flat)[1:]))
    repeats = New("Concat", (batch, ones), ir.DataType.INT64, ir.Shape([len(_new.dims(flat))]), {"axis": 0})
    return New("Tile", (flat, repeats), _new.element_type(x), ir.Shape([axes[0], *_new.dims(flat)[1:]]))
