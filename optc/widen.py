"""Operators that would compute in a type narrower than float32 compute in float32 instead."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

_WIDE = ir.DataType.FLOAT
_KEPT = frozenset({"Cast", "BitCast", "Constant", "If", "Loop", "Scan"})  # these hand the narrow type on
_TYPE_ATTRIBUTES = ("dtype", "output_dtype")


def widen(model: ir.Model, narrow: ir.DataType) -> None:
    """Lets every operator compute in float32 that would in ``narrow``; the model is changed in place.

    Inputs, outputs and weights keep their type, and where the model itself casts to ``narrow``, the value is
    rounded. Results of operators are not rounded between them, which is nearer to the exact result.
    """
    graphs = [model.graph, *model.graph.subgraphs()]
    if not any(value.dtype == narrow for graph in graphs for value in _values(graph)):
        return
    names = {str(value.name) for graph in graphs for value in _values(graph)}
    for graph in graphs:
        for value in [value for value in _values(graph) if value.dtype == narrow]:
            producer = value.producer()
            if producer is None or producer.op_type in _KEPT:
                _widen_uses(graph, value, names)
            else:
                _widen_result(graph, producer, value, narrow, names)
        for node in graph:
            if node.op_type not in _KEPT:
                _widen_attributes(node, narrow)


def _values(graph: ir.Graph) -> list[ir.Value]:
    made = [value for node in graph for value in node.outputs]
    return list(dict.fromkeys((*graph.inputs, *graph.initializers.values(), *made)))


def _widen_uses(graph: ir.Graph, value: ir.Value, names: set[str]) -> None:
    """A value that stays narrow: operators read a float32 copy."""
    users = [(user, place) for user, place in value.uses() if user.op_type not in _KEPT]
    if not users:
        return
    wide = _cast(value, _WIDE, names)
    if (producer := value.producer()) is not None:
        graph.insert_after(producer, wide)
    else:
        graph.insert_before(graph[0], wide)
    for user, place in users:
        user.replace_input_with(place, wide.outputs[0])


def _widen_result(
    graph: ir.Graph, producer: ir.Node, value: ir.Value, narrow_type: ir.DataType, names: set[str]
) -> None:
    """A value that becomes float32: what must have the narrow type gets a rounded copy."""
    value.type = ir.TensorType(_WIDE)
    users = [(user, place) for user, place in value.uses() if user.op_type in _KEPT - {"Cast"}]
    if not users and not value.is_graph_output():
        return
    narrow = _cast(value, narrow_type, names)
    graph.insert_after(producer, narrow)
    for user, place in users:
        user.replace_input_with(place, narrow.outputs[0])
    for place, output in enumerate(graph.outputs):
        if output is value:
            graph.outputs[place] = narrow.outputs[0]
    if narrow.outputs[0].is_graph_output():
        value.name, narrow.outputs[0].name = narrow.outputs[0].name, value.name


def _widen_attributes(node: ir.Node, narrow: ir.DataType) -> None:
    for name, attribute in list(node.attributes.items()):
        if attribute.is_ref():
            continue
        if attribute.type == ir.AttributeType.TENSOR and attribute.as_tensor().dtype == narrow:
            wide = ir.tensor(attribute.as_tensor().numpy().astype(np.float32))
            node.attributes[name] = ir.AttrTensor(name, wide)
        elif name in _TYPE_ATTRIBUTES and attribute.value == narrow:
            node.attributes[name] = ir.AttrInt64(name, int(_WIDE))


def _cast(value: ir.Value, dtype: ir.DataType, names: set[str]) -> ir.Node:
    node = ir.node("Cast", [value], {"to": int(dtype)})
    name = f"{value.name}_{dtype.name.lower()}"
    while name in names:
        name += "_"
    names.add(name)
    node.name, node.outputs[0].name = f"cast_{name}", name
    node.outputs[0].shape, node.outputs[0].type = value.shape, ir.TensorType(dtype)
    return node
