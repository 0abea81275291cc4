"""The graph with its functions opened: numbered values and operations, and which of them carry the data.

The block analysis reads this view, so that a residual add is found wherever it hides: as a node, inside an
``optc`` function, or in an operator of the runtime that adds on the side.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import IntEnum

import onnx_ir as ir

from optc.analysis.graph import captures, operands
from optc.analysis.optypes import HEAVY, LOOKUPS, NO_DATA_OUT
from optc.errors import InvalidModel
from optc.subgraphs import subgraphs

OPENED_OPS = 10_000  # a function that opens into more stays closed (nested calls can grow without bound)


class Role(IntEnum):
    """What a value is to the computation, from the values it is made of."""

    CONSTANT = 0  # known before the inputs are
    SIDE = 1  # masks, shapes, positions, token ids: made of inputs, not of features
    DERIVED = 2  # says something about the data: its shape, a comparison, an order
    DATA = 3  # features: embeddings, and whatever is computed from them


@dataclass(frozen=True, slots=True)
class Op:
    """One operation; ``inputs`` and ``outputs`` are value numbers, ``owner`` the position of its node."""

    op_type: str
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    owner: int
    heavy: bool


@dataclass
class Flow:
    """Operations and values in topological order: a value's number is larger than those it is made of."""

    nodes: list[ir.Node]
    ops: list[Op] = field(default_factory=list)
    values: list[ir.Value | None] = field(default_factory=list)  # None inside a function
    producer: list[int] = field(default_factory=list)  # number of the op, -1 for inputs and constants
    users: list[list[int]] = field(default_factory=list)  # numbers of the ops that read it
    returned: set[int] = field(default_factory=set)  # values that are outputs of the graph
    role: list[Role] = field(default_factory=list)
    number: dict[ir.Value, int] = field(default_factory=dict)

    def data_inputs(self, value: int) -> list[int]:
        """The data that ``value`` is computed from, one step back."""
        op = self.producer[value]
        if op < 0:
            return []
        return [operand for operand in self.ops[op].inputs if self.role[operand] == Role.DATA]

    def is_private(self, value: int) -> bool:
        """Whether exactly one op reads the value."""
        return len(self.users[value]) == 1 and value not in self.returned

    def between(self, entry: int, exit: int) -> list[int]:
        """Numbers of the ops on a data path from ``entry`` to ``exit``, ascending. Local: costs its size."""
        seen, stack = {exit}, [exit]
        while stack:
            for operand in self.data_inputs(stack.pop()):
                if operand > entry and operand not in seen:
                    seen.add(operand)
                    stack.append(operand)
        return self.on_path(entry, seen)

    def on_path(self, entry: int, candidates: set[int]) -> list[int]:
        """The producers of those candidates that are computed from ``entry``, ascending."""
        reached, ops = {entry}, []
        for value in sorted(candidates):
            if value != entry and not reached.isdisjoint(self.data_inputs(value)):
                reached.add(value)
                ops.append(self.producer[value])
        return sorted(set(ops))

    def owners(self, ops: Sequence[int]) -> list[int]:
        """Positions of the nodes that the ops belong to, ascending."""
        return sorted({self.ops[op].owner for op in ops})


def open_graph(model: ir.Model) -> Flow:
    """Returns the opened view of the main graph of ``model``; the model is only read.

    Raises:
        InvalidModel: a node reads a value that nothing before it defines.
    """
    return _Opener(model).flow


class _Opener:
    def __init__(self, model: ir.Model) -> None:
        self.functions = model.functions
        self.sizes: dict[ir.OperatorIdentifier, int] = {}
        self.flow = Flow(nodes=list(model.graph))
        captured = captures(model.graph)
        for value in model.graph.inputs:
            self.flow.number[value] = self._value(value, _input_role(value))
        for value in model.graph.initializers.values():
            if value not in self.flow.number:
                self.flow.number[value] = self._value(value, Role.CONSTANT)
        for position, node in enumerate(self.flow.nodes):
            reads = [self._lookup(value, node) for value in operands(node, captured)]
            given = iter(reads)
            inputs = [None if value is None else next(given) for value in node.inputs]
            outputs = self._node(node, inputs, list(given), position)
            for value, number in zip(node.outputs, outputs, strict=True):
                self.flow.values[number] = self.flow.values[number] or value
                self.flow.number[value] = number
        for value in model.graph.outputs:
            self.flow.returned.add(self._lookup(value, None))

    def _value(self, value: ir.Value | None, role: Role, producer: int = -1) -> int:
        flow = self.flow
        flow.values.append(value)
        flow.producer.append(producer)
        flow.users.append([])
        flow.role.append(role)
        return len(flow.values) - 1

    def _lookup(self, value: ir.Value, node: ir.Node | None) -> int:
        if value not in self.flow.number:
            where = f"node {node.name!r}" if node else "the graph outputs"
            raise InvalidModel(f"value {value.name!r} is read before anything defines it", where=where)
        return self.flow.number[value]

    def _node(self, node: ir.Node, inputs: list[int | None], captured: list[int], owner: int) -> list[int]:
        """Adds the operations of ``node``; returns the numbers of its outputs."""
        function = self.functions.get(node.op_identifier())
        if function is not None and self._size(function) <= OPENED_OPS:
            return self._call(function, node, inputs, owner)
        if node.domain == "com.microsoft" and node.op_type in _RUNTIME_SUMS:
            return self._runtime_sum(node, inputs, owner)
        heavy = node.op_type in HEAVY or any(_is_heavy(body) for _, body in subgraphs(node))
        return self._op(node.op_type, [*inputs, *captured], node.outputs, owner, heavy)

    def _op(
        self, op_type: str, inputs: Sequence[int | None], outputs: Sequence[ir.Value], owner: int, heavy: bool
    ) -> list[int]:
        reads = tuple(number for number in inputs if number is not None)
        index = len(self.flow.ops)
        for number in reads:
            self.flow.users[number].append(index)
        roles = [self.flow.role[number] for number in reads]
        numbers = [
            self._value(None, _result_role(op_type, roles, heavy, value, position), index)
            for position, value in enumerate(outputs)
        ]
        heavy = heavy and Role.DATA in roles
        self.flow.ops.append(Op(op_type, reads, tuple(numbers), owner, heavy))
        return numbers

    def _call(self, function: ir.Function, call: ir.Node, inputs: list[int | None], owner: int) -> list[int]:
        scope: dict[ir.Value, int | None] = dict.fromkeys(function.inputs)
        scope.update(zip(function.inputs, inputs, strict=False))
        for node in function:
            reads = [None if value is None else scope.get(value) for value in node.inputs]
            scope.update(zip(node.outputs, self._node(node, reads, [], owner), strict=True))
        results = [scope.get(value) for value in function.outputs][: len(call.outputs)]
        # A function that hands an input through gives a value of its own, as the call does.
        return [
            number if number is not None and self._is_own(number, owner) else self._alias(number, owner)
            for number in results
        ]

    def _is_own(self, number: int, owner: int) -> bool:
        op = self.flow.producer[number]
        return op >= 0 and self.flow.ops[op].owner == owner

    def _alias(self, number: int | None, owner: int) -> int:
        value = ir.Value(name="alias")
        return self._op("Identity", [number], [value], owner, heavy=False)[0]

    def _runtime_sum(self, node: ir.Node, inputs: list[int | None], owner: int) -> list[int]:
        """An operator that computes ``after(main(...) + summands)``: opened into these parts."""
        main, after, summands, total_output = _RUNTIME_SUMS[node.op_type]
        added = [inputs[i] for i in summands if i < len(inputs)]
        rest = [number for i, number in enumerate(inputs) if i not in summands]
        unnamed = [ir.Value(name="part")]
        if main:
            added, rest = [*self._op(main, rest, unnamed, owner, heavy=True), *added], []
        total = self._op("Add", added, unnamed, owner, heavy=False)[0]
        first = self._op(after, [total, *rest], node.outputs[:1], owner, heavy=False)[0] if after else total
        outputs = [first]
        for position in range(1, len(node.outputs)):
            outputs.append(total if position == total_output else self._value(None, Role.DERIVED, -1))
        return outputs

    def _size(self, function: ir.Function) -> int:
        known = self.sizes.get(function.identifier())
        if known is not None:
            return known
        self.sizes[function.identifier()] = OPENED_OPS + 1  # what a recursive call sees: stays closed
        size = 0
        for node in function:
            inner = self.functions.get(node.op_identifier())
            size += 1 if inner is None else self._size(inner)
        self.sizes[function.identifier()] = size
        return size


# op type -> (main op, op after the sum, inputs that are summed, output that is the sum or -1)
_RUNTIME_SUMS: dict[str, tuple[str, str, tuple[int, ...], int]] = {
    "SkipLayerNormalization": ("", "LayerNormalization", (0, 1, 4), 3),
    "SkipSimplifiedLayerNormalization": ("", "SimplifiedLayerNormalization", (0, 1, 3), 3),
    "FusedConv": ("Conv", "", (3,), -1),
    "NhwcFusedConv": ("Conv", "", (3,), -1),
}


def _is_heavy(graph: ir.Graph) -> bool:
    return any(node.op_type in HEAVY for node in graph.all_nodes())


def _input_role(value: ir.Value) -> Role:
    if value.is_initializer():
        return Role.CONSTANT  # a weight with a door: files before IR 4 list all of them as inputs
    dtype = value.dtype
    return Role.DATA if dtype is not None and dtype.is_floating_point() else Role.SIDE


def _result_role(op_type: str, roles: list[Role], heavy: bool, value: ir.Value, position: int) -> Role:
    top = max(roles, default=Role.CONSTANT)
    if op_type == "ConstantOfShape" and top == Role.CONSTANT:
        return Role.CONSTANT
    if top == Role.CONSTANT or (top == Role.DERIVED and not heavy):
        return top
    if heavy or op_type == "EmbedLayerNormalization":
        return Role.DATA
    if top == Role.SIDE:
        table = roles[0] == Role.CONSTANT
        return Role.DATA if op_type in LOOKUPS and table and _holds_features(value) else Role.SIDE
    tests = op_type in NO_DATA_OUT or value.dtype in (ir.DataType.BOOL, ir.DataType.INT64)
    beside = position > 0 and op_type in _SAYS_MORE
    return Role.DERIVED if tests or beside else Role.DATA


# What comes after their first output says something about the data: an order, a scale and a zero point.
_SAYS_MORE = frozenset({"TopK", "DynamicQuantizeLinear"})
_CODES = frozenset({ir.DataType.INT8, ir.DataType.UINT8, ir.DataType.INT4, ir.DataType.UINT4})


def _holds_features(value: ir.Value) -> bool:
    """Whether what is read from a table are floats, or codes of floats."""
    return value.dtype is None or value.dtype.is_floating_point() or value.dtype in _CODES
