"""Operators that move, select, reduce and make elements."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.nn import functional as F

from .table import Node, Op, Tensor, ints, plain


def _shape(node: Node, x: Tensor) -> Tensor:
    return torch.tensor(list(x.shape)[node.get("start", 0) : node.get("end")], dtype=torch.int64)


def _constant(node: Node) -> Tensor:
    kind, value = next(iter(node.attributes.items()))
    if kind == "value":
        return value  # type: ignore[no-any-return]
    return torch.tensor(value, dtype=torch.float32 if "float" in kind else torch.int64)


def _constant_of_shape(node: Node, shape: Tensor) -> Tensor:
    value = node.get("value", torch.zeros(1))
    return torch.full(ints(shape), value.reshape(()).item(), dtype=value.dtype)


def _reshape(node: Node, x: Tensor, shape: Tensor) -> Tensor:
    sizes = ints(shape)
    if not node.get("allowzero", 0):
        sizes = [x.shape[i] if size == 0 else size for i, size in enumerate(sizes)]
    return x.reshape(sizes)


def _flatten(node: Node, x: Tensor) -> Tensor:
    axis = node.get("axis", 1)
    axis = axis + x.ndim if axis < 0 else axis
    first = 1
    for size in x.shape[:axis]:
        first *= size
    return x.reshape(first, x.numel() // first if first else -1)


def _transpose(node: Node, x: Tensor) -> Tensor:
    return x.permute(node.get("perm", list(range(x.ndim))[::-1]))


def _unsqueeze(node: Node, x: Tensor, axes: Tensor | None = None) -> Tensor:
    given = ints(node.get("axes") if axes is None else axes)
    rank = x.ndim + len(given)
    for axis in sorted(axis % rank for axis in given):
        x = x.unsqueeze(axis)
    return x


def _squeeze(node: Node, x: Tensor, axes: Tensor | None = None) -> Tensor:
    given = node.get("axes") if axes is None else axes
    return x.squeeze() if given is None else x.squeeze(tuple(ints(given)))


def _expand(node: Node, x: Tensor, shape: Tensor) -> Tensor:
    wanted = ints(shape)
    rank = max(x.ndim, len(wanted))
    have, wanted = ([1] * (rank - len(sizes)) + sizes for sizes in (list(x.shape), wanted))
    return x.expand([w if h == 1 else h for h, w in zip(have, wanted, strict=True)])


def _gather(node: Node, x: Tensor, index: Tensor) -> Tensor:
    axis = node.get("axis", 0) % x.ndim
    wrapped = torch.where(index < 0, index + x.shape[axis], index)
    picked = x.index_select(axis, wrapped.reshape(-1))
    return picked.reshape(*x.shape[:axis], *index.shape, *x.shape[axis + 1 :])


def _gather_elements(node: Node, x: Tensor, index: Tensor) -> Tensor:
    axis = node.get("axis", 0)
    return torch.gather(x, axis, torch.where(index < 0, index + x.shape[axis], index))


def _gather_nd(node: Node, x: Tensor, index: Tensor) -> Tensor:
    batch = node.get("batch_dims", 0)
    lead = [
        torch.arange(x.shape[i]).reshape([-1 if j == i else 1 for j in range(index.ndim - 1)])
        for i in range(batch)
    ]
    return x[(*lead, *index.unbind(-1))]


def _slice(node: Node, x: Tensor, *given: Tensor | None) -> Tensor:
    starts, ends = ints(given[0]), ints(given[1])
    axes = ints(given[2]) if len(given) > 2 and given[2] is not None else list(range(len(starts)))
    steps = ints(given[3]) if len(given) > 3 and given[3] is not None else [1] * len(starts)
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        wanted = range(
            *slice(start, None if step < 0 and end < -x.shape[axis] else end, step).indices(x.shape[axis])
        )
        if step > 0:
            x = x.narrow(axis, wanted.start, max(wanted.stop - wanted.start, 0))
            x = x[(slice(None),) * (axis % x.ndim) + (slice(None, None, step),)]
        else:
            x = x.index_select(axis, torch.tensor(list(wanted), dtype=torch.int64))
    return x


def _split(node: Node, x: Tensor, sizes: Tensor | None = None) -> Any:
    axis = node.get("axis", 0)
    given = node.get("split") if sizes is None else ints(sizes)
    if given is None:
        given = -(-x.shape[axis] // node.outputs)
    return torch.split(x, given, axis)


def _pad(
    node: Node, x: Tensor, pads: Tensor | None = None, value: Tensor | None = None, axes: Tensor | None = None
) -> Tensor:
    pads = node.get("pads") if pads is None else pads  # an attribute before opset 11
    amounts, chosen = ints(pads), list(range(x.ndim)) if axes is None else [a % x.ndim for a in ints(axes)]
    both = {axis: (amounts[i], amounts[i + len(chosen)]) for i, axis in enumerate(chosen)}
    pairs = [both.get(axis, (0, 0)) for axis in range(x.ndim)]
    mode = node.get("mode", "constant")
    if mode == "constant":
        flat = [amount for pair in reversed(pairs) for amount in pair]
        return F.pad(x, flat, value=node.get("value", 0.0) if value is None else value.item())
    for axis, pair in enumerate(pairs):
        x = x.index_select(axis, _mirrored(x.shape[axis], pair, mode)) if pair != (0, 0) else x
    return x


def _mirrored(size: int, pair: tuple[int, int], mode: str) -> Tensor:
    """Where the elements of a padded axis come from."""
    index = torch.arange(-pair[0], size + pair[1])
    if mode == "edge":
        return index.clamp(0, size - 1)
    if mode == "wrap":
        return index % size
    period = max(2 * (size - 1), 1)
    index = index.abs() % period
    return torch.where(index >= size, period - index, index)


def _reduce(function: Callable[..., Tensor]) -> Op:
    def op(node: Node, x: Tensor, axes: Tensor | None = None) -> Tensor:
        given = node.get("axes") if axes is None else ints(axes)
        if not given:
            if node.get("noop_with_empty_axes", 0):
                return x
            given = list(range(x.ndim))
        return function(x, tuple(given), bool(node.get("keepdims", 1)))

    return op


def _product(x: Tensor, axes: tuple[int, ...], keep: bool) -> Tensor:
    for axis in sorted((a % x.ndim for a in axes), reverse=True):
        x = x.prod(axis, keepdim=keep)
    return x


def _arg(function: Callable[..., Tensor]) -> Op:
    def op(node: Node, x: Tensor) -> Tensor:
        axis, keep = node.get("axis", 0), bool(node.get("keepdims", 1))
        if node.get("select_last_index", 0):
            last: Tensor = x.shape[axis] - 1 - function(x.flip(axis), axis, keep)
            return last
        return function(x, axis, keep)

    return op


def _cumsum(node: Node, x: Tensor, axis: Tensor) -> Tensor:
    dim = ints(axis)[0]
    x = x.flip(dim) if node.get("reverse", 0) else x
    total = torch.cumsum(x, dim, dtype=x.dtype)
    total = total - x if node.get("exclusive", 0) else total
    return torch.flip(total, (dim,)) if node.get("reverse", 0) else total


def _range(start: Tensor, end: Tensor, step: Tensor) -> Tensor:
    return torch.arange(start.item(), end.item(), step.item(), dtype=start.dtype)


def _trilu(node: Node, x: Tensor, k: Tensor | None = None) -> Tensor:
    diagonal = 0 if k is None else ints(k)[0]
    return torch.triu(x, diagonal) if node.get("upper", 1) else torch.tril(x, diagonal)


# Inputs that say how, not what: constant ones are bound as lists, so that torch.export sees numbers.
SIZE_INPUTS: dict[str, tuple[int, ...]] = {
    "Reshape": (1,), "Expand": (1,), "Slice": (1, 2, 3, 4), "Unsqueeze": (1,), "Squeeze": (1,), "Split": (1,),
    "Tile": (1,), "Pad": (1, 3), "ConstantOfShape": (0,), "Trilu": (1,), "CumSum": (1,),
    **dict.fromkeys(("ReduceSum", "ReduceMean", "ReduceMax", "ReduceMin", "ReduceProd"), (1,)),
    **dict.fromkeys(("ReduceL2", "ReduceSumSquare"), (1,)),
}  # fmt: skip

SHAPING_OPS: dict[str, Op] = {
    "Shape": _shape, "Size": plain(lambda x: torch.tensor(x.numel())), "Constant": _constant,
    "ConstantOfShape": _constant_of_shape, "Reshape": _reshape, "Flatten": _flatten,
    "Transpose": _transpose, "Unsqueeze": _unsqueeze, "Squeeze": _squeeze, "Expand": _expand,
    "Gather": _gather, "GatherElements": _gather_elements, "GatherND": _gather_nd, "Slice": _slice,
    "Split": _split, "Pad": _pad, "Trilu": _trilu, "CumSum": _cumsum,
    "Concat": lambda node, *parts: torch.cat(parts, node.get("axis")),
    "Tile": lambda node, x, repeats: x.repeat(ints(repeats)),
    "Range": plain(_range),
    "ReduceSum": _reduce(lambda x, axes, keep: x.sum(axes, keepdim=keep, dtype=x.dtype)),
    "ReduceMean": _reduce(lambda x, axes, keep: x.mean(axes, keepdim=keep)),
    "ReduceMax": _reduce(lambda x, axes, keep: x.amax(axes, keepdim=keep)),
    "ReduceMin": _reduce(lambda x, axes, keep: x.amin(axes, keepdim=keep)),
    "ReduceProd": _reduce(_product),
    "ReduceL2": _reduce(lambda x, axes, keep: x.square().sum(axes, keepdim=keep).sqrt()),
    "ReduceSumSquare": _reduce(lambda x, axes, keep: x.square().sum(axes, keepdim=keep)),
    "ArgMax": _arg(torch.argmax), "ArgMin": _arg(torch.argmin),
}  # fmt: skip
