"""bfloat16 on the CPU: the runtime can cast it and little else, so the program computes in float32."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

_NARROW, _WIDE = ir.DataType.BFLOAT16, ir.DataType.FLOAT
_KEPT = frozenset({"Cast", "Constant", "If", "Loop", "Scan"})  # these hand bfloat16 on
_TYPE_ATTRIBUTES = ("dtype", "output_dtype")


def widen(model: ir.Model) -> None:
    """Lets every operator compute in float32 that would in bfloat16; the model is changed in place.

    Inputs, outputs and weights keep their type, and where the model itself casts to bfloat16, the value is
    rounded. Results of operators are not rounded between them, which is nearer to the exact result.
    """
    graphs = [model.graph, *model.graph.subgraphs()]
    if not any(value.dtype == _NARROW for graph in graphs for value in _values(graph)):
        return
    names = {str(value.name) for graph in graphs for value in _values(graph)}
    for graph in graphs:
        for value in [value for value in _values(graph) if value.dtype == _NARROW]:
            producer = value.producer()
            if producer is None or producer.op_type in _KEPT:
                _widen_uses(graph, value, names)
            else:
                _widen_result(graph, producer, value, names)
        for node in graph:
            if node.op_type not in _KEPT:
                _widen_attributes(node)


def _values(graph: ir.Graph) -> list[ir.Value]:
    made = [value for node in graph for value in node.outputs]
    return list(dict.fromkeys((*graph.inputs, *graph.initializers.values(), *made)))


def _widen_uses(graph: ir.Graph, value: ir.Value, names: set[str]) -> None:
    """A value that stays bfloat16: operators read a float32 copy."""
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


def _widen_result(graph: ir.Graph, producer: ir.Node, value: ir.Value, names: set[str]) -> None:
    """A value that becomes float32: what must have bfloat16 gets a rounded copy."""
    value.type = ir.TensorType(_WIDE)
    users = [(user, place) for user, place in value.uses() if user.op_type in _KEPT - {"Cast"}]
    if not users and not value.is_graph_output():
        return
    narrow = _cast(value, _NARROW, names)
    graph.insert_after(producer, narrow)
    for user, place in users:
        user.replace_input_with(place, narrow.outputs[0])
    for place, output in enumerate(graph.outputs):
        if output is value:
            graph.outputs[place] = narrow.outputs[0]
    if narrow.outputs[0].is_graph_output():
        value.name, narrow.outputs[0].name = narrow.outputs[0].name, value.name


def _widen_attributes(node: ir.Node) -> None:
    for name, attribute in list(node.attributes.items()):
        if attribute.is_ref():
            continue
        if attribute.type == ir.AttributeType.TENSOR and attribute.as_tensor().dtype == _NARROW:
            wide = ir.tensor(attribute.as_tensor().numpy().astype(np.float32))
            node.attributes[name] = ir.AttrTensor(name, wide)
        elif name in _TYPE_ATTRIBUTES and attribute.value == _NARROW:
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
