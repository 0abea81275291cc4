"""The way from attention scores, q @ k^T, to the softmax over them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import onnx_ir as ir

from optc import match

_FORWARD = frozenset(
    {"Cast", "Identity", "Dropout", "Reshape", "Squeeze", "Unsqueeze", "Div", "Sub", "Tanh", "Clip"}
)
_EITHER = frozenset({"Add", "Mul", "Max", "Min"})
_LENGTH = 16  # steps on one way; more than the longest chain seen, so that the search stays linear


@dataclass(frozen=True)
class Step:
    """One node on the way, and which of its inputs carries the scores."""

    node: ir.Node
    index: int

    @property
    def scores(self) -> ir.Value:
        """The scores before this step."""
        value = self.node.inputs[self.index]
        assert value is not None
        return value

    @property
    def other(self) -> ir.Value | None:
        """The other operand of an element-wise step of two operands."""
        return self.node.inputs[1 - self.index]


@dataclass(frozen=True)
class Way:
    """A product and the steps, in the order of computation, that lead from it to the softmax."""

    product: ir.Node
    steps: tuple[Step, ...]


def ways(softmax: ir.Node) -> list[Way]:
    """All ways back from the softmax to a product; biases can contain products too, so there may be several.

    Ways that change the layout come last: they are seldom the scores and more often a bias.
    """
    found = list(_back(softmax.inputs[0], ()))
    return sorted(found, key=lambda way: sum(step.node.op_type == "Reshape" for step in way.steps))


def _back(value: ir.Value | None, steps: tuple[Step, ...]) -> Iterator[Way]:
    node = match.producer(value, "MatMul", "Einsum")
    if node is not None:
        yield Way(node, steps)
        return
    node = value.producer() if value is not None else None
    if node is None or node.domain not in ("", "ai.onnx") or len(steps) == _LENGTH:
        return
    for index in _carriers(node):
        yield from _back(node.inputs[index], (Step(node, index), *steps))


def _joined(node: ir.Node) -> tuple[int, ...]:
    """The input that one more column is joined to."""
    columns = [match.dim(value, -1) == 1 for value in node.inputs]
    last = match.attr_int(node, "axis", 0) in (-1, (match.rank(node.outputs[0]) or 0) - 1)
    return (columns.index(False),) if last and sorted(columns) == [False, True] else ()


def _carriers(node: ir.Node) -> tuple[int, ...]:
    """The inputs of ``node`` that scores may come through."""
    if node.op_type in _FORWARD:
        return (0,)
    if node.op_type in _EITHER:
        return (0, 1) if len(node.inputs) == 2 else ()
    if node.op_type == "Concat":
        return _joined(node)
    return (1, 2) if node.op_type == "Where" else ()
