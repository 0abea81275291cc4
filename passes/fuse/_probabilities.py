"""The way from the softmax to the product of the attention probabilities with the values."""

from __future__ import annotations

from dataclasses import dataclass, replace

import onnx_ir as ir

from optc import match

from ._scale import known_number
from ._sink import dropped_column

_PASSES = frozenset({"Reshape", "Identity", "Squeeze", "Unsqueeze", "Where", "Cast"})
_MOVES = frozenset({"Pad", "Slice", "Gather", "GatherND", "Transpose", "Concat", "Split", "Expand"})
_STEPS = 16  # from the softmax to a product, at most


@dataclass(frozen=True)
class Use:
    """How the probabilities reach ``product``, as its input ``index``.

    ``safe``: rows that the softmax made NaN are set to 0. ``keep`` are conditions where the probabilities
    stay (with True: where the condition holds), all others are set to 0. ``swapped``: they come in as
    [..., keys, queries]. ``dropped`` is the column that is sliced off (0 for the first one, -1 for the last).
    """

    product: ir.Node
    index: int
    nodes: tuple[ir.Node, ...] = ()
    safe: bool = False
    keep: tuple[tuple[ir.Value, bool], ...] = ()
    swapped: bool = False
    dropped: int | None = None


def use_of(softmax: ir.Node) -> Use | None:
    """The way to the value product, or None when the softmax does not weigh values."""
    return _follow(softmax.outputs[0], 8)


def why_unused(softmax: ir.Node) -> str | None:
    """How probabilities that :func:`use_of` cannot follow weigh values all the same; None if they do not."""
    weighed = [use.node for use in softmax.outputs[0].uses()]
    for node in weighed:
        readers = [use.node for use in node.outputs[0].uses()]
        if node.op_type == "Mul" and any(reader.op_type == "ReduceSum" for reader in readers):
            return "additive attention: its weights multiply the values element by element and are summed up"
    return _moved(softmax.outputs[0])


def _moved(value: ir.Value) -> str | None:
    """Whether the probabilities are moved about, as for a band of keys, on their way to a product.

    Or whether that is a product of more than the two.
    """
    moved: str | None = None
    for _ in range(_STEPS):
        readers = [use.node for use in value.uses() if use.node.domain in ("", "ai.onnx")]
        many = next((r for r in readers if r.op_type == "Einsum" and len(r.inputs) > 2), None)
        if many is not None:
            return f"the probabilities weigh values in an Einsum of {len(many.inputs)} operands"
        node = next((reader for reader in readers if reader.op_type in _PASSES | _MOVES), None)
        if node is None:
            weighs = moved and any(reader.op_type in ("MatMul", "Einsum") for reader in readers)
            return f"the probabilities go through {moved} before they weigh values" if weighs else None
        moved = moved or (node.op_type if node.op_type in _MOVES else None)
        value = node.outputs[0]
    return None


def _follow(value: ir.Value, depth: int) -> Use | None:
    if depth == 0:
        return None
    uses = [use for use in value.uses() if use.node.domain in ("", "ai.onnx")]
    for use in uses:
        if use.node.op_type in ("MatMul", "Einsum") and len(use.node.inputs) == 2:
            return Use(use.node, use.idx)
    for use in uses:
        found = _through(use.node, use.idx, value, depth)
        if found is not None:
            return found
    return None


def _through(node: ir.Node, index: int, value: ir.Value, depth: int) -> Use | None:
    if node.op_type in ("Cast", "Identity", "Dropout", "Reshape") and index == 0:
        use = _follow(node.outputs[0], depth - 1)
        if use is None or _drops(node) or not _keeps_pair(node):
            return None
        return replace(use, nodes=(node, *use.nodes))
    if node.op_type == "Transpose" and _swaps_pair(node):
        use = _follow(node.outputs[0], depth - 1)
        if use is None or use.keep or use.dropped is not None:
            return None
        return replace(use, nodes=(node, *use.nodes), swapped=not use.swapped)
    if node.op_type == "Slice" and index == 0 and (column := dropped_column(node)) is not None:
        use = _follow(node.outputs[0], depth - 1)
        if use is None or use.dropped is not None:
            return None
        return replace(use, nodes=(node, *use.nodes), dropped=column)
    if node.op_type == "Where" and index in (1, 2) and known_number(node.inputs[3 - index]) == 0:
        use = _follow(node.outputs[0], depth - 1)
        return None if use is None else _where(node, index, value, use)
    if node.op_type == "Mul" and (condition := _condition(node.inputs[1 - index])) is not None:
        use = _follow(node.outputs[0], depth - 1)
        if use is not None:
            return replace(use, nodes=(node, *use.nodes), keep=((condition, True), *use.keep))
    return None


def _keeps_pair(node: ir.Node) -> bool:
    """Whether queries and keys stay the last two axes: a Reshape may merge and split those before."""
    before, after = node.inputs[0], node.outputs[0]
    if node.op_type != "Reshape":
        return True
    return all(match.same_dim(match.dim(before, axis), match.dim(after, axis)) for axis in (-2, -1))


def _swaps_pair(node: ir.Node) -> bool:
    """Whether a Transpose exchanges the last two axes, and no others."""
    rank = match.rank(node.outputs[0])
    perm = match.attr_ints(node, "perm")
    return rank is not None and perm == (*range(rank - 2), rank - 1, rank - 2)


def _drops(node: ir.Node) -> bool:
    """Whether this is a dropout that may be active."""
    if node.op_type != "Dropout" or len(node.inputs) < 3 or node.inputs[2] is None:
        return False
    training = match.constant(node.inputs[2])
    return training is None or bool(training)


def _where(node: ir.Node, index: int, value: ir.Value, use: Use) -> Use:
    condition = node.inputs[0]
    assert condition is not None
    test = match.producer(condition, "IsNaN")
    if test is not None and test.inputs[0] is value and index == 2:
        return replace(use, nodes=(test, node, *use.nodes), safe=True)
    return replace(use, nodes=(node, *use.nodes), keep=((condition, index == 1), *use.keep))


def _condition(value: ir.Value | None) -> ir.Value | None:
    """The condition that ``value`` is 1 where it holds and 0 elsewhere."""
    cast = match.producer(value, "Cast")
    if cast is None or cast.inputs[0] is None or cast.inputs[0].dtype != ir.DataType.BOOL:
        return None
    return cast.inputs[0]
