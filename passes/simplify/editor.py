"""The hands of the rewrites: a worklist over the nodes, and edits that keep the model valid at every step."""

from __future__ import annotations

import logging
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir

from optc.analysis.shapes import UNKNOWN_KEY
from optc.passbase import Skip
from optc.removal import detach
from optc.trail import Trail

from .dims import Dim
from .facts import Facts

logger = logging.getLogger("optc.simplify")

Rewrite = Callable[[ir.Node, "Editor"], bool]


@dataclass(frozen=True)
class Rule:
    """One rewrite idea. ``apply(node, editor)`` says whether it changed the graph at ``node``."""

    name: str
    op_types: tuple[str, ...]
    apply: Rewrite


class Editor:
    """Edits of one model; every edit puts the nodes around it back on the worklist."""

    def __init__(self, model: ir.Model, facts: Facts, trail: Trail | None = None) -> None:
        self.model = model
        self.facts = facts
        self.trail = trail or Trail()
        self.opset = model.opset_imports.get("", 1)
        self.matched: Counter[str] = Counter()
        self._skipped: dict[ir.Node, dict[str, None]] = {}
        self._queue: deque[ir.Node] = deque()
        self._queued: set[ir.Node] = set()
        self._names = _names(model)
        self._constants: dict[tuple[Any, ...], tuple[ir.Value, ir.TensorProtocol]] = {}

    # -- the worklist ------------------------------------------------------------------------------------

    def enqueue(self, nodes: Iterable[ir.Node | None]) -> None:
        for node in nodes:
            if node is not None and node.graph is not None and node not in self._queued:
                self._queue.append(node)
                self._queued.add(node)

    def rewrite(self, rules: Sequence[Rule]) -> None:
        """Applies the rules until none fires any more."""
        by_type: dict[str, list[Rule]] = {}
        for rule in rules:
            for op_type in rule.op_types:
                by_type.setdefault(op_type, []).append(rule)
        self.enqueue(list(self.model.graph.all_nodes()))
        budget = 1000 + 50 * len(self._queue)  # rules that undo each other must not hang a compile
        while self._queue and budget:
            node = self._queue.popleft()
            self._queued.discard(node)
            if node.graph is None or self._remove_if_dead(node) or node.domain not in ("", "ai.onnx"):
                continue
            budget -= self._apply(by_type.get(node.op_type, ()), node)
        if self._queue:
            logger.warning("simplify stopped before its fixpoint at %s", self._queue[0].name)

    def _apply(self, rules: Sequence[Rule], node: ir.Node) -> int:
        if any(attribute.is_ref() for attribute in node.attributes.values()):
            return 0
        for rule in rules:
            if self.trail.open and rule.apply(node, self):
                self.matched[rule.name] += 1
                self.trail.applied(rule.name, [node])
                self.enqueue([node])
                return 1
        return 0

    def skip(self, node: ir.Node, reason: str) -> bool:
        """Notes a near miss; returns False for the rule to return."""
        self._skipped.setdefault(node, {})[reason] = None
        return False

    def skips(self) -> Iterator[Skip]:
        """The near misses at nodes that are still there."""
        for node, reasons in self._skipped.items():
            if node.graph is not None:
                label = node.name or node.outputs[0].name or node.op_type
                yield from (Skip(label, reason) for reason in reasons)

    # -- edits -------------------------------------------------------------------------------------------

    def add(
        self,
        before: ir.Node,
        op_type: str,
        inputs: Sequence[ir.Value | None],
        attributes: Mapping[str, Any] | None = None,
        *,
        dtype: ir.DataType | None = None,
        shape: Sequence[Dim] | None = None,
        like: ir.Node | None = None,
    ) -> ir.Value:
        """Inserts a node with one output before another one and returns the output.

        ``like`` is the node that it stands for (by default ``before``): its metadata is taken over.
        """
        name = self.fresh_name(f"{(like or before).outputs[0].name}_{op_type.lower()}")
        output = ir.Value(name=name)
        node = ir.node(op_type, inputs, dict(attributes or {}), outputs=[output], name=name)
        node.metadata_props.update((like or before).metadata_props)
        assert before.graph is not None
        before.graph.insert_before(before, node)
        self.facts.update(node)
        if dtype is not None and output.dtype is None:
            output.dtype = dtype
        if shape is not None and output.shape is None:
            output.shape = ir.Shape(shape)
        if output.shape is None and any(value is not None and value.shape is None for value in inputs):
            output.meta[UNKNOWN_KEY] = True
        self.enqueue([node])
        return output

    def constant(self, array: np.ndarray | ir.TensorProtocol, hint: str) -> ir.Value:
        """An initializer of the main graph, visible in all subgraphs; small equal ones are shared."""
        tensor = ir.tensor(array) if isinstance(array, np.ndarray) else array
        key = (tensor.dtype, tuple(tensor.shape), tensor.tobytes()) if tensor.nbytes <= 256 else None
        known, kept = self._constants.get(key, (None, None)) if key else (None, None)
        if known is not None and known.is_initializer() and known.const_value is kept:
            return known
        value = ir.Value(
            name=self.fresh_name(hint),
            type=ir.TensorType(tensor.dtype),
            shape=ir.Shape(tensor.shape.numpy()),
            const_value=tensor,
        )
        self.model.graph.register_initializer(value)
        if key:
            self._constants[key] = value, tensor
        return value

    def ints(self, numbers: Sequence[int], hint: str) -> ir.Value:
        """A constant vector of int64."""
        return self.constant(np.array(numbers, dtype=np.int64).reshape(-1), hint)

    def replace(self, old: ir.Value, new: ir.Value, *, inherit: bool = True) -> bool:
        """Everything that read ``old`` reads ``new``, which has the same contents; returns True.

        With ``inherit`` (the two have the same shape) what was known of ``old`` is known of ``new``.

        A graph output keeps its name: ``new`` takes it over, or an Identity does where ``new`` is an input,
        a constant, a value of an outer graph or an output already.
        """
        producer = old.producer()
        assert producer is not None and old is not new
        if old.is_graph_output():
            new = self._replace_output(old, new, producer)
        if inherit:
            self.facts.inherit(old, new)
        readers = [use.node for use in old.uses()]
        self.trail.replacing([old], [new])
        ir.convenience.replace_all_uses_with(old, new)
        self.enqueue(readers)
        self.enqueue([new.producer()])
        self._remove_if_dead(producer)
        return True

    def _replace_output(self, old: ir.Value, new: ir.Value, producer: ir.Node) -> ir.Value:
        graph = producer.graph
        assert graph is not None
        source = new.producer()
        if source is None or source.graph is not graph or new.is_graph_output() or new.is_initializer():
            output = ir.Value(type=old.type or new.type, shape=old.shape)
            output.meta.update(old.meta)  # what inference noted of it
            node = ir.node("Identity", [new], outputs=[output], name=self.fresh_name(f"{old.name}_identity"))
            node.metadata_props.update(producer.metadata_props)
            graph.insert_after(producer, node)
            new = output
        name, old.name = old.name, self.fresh_name(f"{old.name}_replaced")
        new.name = name
        for index, output in enumerate(graph.outputs):
            if output is old:
                graph.outputs[index] = new
        return new

    def set_input(self, node: ir.Node, index: int, value: ir.Value | None) -> None:
        """Makes ``node`` read ``value``; what it read before goes away when nothing else reads it."""
        old = node.inputs[index]
        self.trail.editing(node)
        node.replace_input_with(index, value)
        self.enqueue([node])
        if old is not None:
            self.release(old)

    def release(self, value: ir.Value) -> None:
        """Removes the producer of ``value`` if it is dead, else looks at its remaining readers again."""
        producer = value.producer()
        if producer is not None and not self._remove_if_dead(producer):
            self.enqueue([producer])
        self.enqueue([use.node for use in value.uses()][:2])

    def _remove_if_dead(self, node: ir.Node) -> bool:
        dead = [node]
        removed = False
        while dead:
            node = dead.pop()
            if node.graph is None or any(o.uses() or o.is_graph_output() for o in node.outputs):
                continue
            inputs = detach(node)
            node.graph.remove(node)
            removed = True
            for value in inputs:
                producer = value.producer()
                if producer is None:
                    continue
                dead.append(producer)
                self.enqueue([producer])
                readers = value.uses()
                if len(readers) == 1:  # what waited for a single reader may go ahead
                    self.enqueue([use.node for use in readers])
        return removed

    def remove_dead(self) -> int:
        """Removes the nodes that nothing reads, readers before producers; returns how many there were."""
        nodes = list(self.model.graph.all_nodes())
        for node in reversed(nodes):
            self._remove_if_dead(node)
        return sum(node.graph is None for node in nodes)

    def remove_unused_initializers(self) -> int:
        """Removes initializers that nothing reads and that are no inputs or outputs."""
        removed = 0
        for graph in self.model.graphs():
            for name, value in list(graph.initializers.items()):
                if not value.uses() and not value.is_graph_input() and not value.is_graph_output():
                    del graph.initializers[name]
                    removed += 1
        return removed

    # -- questions ---------------------------------------------------------------------------------------

    def only_reader(self, value: ir.Value, node: ir.Node) -> bool:
        """Whether ``node`` reads ``value`` once and nothing else does."""
        return not value.is_graph_output() and [use.node for use in value.uses()] == [node]

    def fresh_name(self, hint: str) -> str:
        name, number = hint, 1
        while name in self._names:
            name, number = f"{hint}_{number}", number + 1
        self._names.add(name)
        return name


def producer(value: ir.Value | None, *op_types: str) -> ir.Node | None:
    """The node of the default domain that computes ``value``, when it is one of ``op_types``."""
    node = value.producer() if value is not None else None
    if node is None or node.op_type not in op_types or node.domain not in ("", "ai.onnx"):
        return None
    return None if any(attribute.is_ref() for attribute in node.attributes.values()) else node


def attribute(node: ir.Node, name: str, default: Any) -> Any:
    """The value of an attribute, or the default of the operator when it is not given."""
    found = node.attributes.get(name)
    return default if found is None else found.value


def operand(node: ir.Node, index: int) -> ir.Value | None:
    """An input, None where it is omitted."""
    return node.inputs[index] if index < len(node.inputs) else None


def _names(model: ir.Model) -> set[str]:
    names: set[str] = set()
    for graph in model.graphs():
        names.update(value.name or "" for value in graph.inputs)
        names.update(graph.initializers)
        for node in graph:
            names.add(node.name or "")
            names.update(value.name or "" for value in node.outputs)
    return names
