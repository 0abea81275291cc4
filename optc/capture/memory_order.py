"""``as_strided`` reads memory, which ONNX does not have: it is given its input in the order of memory."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

import torch
from torch.fx.experimental.symbolic_shapes import statically_known_true

from optc.errors import CaptureError

from .provenance import innermost

_aten = torch.ops.aten


def in_memory_order(node: torch.fx.Node, undo: ExitStack) -> None:
    """The exporter takes the input of ``as_strided`` for contiguous, which in the eager run it need not be.

    An input that is dense in another order of its axes, as behind a transpose, is permuted into that order.

    Raises:
        CaptureError: the input has gaps, so that the result may have numbers that are not in the input.
    """
    if node.target is not _aten.as_strided.default:
        return
    source: Any = node.args[0]
    value = source.meta["val"]
    offset = node.args[3] if len(node.args) > 3 else None
    order = _order(value)
    if order is None or not isinstance(value.storage_offset(), int):
        raise CaptureError(
            "as_strided of a tensor with gaps in memory is not captured",
            where=innermost(node.meta.get("stack_trace") or ""),
            hint="call .contiguous() before it, or use unfold or slices instead",
        )
    given = node.args
    start = 0 if offset is None else offset - value.storage_offset()
    if order != sorted(order):
        with node.graph.inserting_before(node):
            turned = node.graph.call_function(_aten.permute.default, (source, order))
        turned.meta = {**source.meta, "val": value.permute(order)}
        undo.callback(node.graph.erase_node, turned)
        source = turned
    node.args = (source, *given[1:3], start)
    undo.callback(setattr, node, "args", given)


def _order(value: torch.Tensor) -> list[int] | None:
    """The axes from the slowest in memory to the fastest; None where the tensor has gaps or overlaps."""
    sizes, strides = value.shape, value.stride()
    order = sorted(range(value.dim()), key=lambda axis: (-_hint(strides[axis]), axis))
    expected: Any = 1
    for axis in reversed(order):
        if not statically_known_true(sizes[axis] == 1) and not statically_known_true(
            strides[axis] == expected
        ):
            return None
        expected = expected * sizes[axis]
    return order


def _hint(size: Any) -> int:
    return size if isinstance(size, int) else int(size.node.hint)
