"""Which tokens must stay themselves: those that enter beside the data (class, distillation, register tokens),
and those that are read alone at the end."""

from __future__ import annotations

import onnx_ir as ir

from optc import match
from optc.analysis import shapes
from optc.analysis.axes import Followed
from optc.analysis.graph import captures

_DEPTH = 32
_ELEMENTWISE = frozenset({"Add", "Sub", "Mul", "Div", "Where"})
_PER_TOKEN = frozenset({"LayerNormalization", "RMSNormalization", "Cast", "Identity", "Dropout"})
_FEW = 8  # leading tokens that an index may single out


def leading(graph: ir.Graph, value: ir.Value, axis: int, followed: Followed) -> int:
    """How many tokens at the front of ``value`` (its tokens lie on ``axis``) to protect."""
    read = [step.first for step in followed.steps.values() if step.first is not None]
    picked = max((first for first in read if first <= _FEW), default=0)
    return max(_Ends(_varying(graph), front=True).constant(value, axis), picked)


def trailing(graph: ir.Graph, value: ir.Value, axis: int) -> int:
    """How many tokens at the end do not depend on the data, such as detection tokens."""
    return _Ends(_varying(graph), front=False).constant(value, axis)


def _varying(graph: ir.Graph) -> set[ir.Value]:
    """The values whose contents, not only their shape, depend on an input."""
    varying = {value for value in graph.inputs if not value.is_initializer()}
    captured = captures(graph)
    for node in graph:
        if node.op_type in ("Shape", "Size"):
            continue
        reads = (*node.inputs, *captured.get(node, ()))
        if any(value in varying for value in reads if value is not None):
            varying.update(node.outputs)
    return varying


class _Ends:
    """Counts the tokens at one end that do not depend on the data."""

    def __init__(self, varying: set[ir.Value], *, front: bool) -> None:
        self.varying, self.front = varying, front

    def constant(self, value: ir.Value | None, axis: int, depth: int = _DEPTH) -> int:
        """Tokens at this end of ``value`` along ``axis``; 0 where that is not seen."""
        if value is None or depth == 0:
            return 0
        if value not in self.varying:
            return match.static_dim(value, axis) or 0
        node = value.producer()
        if node is None or node.domain not in ("", "ai.onnx"):
            return 0
        rank = match.rank(value) or 0
        if node.op_type in _PER_TOKEN:
            return self.constant(node.inputs[0], axis, depth - 1)
        if node.op_type in _ELEMENTWISE:
            inputs = [v for v in node.inputs if v is not None and v in self.varying]
            return min(self.constant(v, axis - rank + (match.rank(v) or 0), depth - 1) for v in inputs)
        if node.op_type == "MatMul" and node.inputs[1] not in self.varying and axis < rank - 1:
            return self.constant(node.inputs[0], axis, depth - 1)
        if node.op_type == "Transpose":
            perm = match.attr_ints(node, "perm") or tuple(reversed(range(rank)))
            return self.constant(node.inputs[0], perm[axis], depth - 1)
        if node.op_type == "Concat" and match.attr_int(node, "axis", 0) % rank == axis:
            return self._joined(node, axis, depth)
        if node.op_type == "Slice":
            return self._sliced(node, axis, depth)
        return 0

    def _joined(self, node: ir.Node, axis: int, depth: int) -> int:
        total = 0
        for part in node.inputs if self.front else reversed(node.inputs):
            count = self.constant(part, axis, depth - 1)
            total += count
            if count == 0 or count != match.static_dim(part, axis):
                break
        return total

    def _sliced(self, node: ir.Node, axis: int, depth: int) -> int:
        source = node.inputs[0]
        given = [shapes.constant_ints(node.inputs[i]) for i in (1, 3) if i < len(node.inputs)]
        if len(given) < 2 or given[0] is None or given[1] is None or len(given[1]) != 1:
            return 0
        begin, along = given[0][0], given[1][0]
        if not isinstance(along, int) or not isinstance(begin, int) or begin < 0 or not self.front:
            return 0
        count = self.constant(source, axis, depth - 1)
        if along % (match.rank(source) or 1) != axis:
            return count
        left, size = max(count - begin, 0), match.static_dim(node.outputs[0], axis)
        return left if size is None else min(left, size)
