"""A model of its own for the few nodes between values that are known and values that are wanted."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import onnx
import onnx_ir as ir

from optc.analysis.graph import captured_by
from optc.analysis.shapes import constant_tensor
from optc.subgraphs import subgraphs


class Unreachable(Exception):
    """The wanted values hang on something that is not known."""


@dataclass(frozen=True)
class Submodel:
    """A model whose inputs are ``known`` values and whose outputs are the wanted ones, under their names.

    ``fused`` says that it has operators that are not of plain ONNX.
    """

    model: ir.Model
    known: tuple[ir.Value, ...]
    fused: bool


def submodel(model: ir.Model, wanted: Sequence[ir.Value], known: Callable[[ir.Value], bool]) -> Submodel:
    """Walks back from ``wanted`` to what is known; wanted values are computed even if they are known.

    Raises:
        Unreachable: a value on the way is neither known nor computed in the main graph.
    """
    nodes, leaves = _between(model, wanted, known)
    constants = [leaf for leaf in leaves if constant_tensor(leaf) is not None]
    given = [leaf for leaf in leaves if constant_tensor(leaf) is None]
    graph = onnx.GraphProto(name="rewritten")
    graph.node.extend(ir.serde.serialize_node(node) for node in nodes)
    graph.input.extend(_typed(leaf) for leaf in leaves)
    graph.output.extend(_typed(value) for value in wanted)
    proto = onnx.ModelProto(ir_version=model.ir_version, graph=graph)
    proto.opset_import.extend(onnx.helper.make_opsetid(d, v) for d, v in model.opset_imports.items())
    proto.functions.extend(ir.serde.serialize_function(f) for f in _functions(model, nodes))
    made = ir.from_proto(proto)
    _set_constants(made, {str(leaf.name): leaf for leaf in constants})
    return Submodel(made, tuple(given), any(is_fused(node) for node in nodes))


def is_fused(node: ir.Node | None) -> bool:
    """Whether a node calls a function or a kernel that stands for several operators."""
    return node is not None and node.domain not in ("", "ai.onnx")


def _between(
    model: ir.Model, wanted: Sequence[ir.Value], known: Callable[[ir.Value], bool]
) -> tuple[list[ir.Node], list[ir.Value]]:
    """The nodes that compute ``wanted``, producers first, and the values that they start from."""
    leaves: dict[ir.Value, None] = {}
    done: dict[ir.Node, None] = {}
    waiting = [(_producer(model, value), False) for value in wanted]
    while waiting:
        node, entered = waiting.pop()
        if node in done:
            continue
        if entered:
            done[node] = None
            continue
        waiting.append((node, True))
        for value in (*(v for v in node.inputs if v is not None), *captured_by(node)):
            if value not in wanted and (known(value) or constant_tensor(value) is not None):
                leaves[value] = None
            else:
                waiting.append((_producer(model, value), False))
    return list(done), list(leaves)


def _producer(model: ir.Model, value: ir.Value) -> ir.Node:
    node = value.producer()
    if node is None or node.graph is not model.graph:
        raise Unreachable("it is inside a function or starts from what is not known")
    return node


def _typed(value: ir.Value) -> onnx.ValueInfoProto:
    """Name and type, without the shape: that it is right is not taken for granted here."""
    if not value.name:
        raise Unreachable("a value has no name")
    found = onnx.ValueInfoProto(name=value.name)
    if value.type is not None:
        found.type.CopyFrom(ir.serde.serialize_type(value.type))
    return found


def _functions(model: ir.Model, nodes: Iterable[ir.Node]) -> list[ir.Function]:
    """What the nodes call, and what that calls."""
    found: dict[ir.Function, None] = {}
    waiting = list(nodes)
    while waiting:
        node = waiting.pop()
        waiting += [inner for _, body in subgraphs(node) for inner in body]
        function = model.functions.get(node.op_identifier())
        if function is not None and function not in found:
            found[function] = None
            waiting += list(function)
    return list(found)


def _set_constants(made: ir.Model, constants: dict[str, ir.Value]) -> None:
    """Constants were declared as inputs to be found by name; now they get their tensors, uncopied."""
    for value in [value for value in made.graph.inputs if value.name in constants]:
        made.graph.inputs.remove(value)
        source = constants[str(value.name)]
        value.const_value = constant_tensor(source)
        value.type, value.shape = source.type, source.shape
        made.graph.register_initializer(value)
