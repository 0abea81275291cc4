"""Weights in the file in half precision, with a Cast that the runtime folds when it loads the program."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from optc.storage import STORAGE, storable


def store_narrow(model: ir.Model) -> bool:
    """Stores the weights of a marked model in the type of the mark, where that is exact; whether any was."""
    marked = model.metadata_props.pop(STORAGE, None)
    if marked is None or not len(model.graph):
        return False
    to = ir.DataType[marked]
    names = set(model.graph.initializers)
    names.update(str(value.name) for node in model.graph.all_nodes() for value in node.outputs)
    first, changed = model.graph[0], False
    for value in list(model.graph.initializers.values()):
        if storable(value) and (tensor := _narrow(value, to)) is not None:
            _store(model.graph, first, value, tensor, names)
            changed = True
    return changed


def _narrow(value: ir.Value, to: ir.DataType) -> ir.TensorProtocol | None:
    """The weight in the narrower type, or None where a value of it would change."""
    assert value.const_value is not None
    array = value.const_value.numpy()
    with np.errstate(over="ignore"):
        narrow = array.astype(to.numpy())
    if not np.array_equal(narrow.astype(np.float32), array, equal_nan=True):
        return None
    return ir.tensor(narrow, dtype=to)


def _store(
    graph: ir.Graph, first: ir.Node, value: ir.Value, tensor: ir.TensorProtocol, names: set[str]
) -> None:
    name = f"{value.name}.stored"
    while name in names:
        name += "_"
    names.add(name)
    stored = ir.Value(
        name=name, type=ir.TensorType(tensor.dtype), shape=ir.Shape(tensor.shape.numpy()), const_value=tensor
    )
    del graph.initializers[str(value.name)]
    graph.register_initializer(stored)
    cast = ir.node("Cast", [stored], {"to": int(ir.DataType.FLOAT)}, name=f"{name}.widened")
    widened = cast.outputs[0]
    value.replace_all_uses_with(widened)
    widened.name, widened.type, widened.shape = value.name, ir.TensorType(ir.DataType.FLOAT), stored.shape
    graph.insert_before(first, cast)
