"""Functions that a model brings: their bodies take the place of the calls, where passes can see them.

A call is a wall to every pass and pattern, and the runtime inlines it all the same when it loads the model.
Operators that the runtime itself declares win over functions of the same name, so those are no calls.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator
from itertools import chain

import onnx_ir as ir
from onnx_ir.passes.common import InlinePass, RemoveUnusedFunctionsPass

from optc import opschema
from optc.analysis import shapes
from optc.opsets.constants import Names
from optc.subgraphs import subgraphs

Key = ir.OperatorIdentifier
_GRAPHS = (ir.AttributeType.GRAPH, ir.AttributeType.GRAPHS)


def inline_all(model: ir.Model) -> tuple[int, dict[str, str]]:
    """Puts the bodies of functions in place of their calls, in place.

    Returns:
        How many functions were inlined, and which stay, with the reason.
    """
    _forget_shadowed(model)
    RemoveUnusedFunctionsPass()(model)  # type: ignore[no-untyped-call]
    kept = _kept(model)
    picked = dict.fromkeys(key for key in model.functions if key not in kept)  # in order
    if picked:
        names = Names(model)
        for key in picked:
            _give_outputs_of_their_own(model.functions[key], names)
            _take_imports(model.functions[key], model)
        for call in _calls(model, picked):
            _complete(call, model.functions[call.op_identifier()], names)
        InlinePass(criteria=lambda function: function.identifier() in picked)(model)
        _rename_nested(model)
        shapes.infer(model)
    return len(picked), {_label(key): why for key, why in kept.items()}


def _label(key: Key) -> str:
    return "::".join(filter(None, key))


def _forget_shadowed(model: ir.Model) -> None:
    for key in list(model.functions):
        domain, name, _ = key
        if opschema.runtime_since(domain, name, model.opset_imports.get(domain, 1)) is not None:
            del model.functions[key]


def _kept(model: ir.Model) -> dict[Key, str]:
    """Functions that cannot be inlined, with the reason, and what those call."""
    kept: dict[Key, str] = {}
    imports = dict(model.opset_imports)
    for key, function in model.functions.items():
        for node in _operators(function, model):
            theirs = function.opset_imports.get(node.domain, 1)
            if not _means_the_same(node, theirs, imports.setdefault(node.domain, theirs)):
                kept[key] = f"{node.op_type} is that of operator set {theirs}, and the model's another one"
                break
    for call in _calls(model, model.functions):
        if any(attribute.type in _GRAPHS for attribute in call.attributes.values()):
            kept[call.op_identifier()] = "a graph is passed to it"
    waiting = list(kept)
    while waiting:
        outer = waiting.pop()
        for node in model.functions[outer].all_nodes():
            if (key := node.op_identifier()) in model.functions and key not in kept:
                kept[key] = f"{_label(outer)}, which stays, calls it"
                waiting.append(key)
    return kept


def _operators(function: ir.Function, model: ir.Model) -> Iterator[ir.Node]:
    return (node for node in function.all_nodes() if node.op_identifier() not in model.functions)


def _means_the_same(node: ir.Node, theirs: int, ours: int) -> bool:
    if theirs == ours:
        return True
    found = [opschema.find(node.domain, node.op_type, version) for version in (theirs, ours)]
    return found[0] is not None and found[0] is found[1]


def _take_imports(function: ir.Function, model: ir.Model) -> None:
    """Gives a function and its model the same operator sets, of what the function uses."""
    used = sorted({node.domain for node in function.all_nodes()})
    for domain in used:
        model.opset_imports.setdefault(domain, function.opset_imports.get(domain, 1))
    for domain in list(function.opset_imports):
        if domain in used:
            function.opset_imports[domain] = model.opset_imports[domain]
        else:
            del function.opset_imports[domain]


def _calls(model: ir.Model, picked: Collection[Key]) -> Iterator[ir.Node]:
    bodies = [model.graph.all_nodes(), *(function.all_nodes() for function in model.functions.values())]
    yield from (node for node in chain.from_iterable(bodies) if node.op_identifier() in picked)


def _give_outputs_of_their_own(function: ir.Function, names: Names) -> None:
    """An output that is an input, or another output, would lose its name where that is an output too."""
    seen = set(function.inputs)
    for index, value in enumerate(function.outputs):
        if value not in seen:
            seen.add(value)
            continue
        name = names.fresh(f"{value.name}__output")
        copy = ir.Value(name=name, type=value.type, shape=value.shape)
        function.append(ir.node("Identity", [value], outputs=[copy], name=f"node_{name}"))
        function.outputs[index] = copy


def _complete(call: ir.Node, function: ir.Function, names: Names) -> None:
    """Gives the call all the outputs of the function, and names to those that nobody reads."""
    if len(call.outputs) < len(function.outputs):
        call.resize_outputs(len(function.outputs))
    for value, inner in zip(call.outputs, function.outputs, strict=True):
        if not value.name:
            value.name = names.fresh(str(inner.name))


def _rename_nested(model: ir.Model) -> None:
    """Values in subgraphs get names that nothing outside has."""
    taken = Counter(str(value.name) for value in _values(model.graph))
    names = Names(model)
    for node in model.graph.all_nodes():
        for _, graph in subgraphs(node):
            for value in _values(graph):
                if taken[str(value.name)]:
                    value.name = names.fresh(str(value.name))
                taken[str(value.name)] += 1


def _values(graph: ir.Graph) -> Iterator[ir.Value]:
    given = dict.fromkeys((*graph.inputs, *graph.initializers.values()))
    yield from given
    yield from (value for node in graph for value in node.outputs if value.name)
