"""Small questions that patterns ask of values and nodes of the graph."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import onnx_ir as ir


def producer(value: ir.Value | None, *op_types: str, domain: str = "") -> ir.Node | None:
    """The node that computes ``value`` when it is one of ``op_types`` of ``domain``, else None."""
    node = value.producer() if value is not None else None
    if node is None or node.op_type not in op_types or _domain(node) != domain:
        return None
    return node


def _domain(node: ir.Node) -> str:
    return "" if node.domain == "ai.onnx" else node.domain


def is_op(node: ir.Node, *op_types: str, domain: str = "") -> bool:
    """Whether ``node`` is one of ``op_types`` of ``domain``."""
    return node.op_type in op_types and _domain(node) == domain


def constant(value: ir.Value | None) -> np.ndarray | None:
    """The contents of a value that is known when compiling, else None.

    An initializer that is also a graph input is a default that the caller may override: not a constant.
    """
    if value is None:
        return None
    node = value.producer()
    if node is None:
        if value.const_value is None or not value.is_initializer() or value.is_graph_input():
            return None
        return value.const_value.numpy()
    if node.op_type != "Constant" or _domain(node) != "":
        return None
    tensor = ir.convenience.get_const_tensor(value)
    return None if tensor is None else tensor.numpy()


def is_constant(value: ir.Value | None) -> bool:
    """Whether the contents are known when compiling, without reading them."""
    if value is None:
        return False
    node = value.producer()
    if node is None:
        return value.const_value is not None and value.is_initializer() and not value.is_graph_input()
    return node.op_type == "Constant" and _domain(node) == ""


def scalar(value: ir.Value | None) -> float | None:
    """The number in a constant that has exactly one element, else None. Large tensors are not read."""
    if value is None or not is_constant(value):
        return None
    shape = value.shape if value.shape is not None else None
    if shape is not None and shape.is_static() and shape.numpy() and int(np.prod(shape.numpy())) != 1:
        return None
    array = constant(value)
    if array is None or array.size != 1 or array.dtype.kind not in "fiu" and array.dtype.name != "bfloat16":
        return None
    return float(array.reshape(()).astype(np.float64))


def operands(node: ir.Node) -> Iterator[tuple[ir.Value, ir.Value]]:
    """Both orders of the two inputs of a commutative node."""
    first, second = node.inputs[0], node.inputs[1]
    assert first is not None and second is not None
    yield first, second
    yield second, first


def rank(value: ir.Value | None) -> int | None:
    """The number of dimensions, when known."""
    return None if value is None or value.shape is None else value.shape.rank()


def dim(value: ir.Value | None, axis: int) -> int | ir.SymbolicDim | None:
    """One dimension: an int, a symbolic dimension with a name, or None when unknown."""
    if value is None or value.shape is None or not -value.shape.rank() <= axis < value.shape.rank():
        return None
    size = value.shape[axis]
    if isinstance(size, ir.SymbolicDim) and size.value is None:
        return None
    return size


def static_dim(value: ir.Value | None, axis: int) -> int | None:
    """One dimension when it is a number known when compiling."""
    size = dim(value, axis)
    return size if isinstance(size, int) else None


def same_dim(a: int | ir.SymbolicDim | None, b: int | ir.SymbolicDim | None) -> bool:
    """Whether two dimensions are known to be equal."""
    return a is not None and b is not None and a == b


def attr_int(node: ir.Node, name: str, default: int) -> int:
    """An integer attribute, or its default."""
    attribute = node.attributes.get(name)
    return default if attribute is None else attribute.as_int()


def attr_float(node: ir.Node, name: str, default: float) -> float:
    """A float attribute, or its default."""
    attribute = node.attributes.get(name)
    return default if attribute is None else attribute.as_float()


def attr_ints(node: ir.Node, name: str) -> tuple[int, ...] | None:
    """A list-of-integers attribute, or None."""
    attribute = node.attributes.get(name)
    return None if attribute is None else tuple(attribute.as_ints())


def has_one_reader(value: ir.Value) -> bool:
    """Whether exactly one input of one node reads ``value``, and it is not a graph output."""
    return len(value.uses()) == 1 and not value.is_graph_output()


def only_reader(value: ir.Value) -> ir.Node | None:
    """The node that alone reads ``value``, in the graph that computes it; None for a graph output too."""
    if not has_one_reader(value):
        return None
    reader, producer = next(iter(value.uses())).node, value.producer()
    return None if producer is not None and reader.graph is not producer.graph else reader
