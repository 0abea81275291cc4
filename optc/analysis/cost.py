"""What every node costs: operations, bytes moved, and the time that a roofline gives it.

An estimate from shapes: caches, kernel quality and padding are not modelled. Views (Reshape and the like)
move nothing; a lookup moves what it returns, not the table. A fused function does the work of its body and
moves only its own inputs and outputs.
"""

from __future__ import annotations

import functools
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np
import onnx_ir as ir
from onnx_ir.passes.common import InlinePass

from optc.analysis import shapes
from optc.analysis.flops import Amount, Signature, flops, is_counted, product, shape_of, signature_key
from optc.analysis.graph import Captures, captures, operands
from optc.analysis.optypes import READS_WHAT_IT_WRITES, VIEWS
from optc.subgraphs import subgraphs


@dataclass(frozen=True)
class Machine:
    """Peak rates that the roofline is drawn with: float32 operations and bytes per second."""

    flops_per_s: float
    bytes_per_s: float


@dataclass(frozen=True)
class NodeCost:
    """One node: operations and bytes, None where the shapes do not tell; ``note`` says what is missing."""

    flops: Amount | None
    read: Amount | None
    written: Amount | None
    note: str | None = None

    @property
    def bytes(self) -> Amount | None:
        """Read and written."""
        return None if self.read is None or self.written is None else self.read + self.written

    def ms(self, machine: Machine) -> float:
        """Roofline: the larger of arithmetic and traffic, what is unknown or symbolic taken as 0."""
        arithmetic = self.flops if isinstance(self.flops, int) else 0
        traffic = self.bytes if isinstance(self.bytes, int) else 0
        return 1e3 * max(arithmetic / machine.flops_per_s, traffic / machine.bytes_per_s)


def cost(model: ir.Model, bind: Mapping[str, int] | None = None) -> dict[ir.Node, NodeCost]:
    """Returns the cost of every node of the main graph, in graph order; linear.

    Args:
        model: only read; its values should have shapes (see `optc.analysis.shapes.infer`).
        bind: sizes of named dims; without them, costs are expressions over the names.
    """
    counter = _Counter(model, dict(bind or {}))
    captured = captures(model.graph)
    return {node: counter.node(node, captured) for node in model.graph}


def total(costs: Iterable[NodeCost]) -> NodeCost:
    """Adds costs up, leaving out what is unknown; the notes are joined."""
    items = list(costs)
    notes = sorted({item.note for item in items if item.note})
    return NodeCost(
        _sum(item.flops for item in items),
        _sum(item.read for item in items),
        _sum(item.written for item in items),
        "; ".join(notes) or None,
    )


@functools.cache
def this_machine() -> Machine:
    """Measures the peaks once per process (about 0.3 s): a large matrix product and a large copy."""
    a = np.random.default_rng(0).random((768, 768), dtype=np.float32)
    source = np.ones(1 << 24, dtype=np.float32)
    target = np.empty_like(source)
    product_s = _best(lambda: np.matmul(a, a))
    copy_s = _best(lambda: np.copyto(target, source))
    return Machine(flops_per_s=2 * 768**3 / product_s, bytes_per_s=2 * source.nbytes / copy_s)


def _best(action: Callable[[], object], repeats: int = 7) -> float:
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        action()
        seconds.append(time.perf_counter() - start)
    return min(seconds)


def _sum(amounts: Iterable[Amount | None]) -> Amount:
    """Equal symbolic terms are gathered, then added pairwise: one by one is quadratic in the expression."""
    whole = 0
    counts: Counter[str] = Counter()
    terms: dict[str, ir.SymbolicDim] = {}
    for amount in amounts:
        if isinstance(amount, int):
            whole += amount
        elif amount is not None:
            terms[str(amount)] = amount
            counts[str(amount)] += 1
    left: list[Amount] = [term * counts[key] for key, term in terms.items()]
    while len(left) > 1:
        left = [sum(left[i + 1 : i + 2], left[i]) for i in range(0, len(left), 2)]
    return left[0] + whole if left else whole


@dataclass
class _Counter:
    model: ir.Model
    bind: dict[str, int]
    dims: dict[str, Amount] = field(default_factory=dict)
    known: dict[tuple[object, ...], NodeCost] = field(default_factory=dict)

    def node(self, node: ir.Node, captured: Captures) -> NodeCost:
        inputs = tuple(shape_of(value, self.dims, self.bind) for value in node.inputs)
        outputs = tuple(shape_of(value, self.dims, self.bind) for value in node.outputs)
        signature = Signature(node.op_type, inputs, outputs, node)
        bodies = [body for _, body in subgraphs(node)]
        if bodies:
            return self._with_bodies(node, bodies, operands(node, captured))
        dtypes = tuple(value.dtype for value in (*node.inputs, *node.outputs) if value is not None)
        key = (*signature_key(signature), dtypes, tuple(value is None for value in node.inputs))
        if key not in self.known:
            self.known[key] = self._call(node) or self._plain(signature)
        return self.known[key]

    def _plain(self, signature: Signature) -> NodeCost:
        node = signature.node
        work = flops(signature)
        read, written = self._traffic(node, [value for value in node.inputs if value is not None])
        note = None
        if not is_counted(node.op_type):
            note = f"no operation count for {node.op_type}: bytes only"
        elif work is None or read is None or written is None:
            note = f"a shape of {node.op_type} is not known"
        return NodeCost(work, read, written, note)

    def _traffic(self, node: ir.Node, reads: Iterable[ir.Value]) -> tuple[Amount | None, Amount | None]:
        if node.domain == "" and (node.op_type in VIEWS or node.op_type == "Constant"):
            return 0, 0
        sizes = [self._bytes(value) for value in dict.fromkeys(reads)]
        outputs = [self._bytes(value) for value in node.outputs if value.name]
        written = None if None in outputs else _sum(outputs)
        if node.op_type in READS_WHAT_IT_WRITES and node.domain == "" and sizes:
            sizes[0] = written
        return (None if None in sizes else _sum(sizes)), written

    def _bytes(self, value: ir.Value) -> Amount | None:
        dims = shape_of(value, self.dims, self.bind)
        if dims is None or value.dtype in (None, ir.DataType.STRING, ir.DataType.UNDEFINED):
            return None
        bits = product(dims) * value.dtype.bitwidth
        return (bits + 7) // 8 if isinstance(bits, int) else bits // 8

    def _with_bodies(self, node: ir.Node, bodies: list[ir.Graph], reads: list[ir.Value]) -> NodeCost:
        inner = []
        for body in bodies:
            captured = captures(body)
            inner += [self.node(member, captured) for member in body]
        inside = total(inner)
        read, written = self._traffic(node, reads)
        note = f"{node.op_type}: every body counted once"
        return NodeCost(inside.flops, _sum((inside.read, read)), _sum((inside.written, written)), note)

    def _call(self, node: ir.Node) -> NodeCost | None:
        """The cost of a call of a local function, None when the node is not one."""
        if node.op_identifier() not in self.model.functions:
            return None
        read, written = self._traffic(node, [value for value in node.inputs if value is not None])
        body = _Counter(self.model, self.bind)
        inside = total(body.node(member, {}) for member in _inlined(node, self.model, self.bind))
        note = inside.note or (
            "a shape of the call is not known" if read is None or written is None else None
        )
        return NodeCost(inside.flops, read, written, note and f"{node.op_type}: {note}")


def _inlined(call: ir.Node, model: ir.Model, bind: Mapping[str, int]) -> ir.Graph:
    """The body of one call as a graph of its own, with the shapes that it has at this call."""
    outer = list(dict.fromkeys(value for value in call.inputs if value is not None))
    inner = {value: _stand_in(value, i) for i, value in enumerate(outer)}
    copy = ir.Node(
        call.domain,
        call.op_type,
        [None if value is None else inner[value] for value in call.inputs],
        list(call.attributes.values()),
        overload=call.overload,
        num_outputs=len(call.outputs),
    )
    constants = [value for value in inner.values() if value.const_value is not None]
    graph = ir.Graph(
        [value for value in inner.values() if value.const_value is None],
        copy.outputs,
        nodes=[copy],
        initializers=constants,
        opset_imports=dict(model.opset_imports),
    )
    functions = [function.clone() for function in model.functions.values()]
    alone = ir.Model(graph, ir_version=model.ir_version, functions=functions)
    InlinePass()(alone)
    shapes.infer(alone)
    return alone.graph


def _stand_in(value: ir.Value, index: int) -> ir.Value:
    return ir.Value(
        name=f"operand_{index}",
        type=value.type,
        shape=None if value.shape is None else value.shape.copy(),
        const_value=value.const_value if value.is_initializer() and not value.is_graph_input() else None,
    )
