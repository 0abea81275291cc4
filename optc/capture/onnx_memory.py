"""Capture of models that are in memory: an onnx.ModelProto, or a model of the IR."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

import networkx as nx
import onnx
import onnx_ir as ir

from optc import verify
from optc.analysis import shapes
from optc.errors import InvalidModel
from optc.opcheck import recursive_function

from . import foreign_dims, opset
from .external import DataFiles
from .proto_check import check_proto, graphs_of
from .quiet import quiet
from .runtime_check import check_types
from .tensors import check_tensor, to_dense, to_ir

_HINTS = {
    "I1": "export the model again, or name a value that exists",
    "I3": "give every value a name of its own",
    "I5": "declare the type of the value, correct sizes below 0, or use an operator whose types are known",
    "I6": "declare the initializer with the type of its data",
    "I7": "use an operator of the imported opset, or add a function body for it",
}
_UNREADABLE = (ValueError, TypeError, KeyError, IndexError, AttributeError, RuntimeError)
_DEPTH_HINT = "the model is damaged or made to exhaust memory"
_MOST_NODES = 5_000_000  # when every function call is expanded


def from_proto(proto: onnx.ModelProto) -> ir.Model:
    """The model in the IR; ``proto`` is not changed and not referred to.

    Raises:
        InvalidModel: it is broken; names the place.
    """
    return model_from_proto(proto, DataFiles(), "onnx.ModelProto")


def from_ir(model: ir.Model) -> ir.Model:
    """A private copy that shares the tensors.

    Raises:
        InvalidModel: it is broken; names the place.
    """
    try:
        copy = model.clone()
    except _UNREADABLE as error:
        _refuse([v for v in verify.check(model) if v.rule == "I1"], "onnx_ir.Model")
        hint = "every value that is used must be an input, an initializer or a node's output"
        what = f"the model cannot be copied: {_root(error)}"
        raise InvalidModel(what, where="onnx_ir.Model", hint=hint) from error
    _map_external(copy, "onnx_ir.Model")
    return _finished(copy, "onnx_ir.Model", model.ir_version)


def model_from_proto(proto: onnx.ModelProto, files: DataFiles, where: str) -> ir.Model:
    """Checks the parsed model, brings it into the IR and verifies it there; ``where`` is for messages."""
    try:
        check_proto(proto, where)
        with quiet():  # the IR warns about what the verifier refuses
            model = ir.from_proto(_without_sparse(proto, files, where))
        _own_tensors(model, files, where)
        version = proto.ir_version
    except _UNREADABLE as error:
        # How protobuf and the IR report fields that contradict each other (SerdeError, RecursionError).
        reason = str(_root(error)).strip().splitlines() or [type(error).__name__]
        what = f"the model cannot be read: {reason[0][:300]}"
        raise InvalidModel(what, where=where, hint="export the model again") from error
    return _finished(model, where, version)


def _finished(model: ir.Model, where: str, ir_version: int) -> ir.Model:
    if ir_version < 4:
        _drop_listed_initializers(model)
    _unknown_dims(model)
    foreign_dims.tame(model)
    if not model.opset_imports and len(model.graph):
        hint = "say which version of the operators it was written for; export the model again"
        raise InvalidModel("the model imports no operator set", where=where, hint=hint)
    opset.add_missing_imports(model)
    _name_nodes(model)
    _sort(model, where)
    _check_expansion(model, where)
    _refuse(verify.check(model), where, ignore="I5")
    shapes.infer(model)
    opset.settle(model, where)
    _refuse(verify.check(model), where)
    check_types(model, where)
    return model


def _refuse(violations: list[verify.Violation], where: str, ignore: str = "") -> None:
    for first in violations:
        if first.rule != ignore:
            place = f"{where}: {first.where}" + (f"\n{first.around}" if first.around else "")
            raise InvalidModel(first.what, where=place, hint=_HINTS.get(first.rule))


def _drop_listed_initializers(model: ir.Model) -> None:
    """Before IR version 4 every initializer had to be listed as an input and none could be overridden."""
    for graph in (model.graph, *model.graph.subgraphs()):
        kept = [value for value in graph.inputs if value.name not in graph.initializers]
        if len(kept) < len(graph.inputs):
            graph.inputs[:] = kept


def _unknown_dims(model: ir.Model) -> None:
    """A dim of -1 is an unknown dim, in the way old exporters write it."""
    for graph in (model.graph, *model.graph.subgraphs()):
        values = (*graph.inputs, *(value for node in graph for value in node.outputs))
        for value in values:
            if value.shape is not None and any(d == -1 for d in value.shape):
                value.shape = ir.Shape([None if d == -1 else d for d in value.shape])


def _name_nodes(model: ir.Model) -> None:
    """Names nodes that have no name, or the name of another, after what they compute."""
    for body in opset.bodies(model):
        _name_nodes_of(body)
        for graph in body.subgraphs():
            _name_nodes_of(graph)


def _name_nodes_of(body: ir.Graph | ir.Function) -> None:
    taken = {node.name for node in body if node.name}
    seen: set[str] = set()
    for node in body:
        if node.name and node.name not in seen:
            seen.add(node.name)
            continue
        stem = node.name or f"{node.op_type}_{next((v.name for v in node.outputs if v.name), '')}"
        name, number = stem, 1
        while name in taken:
            number += 1
            name = f"{stem}_{number}"
        node.name = name
        taken.add(name)
        seen.add(name)


def _sort(model: ir.Model, where: str) -> None:
    """Brings nodes into an order in which everything is defined before use; ONNX Runtime does so too."""
    for body in opset.bodies(model):
        try:
            body.sort()
        except ValueError as error:
            cycle = " -> ".join(_cycle(body))
            place = f"{where}: nodes {cycle}" if cycle else where
            hint = "a value cannot depend on itself; use Loop or Scan"
            raise InvalidModel("the graph has a cycle", where=place, hint=hint) from error


def _cycle(body: ir.Graph | ir.Function) -> list[str]:
    graph: nx.DiGraph[ir.Node] = nx.DiGraph()
    for node in body.all_nodes():
        graph.add_edges_from((before, node) for before in node.predecessors())
    try:
        edges = nx.find_cycle(graph)
    except nx.NetworkXNoCycle:
        return []
    return [repr(node.name) for node, _ in edges[:8]]


def _check_expansion(model: ir.Model, where: str) -> None:
    """Functions that call functions can stand for exponentially many nodes, and targets inline them."""
    if recursive_function(model):
        return  # the verifier says so
    main = ("", "the main graph", "")
    plain = ("", "an operator", "")
    calls: nx.DiGraph[ir.OperatorIdentifier] = nx.DiGraph()
    counts: dict[ir.OperatorIdentifier, Counter[ir.OperatorIdentifier]] = {}
    for key, body in zip([main, *model.functions], opset.bodies(model), strict=True):
        identifiers = (node.op_identifier() for node in body.all_nodes())
        counts[key] = Counter(callee if callee in model.functions else plain for callee in identifiers)
        calls.add_node(key)
        calls.add_edges_from((key, callee) for callee in counts[key] if callee != plain)
    sizes = {plain: 1}
    for key in reversed(list(nx.topological_sort(calls))):
        sizes[key] = sum(number * sizes[callee] for callee, number in counts[key].items())
        if sizes[key] > _MOST_NODES:
            what = f"its function calls expand to more than {_MOST_NODES:,} nodes"
            raise InvalidModel(what, where=f"{where}: {'::'.join(filter(None, key))}", hint=_DEPTH_HINT)


def _own_tensors(model: ir.Model, files: DataFiles, where: str) -> None:
    """Replaces what refers to the parsed file, or to external data that nobody has checked yet."""
    for graph in (model.graph, *model.graph.subgraphs()):
        for name, value in graph.initializers.items():
            if value.const_value is not None:
                value.const_value = _owned(value.const_value, files, f"{where}, initializer {name!r}")
    for body in opset.bodies(model):
        for node in body.all_nodes():
            for name, attribute in list(node.attributes.items()):
                place = f"{where}, attribute {name!r} of node {node.name!r} ({node.op_type})"
                if attribute.is_ref():
                    continue
                if attribute.type == ir.AttributeType.TENSOR:
                    node.attributes[name] = ir.AttrTensor(name, _owned(attribute.as_tensor(), files, place))
                elif attribute.type == ir.AttributeType.TENSORS:
                    owned = [_owned(tensor, files, place) for tensor in attribute.as_tensors()]
                    node.attributes[name] = ir.AttrTensors(name, owned)


def _map_external(model: ir.Model, where: str) -> None:
    """Maps the data files that an IR model was loaded with; checks them as those of a file are checked."""
    folders: dict[str, DataFiles] = {}
    for graph in (model.graph, *model.graph.subgraphs()):
        for name, value in graph.initializers.items():
            tensor = value.const_value
            if isinstance(tensor, ir.ExternalTensor):
                folder = os.fspath(tensor.base_dir)
                files = folders.setdefault(folder, DataFiles(Path(folder or ".")))
                place = f"{where}, initializer {name!r}"
                described = ir.to_proto(tensor)
                check_tensor(described, place)
                value.const_value = to_ir(described, files, place)


def _owned(tensor: ir.TensorProtocol, files: DataFiles, where: str) -> ir.TensorProtocol:
    if isinstance(tensor, ir.StringTensor):
        return ir.StringTensor(list(tensor.string_data()), shape=ir.Shape(tensor.shape), name=tensor.name)
    parsed = tensor.raw if isinstance(tensor, ir.serde.TensorProtoTensor) else ir.to_proto(tensor)
    return to_ir(parsed, files, where)


def _without_sparse(proto: onnx.ModelProto, files: DataFiles, where: str) -> onnx.ModelProto:
    """The model with its sparse tensors written out (in a copy): the IR holds dense ones only."""
    if not any(_has_sparse(graph) for graph in graphs_of(proto)):
        return proto
    copy = onnx.ModelProto()
    copy.CopyFrom(proto)
    for graph in graphs_of(copy):
        for sparse in graph.sparse_initializer:
            place = f"{where}, sparse initializer {sparse.values.name!r}"
            graph.initializer.append(to_dense(sparse, files, place))
        graph.ClearField("sparse_initializer")
        for node in graph.node:
            for attribute in node.attribute:
                if attribute.HasField("sparse_tensor") and node.op_type == "Constant":
                    dense = to_dense(
                        attribute.sparse_tensor, files, f"{where}, node {node.name!r} (Constant)"
                    )
                    attribute.Clear()
                    attribute.name, attribute.type = "value", onnx.AttributeProto.TENSOR
                    attribute.t.CopyFrom(dense)
    return copy


def _has_sparse(graph: onnx.GraphProto) -> bool:
    return bool(graph.sparse_initializer) or any(
        a.HasField("sparse_tensor") for n in graph.node for a in n.attribute
    )


def _root(error: BaseException) -> BaseException:
    while error.__cause__ is not None:
        error = error.__cause__
    return error
