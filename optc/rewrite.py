"""Fusion patterns: finding a piece of the graph by its meaning and outlining it into an ``optc`` function.

A fused operator is a call to an ONNX local function of domain ``optc`` whose body is plain ONNX, so every
stage of the pipeline runs in a stock ONNX Runtime, a target without a kernel inlines the call again, and the
body is the reference for a kernel.
"""

from __future__ import annotations

import hashlib
import re
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import onnx
import onnx_ir as ir
from onnx_ir.passes.common import InlinePass

from optc import newnode
from optc.newnode import Operand
from optc.opsets.constants import Names
from optc.passbase import Skip
from optc.removal import detach
from optc.trail import Trail

DOMAIN = "optc"
_BODY_HASH = "optc.body"


class NearMiss(Exception):
    """The core of a pattern is there, but something that the rewrite relies on is not."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True)
class Match:
    """What a pattern found: the call that stands for it, and the values that the call replaces.

    ``body`` is ONNX text ``(x, bias) => (y) { ... }`` at the model's opset; ``<attributes>`` of the call are
    declared by name on the function. ``nodes`` are removed when nothing else reads their outputs.

    Where the graph holds a value in another layout than the function takes, an input may be a new node still
    to be made, and ``after`` describes what turns the call's first output into the first of ``outputs``.
    """

    kind: str
    inputs: Sequence[Operand | None]
    outputs: Sequence[ir.Value | None]
    body: str
    attributes: Mapping[str, Any] = field(default_factory=dict)
    nodes: Sequence[ir.Node] = ()
    after: Callable[[ir.Value], Operand] | None = None


class Pattern(ABC):
    """One fusion pattern; subclass it in ``passes/fuse/<name>.py``.

    ``anchors`` are the op types that ``match`` is asked about. ``after`` names patterns that must have run.
    """

    name: ClassVar[str]
    family: ClassVar[str]
    anchors: ClassVar[frozenset[str]]
    after: ClassVar[tuple[str, ...]] = ()
    domain: ClassVar[str] = ""  # of the anchors

    @abstractmethod
    def match(self, node: ir.Node, model: ir.Model) -> Match | None:
        """What to fuse at ``node``; None when it is something else; raises NearMiss with the reason."""


def kind(node: ir.Node) -> str | None:
    """The kind of fused function that ``node`` calls (``Attention`` for ``Attention_2``), or None."""
    return re.sub(r"_\d+$", "", node.op_type) if node.domain == DOMAIN else None


def opset(model: ir.Model) -> int:
    """The version of the default operator set that the model imports."""
    return model.opset_imports.get("", model.opset_imports.get("ai.onnx", 1))


def outline(
    model: ir.Model, match: Match, *, producer_name: str = "fuse", trail: Trail | None = None
) -> ir.Node:
    """Replaces a match by a call to a function with its body, and returns the call.

    The matched nodes stay until :func:`remove_dead` finds that nothing reads them. ``trail`` is told which
    values are about to stand for which.
    """
    function = function_for(model, match)
    named = [o for o in match.outputs if o is not None]
    position = _first(named)
    inputs, before = newnode.build(match.inputs)
    call = ir.node(
        function.name,
        inputs,
        {key: value for key, value in match.attributes.items() if value is not None},
        domain=DOMAIN,
        num_outputs=len(match.outputs),
        name=f"{producer_name}_{named[0].name}",
    )
    if source := position.metadata_props.get("optc.source"):
        call.metadata_props["optc.source"] = source
    graph = position.graph
    assert graph is not None
    if len(named) > 1:
        _pull_constants(inputs, graph)
    results, after = newnode.build(_results(match, call))
    _name_apart(model, [*before, *after], f"{named[0].name}__{match.kind}")
    graph.insert_before(position, [*before, call, *after])
    if trail is not None:
        pairs = zip(match.outputs, results, strict=True)
        trail.replacing(named, [new for old, new in pairs if old is not None and new is not None])
    for new, old in zip(results, match.outputs, strict=True):
        if old is not None:
            assert new is not None
            _take_over(old, new)
    return call


def _name_apart(model: ir.Model, nodes: Sequence[ir.Node], stem: str) -> None:
    """Names the outputs of new nodes; left to the graph they could be those of another graph's values."""
    names = Names(model)  # looks at the model when it is first asked
    for node in nodes:
        for output in node.outputs:
            output.name = names.fresh(f"{stem}_{node.op_type.lower()}")
        node.name = f"node_{node.outputs[0].name}"


def _results(match: Match, call: ir.Node) -> list[Operand]:
    """What stands for the outputs of the match after the rewrite."""
    if match.after is None:
        return [*call.outputs]
    return [match.after(call.outputs[0]), *call.outputs[1:]]


def _first(outputs: Sequence[ir.Value]) -> ir.Node:
    """The producer that comes first in its graph."""
    producers = [value.producer() for value in outputs]
    if len(producers) == 1:
        assert producers[0] is not None
        return producers[0]
    wanted = set(producers)
    graph = next(p for p in producers if p is not None).graph
    assert graph is not None
    return next(node for node in graph if node in wanted)


def _pull_constants(inputs: Sequence[ir.Value | None], graph: ir.Graph) -> None:
    """Puts the Constant nodes among ``inputs`` first: only a later output may have read them so far."""
    for value in inputs:
        node = None if value is None else value.producer()
        if node is not None and node.op_type == "Constant" and node.graph is graph and graph[0] is not node:
            graph.remove(node)
            graph.insert_before(graph[0], node)


def _take_over(old: ir.Value, new: ir.Value) -> None:
    """Gives ``new`` the place, type and (for graph outputs, necessarily) the name of ``old``."""
    new.type, new.shape = old.type, old.shape
    new.meta.update(old.meta)  # what inference noted of it
    name = old.name
    old.replace_all_uses_with(new, replace_graph_outputs=True)
    old.name = None if name is None else f"{name}__fused_away"
    new.name = name


def function_for(model: ir.Model, match: Match) -> ir.Function:
    """The function of the match's body: an equal one that the model has, or a new one."""
    attributes = [k for k, v in match.attributes.items() if v is not None]
    digest = hashlib.sha256(f"{opset(model)}|{sorted(attributes)}|{match.body}".encode()).hexdigest()[:16]
    version = 1
    while (DOMAIN, name := match.kind if version == 1 else f"{match.kind}_{version}", "") in model.functions:
        function = model.functions[(DOMAIN, name, "")]
        if function.metadata_props.get(_BODY_HASH) == digest:
            return function
        version += 1
    function = parse_function(name, match.body, opset(model), attributes)
    function.metadata_props[_BODY_HASH] = digest
    model.functions[function.identifier()] = function
    model.opset_imports.setdefault(DOMAIN, 1)
    return function


def parse_function(name: str, body: str, version: int, attributes: Iterable[str] = ()) -> ir.Function:
    """A function of domain ``optc`` from its body as ONNX text, ``(x) => (y) { y = Relu(x) }``."""
    declared = ", ".join(sorted(attributes))
    header = f'<domain: "{DOMAIN}", opset_import: ["": {version}]>\n{name} '
    text = header + (f"<{declared}> " if declared else "") + body
    function = ir.serde.deserialize_function(onnx.parser.parse_function(text))
    for node in function:
        node.name = next(output.name for output in node.outputs if output.name)
    return function


def inline(model: ir.Model, which: Callable[[ir.Function], bool] | None = None) -> bool:
    """Puts the bodies of ``optc`` functions (all, or those of ``which``) back in place of the calls."""
    picked = {
        identifier
        for identifier, function in model.functions.items()
        if function.domain == DOMAIN and (which is None or which(function))
    }
    if not picked:
        return False
    InlinePass(criteria=lambda function: function.identifier() in picked)(model)
    for identifier in picked & set(model.functions):
        del model.functions[identifier]  # nothing called it
    if not any(function.domain == DOMAIN for function in model.functions.values()):
        model.opset_imports.pop(DOMAIN, None)
    return True


def remove_dead(nodes: Iterable[ir.Node]) -> None:
    """Removes those of ``nodes`` whose outputs nobody reads, and then what computed only for them."""
    waiting = list(nodes)
    while waiting:
        node = waiting.pop()
        if node.graph is None or any(output.uses() or output.is_graph_output() for output in node.outputs):
            continue
        producers = [value.producer() for value in detach(node)]
        node.graph.remove(node)
        waiting += [producer for producer in producers if producer is not None]


@dataclass
class Fusions:
    """What a list of patterns did to a model."""

    matched: Counter[str] = field(default_factory=Counter)
    skipped: list[Skip] = field(default_factory=list)


def apply(patterns: Sequence[Pattern], model: ir.Model, trail: Trail | None = None) -> Fusions:
    """Runs the patterns in their order, each once over all nodes, in the main graph and in subgraphs.

    ``trail`` (of the pass's context) numbers the rewrites, and may end them early.
    """
    done, trail = Fusions(), trail or Trail()
    for pattern in patterns:
        for node in [n for n in model.graph.all_nodes() if _is_anchor(pattern, n)]:
            if node.graph is not None and trail.open:
                _apply_at(pattern, node, model, done, trail)
    remove_unused(model)
    return done


def remove_unused(model: ir.Model) -> None:
    """Removes ``optc`` functions that nothing calls, as happens where a fused call was fused further."""
    scopes = [model.graph, *(f.graph for f in model.functions.values() if f.domain != DOMAIN)]
    called = {node.op_identifier() for scope in scopes for node in scope.all_nodes() if node.domain == DOMAIN}
    for identifier in [key for key in model.functions if key[0] == DOMAIN and key not in called]:
        del model.functions[identifier]


def _is_anchor(pattern: Pattern, node: ir.Node) -> bool:
    domain = "" if node.domain == "ai.onnx" else node.domain
    name = kind(node) if domain == DOMAIN else node.op_type
    return domain == pattern.domain and name in pattern.anchors


def _apply_at(pattern: Pattern, node: ir.Node, model: ir.Model, done: Fusions, trail: Trail) -> None:
    try:
        match = pattern.match(node, model)
        if match is None:
            return
        _check_internal(match)
    except NearMiss as miss:
        done.skipped.append(Skip(node.name or node.op_type, f"{pattern.name} not fused: {miss.reason}"))
        return
    outline(model, match, trail=trail)
    trail.applied(pattern.name, dict.fromkeys([node, *match.nodes]))
    remove_dead(match.nodes)
    done.matched[pattern.name] += 1


def _check_internal(match: Match) -> None:
    """Values inside the match that others read too would have to be computed twice."""
    inside, results = set(match.nodes), {o for o in match.outputs if o is not None}
    for node in match.nodes:
        for output in node.outputs:
            if output in results:
                continue
            if output.is_graph_output():
                raise NearMiss(f"its intermediate {output.name!r} is an output of the graph")
            if any(use.node not in inside for use in output.uses()):
                raise NearMiss(f"its intermediate {output.name!r} has another reader")
