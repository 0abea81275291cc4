"""Hidden layers whose rows lie a multiple of 4 KiB apart get one cache line more per row.

The runtime's float kernels read up to twelve rows of the left operand together. Where these lie a multiple
of 4 KiB apart, equal columns of all of them compete for the same few lines of the first-level cache, which
has 64 sets of 64 bytes. The hidden layer of an MLP often is that wide (3072 or 4096 numbers), and it can be
wider: columns of zeros in the weights before it and rows of zeros in those behind it change no finite
result.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from optc import match
from optc.codegen.ort.build import Builder
from optc.codegen.ort.kernels import CONTRIB
from optc.target import Layout

_PERIOD = 4096  # bytes after which the sets of the cache repeat
_LINE = 16  # float32 numbers of a cache line
_DEPTH = 16  # operators between the two products

_PRODUCTS = {("", "MatMul"), ("", "Gemm"), (CONTRIB, "FusedGemm")}
# One value per element, and a finite one where all that varies is zero.
_ELEMENTWISE = {
    *(("", op) for op in ("Abs", "Add", "Elu", "Erf", "Gelu", "HardSigmoid", "HardSwish", "Identity")),
    *(("", op) for op in ("LeakyRelu", "Mish", "Mul", "Neg", "Relu", "Selu", "Sigmoid", "Softplus")),
    *(("", op) for op in ("Softsign", "Sub", "Swish", "Tanh")),
    *((CONTRIB, op) for op in ("BiasGelu", "FastGelu", "Gelu", "QuickGelu")),
}


def _concerns(node: ir.Node) -> bool:
    """Whether it is a product whose left operand has such rows."""
    if node.op_type not in ("MatMul", "Gemm", "FusedGemm") or match.attr_int(node, "transA", 0):
        return False
    weight = node.inputs[1]
    if not match.is_constant(weight) or match.rank(weight) != 2 or weight is None:
        return False
    width = match.static_dim(weight, 1 - _outputs(node))
    return weight.dtype == ir.DataType.FLOAT and width is not None and width > 0 and width * 4 % _PERIOD == 0


def _arrange(node: ir.Node, model: ir.Model) -> list[ir.Value] | None:
    """The product of a copy of its hidden layer with wider rows, or None where there is none to be had."""
    hidden = node.inputs[0]
    if _op(node) not in _PRODUCTS or hidden is None or hidden in node.inputs[1:] or not _has_rows(hidden):
        return None
    width = match.static_dim(hidden, -1)
    layer = _Layer(node, width) if width is not None else None
    return layer.widened(Builder(node, None, model)) if layer and layer.collect(hidden) else None


LAYOUT = Layout("padded rows", "row-stride", _concerns, _arrange)


class _Layer:
    """The operators that compute the left operand of a product, as far back as the products before it."""

    def __init__(self, reader: ir.Node, width: int) -> None:
        self.reader, self.width = reader, width
        self.nodes: dict[ir.Node, None] = {}  # every one behind those that it reads

    def collect(self, hidden: ir.Value) -> bool:
        """Whether nothing but the reader would notice that the layer is wider."""
        if not self._reached(hidden, _DEPTH):
            return False
        known = {*self.nodes, self.reader}
        values = [node.outputs[0] for node in self.nodes]
        return all(use.node in known for value in values for use in value.uses()) and not any(
            value.is_graph_output() for value in values
        )

    def _reached(self, value: ir.Value, depth: int) -> bool:
        node = value.producer()
        if node in self.nodes:
            return True
        if node is None or depth == 0 or match.static_dim(value, -1) != self.width:
            return False
        if _op(node) in _PRODUCTS:
            found = self._starts(node)
        elif _op(node) in _ELEMENTWISE:
            found = all(
                other is None or self._has_place_for(other) or self._reached(other, depth - 1)
                for other in node.inputs
            )
        elif _op(node) == ("", "Reshape") and self._keeps_rows(node):
            found = node.inputs[0] is not None and self._reached(node.inputs[0], depth - 1)
        else:
            found = False
        if found:
            self.nodes[node] = None
        return found

    def _starts(self, node: ir.Node) -> bool:
        weight, rest = node.inputs[1], node.inputs[2:]
        if not match.is_constant(weight) or match.rank(weight) != 2:
            return False
        return all(bias is None or self._has_place_for(bias) for bias in rest)

    def _keeps_rows(self, reshape: ir.Node) -> bool:
        """Whether the last number of its shape is the width, and known when compiling."""
        sizes = match.constant(_last_sizes(reshape))
        return sizes is not None and sizes.size > 0 and sizes[-1] == self.width

    def _has_place_for(self, value: ir.Value) -> bool:
        """Whether it is a constant that gets zeros, or one that all columns share."""
        if not match.is_constant(value) or value.shape is None or not value.shape.is_static():
            return False
        if _is_shared(value):
            numbers = match.constant(value)
            return numbers is not None and bool(np.isfinite(numbers).all())  # it meets zeros
        return bool(value.shape[-1] == self.width)

    def widened(self, b: Builder) -> list[ir.Value]:
        """Inserts the wider copy of the layer, and of the product that reads it."""
        made: dict[ir.Value, ir.Value] = {}
        for node in self.nodes:
            inputs = [self._input(b, node, place, value, made) for place, value in enumerate(node.inputs)]
            made[node.outputs[0]] = _copy(b, node, inputs, self._wide(node.outputs[0]))
        hidden, weight, *rest = self.reader.inputs
        assert hidden is not None and weight is not None
        inputs = [made[hidden], _padded(b, weight, 1 - _outputs(self.reader)), *rest]
        return [_copy(b, self.reader, inputs, self.reader.outputs[0].shape)]

    def _input(
        self, b: Builder, node: ir.Node, place: int, value: ir.Value | None, made: dict[ir.Value, ir.Value]
    ) -> ir.Value | None:
        if value is None or value in made:
            return None if value is None else made[value]
        if _op(node) in _PRODUCTS and place == 0:
            return value
        if _op(node) in _PRODUCTS and place == 1:
            return _padded(b, value, _outputs(node))
        if node.op_type == "Reshape":
            return self._reshaped(b, value)
        return value if _is_shared(value) else _padded(b, value, -1)

    def _reshaped(self, b: Builder, shape: ir.Value) -> ir.Value:
        """The same shape with wider rows."""
        concat = match.producer(shape, "Concat")
        *lead, last = [shape] if concat is None else concat.inputs
        sizes = match.constant(last)
        assert sizes is not None
        wide = b.ints(*sizes[:-1].tolist(), self.width + _LINE)
        if concat is None:
            return wide
        return b.op("Concat", *lead, wide, attrs={"axis": 0}, dtype=shape.dtype, shape=shape.shape)

    def _wide(self, value: ir.Value) -> ir.Shape:
        assert value.shape is not None
        return ir.Shape([*value.shape[:-1], self.width + _LINE])


def _op(node: ir.Node) -> tuple[str, str]:
    return ("" if node.domain == "ai.onnx" else node.domain, node.op_type)


def _outputs(product: ir.Node) -> int:
    """The axis of the weight that is the last one of the result."""
    return 0 if match.attr_int(product, "transB", 0) else 1


def _last_sizes(reshape: ir.Node) -> ir.Value | None:
    shape = reshape.inputs[1]
    concat = match.producer(shape, "Concat")
    return shape if concat is None else concat.inputs[-1]


def _is_shared(constant: ir.Value) -> bool:
    """Whether it is the same for all columns."""
    assert constant.shape is not None
    return len(constant.shape) == 0 or constant.shape[-1] == 1


def _has_rows(value: ir.Value) -> bool:
    """Whether it may be more than one row."""
    if value.shape is None or len(value.shape) < 2:
        return False
    return any(dim != 1 for dim in value.shape[:-1])


def _copy(b: Builder, node: ir.Node, inputs: Sequence[ir.Value | None], shape: ir.Shape | None) -> ir.Value:
    return b.op(
        node.op_type,
        *inputs,
        attrs={name: attribute.value for name, attribute in node.attributes.items()},
        dtype=ir.DataType.FLOAT,
        shape=shape,
        contrib=node.domain == CONTRIB,
    )


def _padded(b: Builder, value: ir.Value, axis: int) -> ir.Value:
    """A constant with zeros behind it, made when it is read and not kept: weights exist only once."""
    tensor = ir.convenience.get_const_tensor(value)
    assert tensor is not None
    dims = list(tensor.shape.numpy())
    dims[axis] += _LINE
    ends = [(0, _LINE if index == axis % len(dims) else 0) for index in range(len(dims))]

    def pad() -> ir.TensorProtocol:
        return ir.Tensor(np.pad(tensor.numpy(), ends), dtype=tensor.dtype)

    return b.weight_once(
        ("padded", value, axis),
        lambda: ir.LazyTensor(pad, dtype=tensor.dtype, shape=ir.Shape(dims), cache=False),
        f"{value.name}_padded",
    )
