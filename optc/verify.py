"""The invariants I1 to I8 of the IR, checked at every pass boundary.

I1  inputs are defined before use (and so: no cycles, every graph output is produced)
I2  use lists agree both ways
I3  names are non-empty and unique
I4  the interface is the captured one: names, dtypes and ranks of inputs and outputs
I5  every value has a type, and a rank or the mark of `analysis.shapes` that none can be inferred
I6  initializer data matches its declared type
I7  every op has a schema at the model's opset, or a body
I8  after legalize: only what the target declares legal

``check`` finds what is wrong and leaves the judgement to the caller: in a model that the user gave it is bad
input, after a pass it is a bug of the pass, and ``verify`` raises it as one. Linear in the size of the model.
"""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice

import onnx_ir as ir

from optc.analysis.shapes import is_marked_unknown
from optc.errors import VerifyError
from optc.opcheck import op_complaint, recursive_function
from optc.subgraphs import subgraphs
from optc.target import Target

RULES = {
    "I1": "inputs are defined before use",
    "I2": "use lists agree both ways",
    "I3": "names are non-empty and unique",
    "I4": "the interface is the captured one",
    "I5": "every value has a type, and a rank where it can be known",
    "I6": "initializer data matches its declared type",
    "I7": "every op has a schema at the model's opset, or a body",
    "I8": "only what the target declares legal",
}

SOURCE_KEY = "optc.source"  # node metadata: the user's source line, "file.py:12 in forward"
_AROUND = 2  # nodes shown before and after the one that is wrong
_MOST = 20  # violations reported at once

Port = tuple[str | None, str, int | None]  # name, type, rank
Interface = tuple[tuple[Port, ...], tuple[Port, ...]]
Visible = ChainMap[str, ir.Value]


@dataclass(frozen=True)
class Violation:
    """One broken invariant: the rule's number, what is wrong, the place, and the nodes around it."""

    rule: str
    what: str
    where: str
    around: str = ""
    source: str | None = None

    def __str__(self) -> str:
        lines = [f"{self.rule} ({RULES[self.rule]}): {self.what}", f"  where: {self.where}"]
        if self.source:
            lines.append(f"  source: {self.source}")
        if self.around:
            lines.append(self.around)
        return "\n".join(lines)


@dataclass(frozen=True)
class _Scope:
    """A graph or function body, with how to name it in a message."""

    body: ir.Graph | ir.Function
    label: str
    typed: bool  # bodies of functions carry no types of their own

    @property
    def initializers(self) -> Mapping[str, ir.Value]:
        graph = self.body.graph if isinstance(self.body, ir.Function) else self.body
        return graph.initializers


@dataclass
class _Walk:
    """What one walk over the model collects on its way."""

    model: ir.Model
    target: Target | None
    values: list[ir.Value] = field(default_factory=list)
    reads: dict[ir.Value, set[tuple[ir.Node, int]]] = field(default_factory=dict)


def verify(
    model: ir.Model,
    *,
    interface: Interface | None = None,
    target: Target | None = None,
    after: str | None = None,
) -> None:
    """Raises VerifyError unless every invariant holds.

    Args:
        interface: what `interface_of` gave for the captured model (I4); not checked when None.
        target: checks I8 when given, so only after legalize.
        after: the pass that ran last, for the message.
    """
    found = check(model, interface=interface, target=target)
    if not found:
        return
    blame = f"after pass {after!r}: " if after else ""
    more = f"\n... and {len(found) - 1} more" if len(found) > 1 else ""
    raise VerifyError(f"{blame}{found[0]}{more}")


def check(
    model: ir.Model, *, interface: Interface | None = None, target: Target | None = None
) -> list[Violation]:
    """The first violations of the invariants (20 at most), in rule order within a graph."""
    return list(islice(_violations(model, interface, target), _MOST))


def interface_of(model: ir.Model) -> Interface:
    """Names, types and ranks of the graph's inputs and outputs, in order; for I4."""

    def side(values: Sequence[ir.Value]) -> tuple[Port, ...]:
        return tuple((v.name, str(v.type), None if v.shape is None else v.shape.rank()) for v in values)

    return side(model.graph.inputs), side(model.graph.outputs)


def _violations(model: ir.Model, interface: Interface | None, target: Target | None) -> Iterator[Violation]:
    loop = recursive_function(model)
    if loop:
        what = f"function {loop} calls itself, so its body never ends"
        yield Violation("I7", what, "the functions of the model")
        return
    walk = _Walk(model, target)
    yield from _check_scope(walk, _Scope(model.graph, "the main graph", True), ChainMap())
    for function in model.functions.values():
        label = f"function {function.domain}::{function.name}"
        yield from _check_scope(walk, _Scope(function, label, False), ChainMap())
    yield from _check_uses(walk)
    if interface is not None:
        yield from _check_interface(model, interface)


def _check_scope(walk: _Walk, scope: _Scope, outer: Visible) -> Iterator[Violation]:
    """Walks one graph in order; ``outer`` holds what is visible at the node that contains it."""
    visible: Visible = ChainMap({}, *outer.maps)
    declared = list(scope.body.inputs)
    inputs = set(declared)
    declared += [value for value in scope.initializers.values() if value not in inputs]
    for value in declared:
        where = f"{scope.label}, input or initializer {value.name!r}"
        yield from _declare(walk, scope, value, visible, where)
    for key, value in scope.initializers.items():
        yield from _check_initializer(scope, key, value)

    node_names: set[str] = set()
    for node in scope.body:
        yield from _check_node(walk, scope, node, visible)
        if not node.name or node.name in node_names:
            what = f"node name {node.name!r} is used twice" if node.name else "a node has no name"
            yield _at(scope, node, "I3", what)
        node_names.add(node.name or "")
        for attribute, graph in subgraphs(node):
            inner = _Scope(graph, f"{attribute} of node {node.name!r} in {scope.label}", scope.typed)
            yield from _check_scope(walk, inner, visible)
        for index, value in enumerate(node.outputs):
            if value.producer() is not node or value.index() != index:
                yield _at(scope, node, "I2", f"output {value.name!r} does not name this node as its producer")
            if value.name == "" and not value.uses() and not value.is_graph_output():
                continue  # an optional output that is left out
            for violation in _declare(walk, scope, value, visible, ""):
                yield _at(scope, node, violation.rule, violation.what)

    for value in scope.body.outputs:
        if visible.get(value.name or "") is not value:
            yield Violation("I1", f"output {value.name!r} is produced by no node", scope.label)


def _declare(
    walk: _Walk, scope: _Scope, value: ir.Value, visible: Visible, where: str
) -> Iterator[Violation]:
    walk.values.append(value)
    if not value.name:
        yield Violation("I3", "a value has no name", where)
        return
    if value.name in visible:
        yield Violation("I3", f"value name {value.name!r} is defined twice", where)
    visible[value.name] = value
    if not scope.typed:
        return
    if value.type is None and not is_marked_unknown(value):
        yield Violation("I5", f"value {value.name!r} has no type", where)
    elif value.shape is None and isinstance(value.type, ir.TensorType) and not is_marked_unknown(value):
        yield Violation("I5", f"value {value.name!r} has no rank and is not marked as unknown", where)
    elif value.shape is not None and any(isinstance(d, int) and d < 0 for d in value.shape):
        yield Violation("I5", f"value {value.name!r} has a negative dim in {value.shape}", where)


def _check_node(walk: _Walk, scope: _Scope, node: ir.Node, visible: Visible) -> Iterator[Violation]:
    for index, value in enumerate(node.inputs):
        if value is None:
            continue
        walk.reads.setdefault(value, set()).add((node, index))
        if visible.get(value.name or "") is not value:
            yield _at(scope, node, "I1", f"input {index} ({value.name!r}) is not defined before this node")
    own = scope.body.opset_imports if isinstance(scope.body, ir.Function) else None
    complaint = op_complaint(walk.model, node, own or walk.model.opset_imports)
    if complaint:
        yield _at(scope, node, "I7", complaint)
    elif walk.target is not None and (reason := walk.target.legal(walk.model, node)):
        yield _at(scope, node, "I8", f"target {walk.target.name} cannot execute it: {reason}")


def _check_initializer(scope: _Scope, key: str, value: ir.Value) -> Iterator[Violation]:
    where = f"{scope.label}, initializer {key!r}"
    tensor = value.const_value
    if key != value.name:
        yield Violation("I3", f"it is registered as {key!r} but named {value.name!r}", where)
    if tensor is None:
        yield Violation("I6", "it has no data", where)
        return
    if value.dtype is not None and value.dtype != tensor.dtype:
        yield Violation("I6", f"declared {value.dtype}, but its data is {tensor.dtype}", where)
    elif value.shape is not None and not _agree(value.shape, tensor.shape):
        yield Violation("I6", f"declared {value.shape}, but its data is {tensor.shape}", where)


def _agree(declared: ir.Shape, actual: ir.ShapeProtocol) -> bool:
    dims = tuple(actual)
    return len(declared) == len(dims) and all(
        not isinstance(want, int) or want == have for want, have in zip(declared, dims, strict=True)
    )


def _check_uses(walk: _Walk) -> Iterator[Violation]:
    """Compares the use list of every value with what the nodes of the model really read."""
    for value in walk.values:
        real, listed = walk.reads.get(value, set()), set(value.uses())
        for node, index in sorted(listed - real, key=_use_name):
            what = f"value {value.name!r} lists input {index} of node {node.name!r} as a use, which it is not"
            yield Violation("I2", what, "a node that was removed or rewired without its use list")
        for node, index in sorted(real - listed, key=_use_name):
            what = f"value {value.name!r} does not list its use as input {index} of node {node.name!r}"
            yield Violation("I2", what, f"node {node.name!r} ({node.op_type})")


def _use_name(use: tuple[ir.Node, int]) -> tuple[str, int]:
    return use[0].name or "", use[1]


def _check_interface(model: ir.Model, expected: Interface) -> Iterator[Violation]:
    for side, want, have in zip(("input", "output"), expected, interface_of(model), strict=True):
        if len(want) != len(have):
            yield Violation("I4", f"{len(have)} {side}s where {len(want)} were captured", "the main graph")
        for captured, now in zip(want, have, strict=False):
            rank_kept = captured[2] is None or captured[2] == now[2]
            if captured[:2] != now[:2] or not rank_kept:
                yield Violation("I4", f"{side} {captured} became {now} (name, type, rank)", "the main graph")


def _at(scope: _Scope, node: ir.Node, rule: str, what: str) -> Violation:
    op = f"{node.domain}::{node.op_type}" if node.domain else node.op_type
    return Violation(
        rule,
        what,
        f"node {node.name!r} ({op}) in {scope.label}",
        _around(scope, node),
        node.metadata_props.get(SOURCE_KEY),
    )


def _around(scope: _Scope, node: ir.Node) -> str:
    nodes = list(scope.body)
    at = nodes.index(node)
    first = max(0, at - _AROUND)
    return "\n".join(
        f"  {'>' if shown is node else ' '} {_line(shown)}" for shown in nodes[first : at + _AROUND + 1]
    )


def _line(node: ir.Node) -> str:
    outputs = ", ".join(f"%{value.name}" for value in node.outputs)
    inputs = ", ".join("-" if value is None else f"%{value.name}" for value in node.inputs)
    domain = f"{node.domain}::" if node.domain else ""
    return f"{outputs} = {domain}{node.op_type}({inputs})"
