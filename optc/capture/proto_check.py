"""What is wrong with a parsed model that the IR could not even hold: names that collide, tensors that lie."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import onnx

from optc.errors import InvalidModel

from .tensors import check_tensor


def check_proto(model: onnx.ModelProto, where: str) -> None:
    """Raises InvalidModel, naming the place in ``where`` (the file, say)."""
    if not model.HasField("graph"):
        hint = "export the model again; an ONNX model has a graph"
        raise InvalidModel("the model has no graph", where=where, hint=hint)
    _check_imports(model.opset_import, where)
    _check_graph(model.graph, f"{where}: graph")
    for value in model.graph.input:
        if not _has_elements(value.type):
            hint = "export the model again; an input says what type its elements have"
            raise InvalidModel("it has no element type", where=f"{where}: input {value.name!r}", hint=hint)
    for graph in (model.graph, *_subgraphs(model.graph.node)):
        _check_references(graph, f"{where}: graph")
    seen: set[tuple[str, str, str]] = set()
    for function in model.functions:
        place = f"{where}: function {function.domain}::{function.name}"
        key = (function.domain, function.name, function.overload)
        if key in seen or not function.name:
            raise InvalidModel("the function is defined twice or has no name", where=place, hint=_RENAME)
        seen.add(key)
        _check_imports(function.opset_import, place)
        _unique(((name, "input") for name in function.input), place)
        names = set(function.input)
        _check_nodes(function.node, names, place)
        for name in function.output:
            if name not in names:
                hint = "export the model again"
                raise InvalidModel(f"no node computes the output {name!r}", where=place, hint=hint)


def graphs_of(model: onnx.ModelProto) -> Iterator[onnx.GraphProto]:
    """The main graph and all subgraphs, of functions too."""
    yield model.graph
    yield from _subgraphs(model.graph.node)
    for function in model.functions:
        yield from _subgraphs(function.node)


def _subgraphs(nodes: Iterable[onnx.NodeProto]) -> Iterator[onnx.GraphProto]:
    for node in nodes:
        for attribute in node.attribute:
            graphs = (attribute.g,) if attribute.HasField("g") else attribute.graphs
            for graph in graphs:
                yield graph
                yield from _subgraphs(graph.node)


def _check_imports(imports: Iterable[onnx.OperatorSetIdProto], where: str) -> None:
    versions: dict[str, int] = {}
    for item in imports:
        domain = "" if item.domain == "ai.onnx" else item.domain
        if versions.setdefault(domain, item.version) != item.version:
            what = f"opset domain {domain!r} is imported as version {versions[domain]} and as {item.version}"
            raise InvalidModel(what, where=where, hint="import each domain once")
        if not 0 < item.version < 1 << 31:
            what = f"opset version {item.version} of domain {domain!r} is not a version"
            raise InvalidModel(what, where=where, hint="export the model again")


def _check_graph(graph: onnx.GraphProto, where: str) -> None:
    _unique(((value.name, "input") for value in graph.input), where)
    names = {value.name for value in graph.input}
    held = [tensor.name for tensor in graph.initializer] + [t.values.name for t in graph.sparse_initializer]
    _unique(((name, "initializer") for name in held), where)
    names.update(held)
    for index, tensor in enumerate(graph.initializer):
        check_tensor(tensor, f"{where}, initializer {tensor.name or index!r}")
    for value in (*graph.input, *graph.output, *graph.value_info):
        _check_type(value.type, f"{where}, value {value.name!r}")
    for value in graph.output:
        if not value.name:
            raise InvalidModel("an output has no name", where=where, hint=_RENAME)
    _check_nodes(graph.node, names, where)


def _check_references(graph: onnx.GraphProto, where: str) -> None:
    for index, node in enumerate(graph.node):
        for attribute in node.attribute:
            if attribute.ref_attr_name:
                place = f"{where}, node {node.name or index!r} ({node.op_type}), attribute {attribute.name!r}"
                what = f"it refers to the attribute {attribute.ref_attr_name!r} of a function, and is in none"
                raise InvalidModel(what, where=place, hint="give the attribute a value")


def _check_nodes(nodes: Iterable[onnx.NodeProto], names: set[str], where: str) -> None:
    for index, node in enumerate(nodes):
        place = f"{where}, node {node.name or index!r} ({node.op_type})"
        for name in (node.name, node.op_type, node.domain, *node.input):
            _check_text(name, "node or value", place)
        for name in node.output:
            _check_text(name, "output", place)
            if name and name in names:
                raise InvalidModel(f"it defines {name!r}, which is defined before", where=place, hint=_RENAME)
            names.add(name)
        _unique(((attribute.name, "attribute") for attribute in node.attribute), place)
        for attribute in node.attribute:
            _check_attribute(attribute, f"{place}, attribute {attribute.name!r}")


def _check_attribute(attribute: onnx.AttributeProto, where: str) -> None:
    if attribute.HasField("t"):
        check_tensor(attribute.t, where)
    for tensor in attribute.tensors:
        check_tensor(tensor, where)
    if attribute.HasField("g"):
        _check_graph(attribute.g, where)
    for graph in attribute.graphs:
        _check_graph(graph, where)


def _check_type(declared: onnx.TypeProto, where: str) -> None:
    kind = declared.WhichOneof("value")
    if kind == "sequence_type":
        _check_type(declared.sequence_type.elem_type, where)
    elif kind == "optional_type":
        _check_type(declared.optional_type.elem_type, where)
    elif kind == "tensor_type":
        for dim in declared.tensor_type.shape.dim:
            # -1 is how old exporters write an unknown dim.
            if dim.dim_value < -1:
                raise InvalidModel(
                    f"its shape has the dim {dim.dim_value}", where=where, hint="dims count elements"
                )


def _has_elements(declared: onnx.TypeProto) -> bool:
    kind = declared.WhichOneof("value")
    if kind in ("sequence_type", "optional_type"):
        return _has_elements(getattr(declared, kind).elem_type)
    return kind != "tensor_type" or declared.tensor_type.elem_type != onnx.TensorProto.UNDEFINED


def _check_text(name: str | bytes, kind: str, where: str) -> None:
    """protobuf hands out bytes where text is not UTF-8."""
    if not isinstance(name, str):
        raise InvalidModel(f"the {kind} name {name!r} is not UTF-8", where=where, hint=_RENAME)


def _unique(names: Iterable[tuple[str, str]], where: str) -> None:
    seen: set[str] = set()
    for name, kind in names:
        if not name:
            raise InvalidModel(f"an {kind} has no name", where=where, hint=_RENAME)
        _check_text(name, kind, where)
        if name in seen:
            raise InvalidModel(f"{kind} name {name!r} is used twice", where=where, hint=_RENAME)
        seen.add(name)


_RENAME = "give every value a name of its own and export the model again"
