"""The way from the softmax to the product of the attention probabilities with the values."""

from __future__ import annotations

from dataclasses import dataclass, replace

import onnx_ir as ir

from optc import match

from ._scale import known_number


@dataclass(frozen=True)
class Use:
    """How the probabilities reach ``product``, as its input ``index``.

    ``safe``: rows that the softmax made NaN are set to 0. ``keep`` are conditions where the probabilities
    stay (with True: where the condition holds), all others are set to 0.
    """

    product: ir.Node
    index: int
    nodes: tuple[ir.Node, ...] = ()
    safe: bool = False
    keep: tuple[tuple[ir.Value, bool], ...] = ()
    reshaped: bool = False


def use_of(softmax: ir.Node) -> Use | None:
    """The way to the value product, or None when the softmax does not weigh values."""
    return _follow(softmax.outputs[0], 8)


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
        if use is None or _drops(node):
            return None
        return replace(use, nodes=(node, *use.nodes), reshaped=use.reshaped or node.op_type == "Reshape")
    if node.op_type == "Where" and index in (1, 2) and known_number(node.inputs[3 - index]) == 0:
        use = _follow(node.outputs[0], depth - 1)
        return None if use is None else _where(node, index, value, use)
    if node.op_type == "Mul" and (condition := _condition(node.inputs[1 - index])) is not None:
        use = _follow(node.outputs[0], depth - 1)
        if use is not None:
            return replace(use, nodes=(node, *use.nodes), keep=((condition, True), *use.keep))
    return None


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
