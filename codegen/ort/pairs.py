"""Which pairs of QuantizeLinear and DequantizeLinear the runtime takes into a kernel that computes otherwise.

ONNX Runtime's optimizer looks at types, not at scales: it puts an integer kernel, which knows one scale per
tensor or one per output channel of the weight, in the place of a node whose pairs have others: the program
fails to load or to run, or one scale is taken for another. In the place of a product of a float input with
constant codes it puts MatMulNBits, which rounds the input too. Between pairs it rounds float weights, and
biases to int32 where they do not fit; the kernel of Softmax rounds one divided by the scale to an integer. Of
two pairs in a row it makes one with a scale of its own. It looks through what only moves elements.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from optc import match

# What the runtime moves pairs behind, or in front of.
MOVING = frozenset({"MaxPool", "Reshape", "Slice", "Squeeze", "Transpose", "Unsqueeze"})
# What has an integer kernel with one scale for each input and for the result.
_ONE_SCALE = frozenset(
    ("Add", "Mul", "Concat", "Where", "AveragePool", "GlobalAveragePool", "Sigmoid", "LeakyRelu", "Softmax")
)
_PRODUCTS = frozenset(("MatMul", "Gemm", "Conv", "ConvTranspose"))
_LARGEST_BIAS = float(2**31)  # what int32 holds


@dataclass(frozen=True)
class Edge:
    """Where a node gets an input from a DequantizeLinear.

    Attributes:
        reader, index: which input that is: of the node, or of the first node that moves it.
        turns: how often it is transposed as a matrix on the way; None where it is moved otherwise.
    """

    reader: ir.Node
    index: int
    back: ir.Node
    turns: int | None = 0


def misread(node: ir.Node) -> list[Edge]:
    """The inputs of a node of which the runtime must not see that they come from a DequantizeLinear."""
    if match.is_op(node, "QuantizeLinear"):
        return _merged(node)
    if not match.is_op(node, *_ONE_SCALE, *_PRODUCTS):
        return []
    edges = [_edge(node, index) for index in range(len(node.inputs))]
    found = [edge for edge in edges if edge is not None]
    if not found:
        return []
    if node.op_type in _ONE_SCALE:
        behind = _rounding(node)
        fit = all(map(_fits, (*behind, *(edge.back for edge in found))))
        wrong = bool(behind) and not (fit and (node.op_type != "Softmax" or all(map(_parts_one, behind))))
    else:
        wrong = _is_misread_product(node, edges[0], edges[1])
    return found if wrong else []


def _merged(node: ir.Node) -> list[Edge]:
    """The input of a QuantizeLinear from a pair on another grid, where the runtime would make one of both."""
    edge = _edge(node, 0)
    if edge is None or edge.turns != 0 or match.producer(edge.back.inputs[0], "QuantizeLinear") is None:
        return []
    before, behind = _grid(edge.back), _grid(node)
    return [edge] if None not in (*before, *behind) and before != behind else []


def _grid(node: ir.Node) -> tuple[float | None, float | None]:
    """The number in the scale and in the zero point, None where it is no single number."""
    scale, zero = [*node.inputs[1:], None][:2]
    return match.scalar(scale), 0.0 if zero is None else match.scalar(zero)


def _edge(node: ir.Node, index: int) -> Edge | None:
    reader, value = node, node.inputs[index]
    turns: int | None = 0
    while (mover := match.producer(value, "Identity", *MOVING)) is not None:
        if mover.op_type != "Identity":
            turns = None if turns is None or not _turns(mover) else turns + 1
        reader, index, value = mover, 0, mover.inputs[0]
    back = match.producer(value, "DequantizeLinear")
    return None if back is None else Edge(reader, index, back, turns)


def _turns(mover: ir.Node) -> bool:
    return (
        mover.op_type == "Transpose"
        and match.rank(mover.inputs[0]) == 2
        and (match.attr_ints(mover, "perm") in (None, (1, 0)))
    )


def _is_misread_product(node: ir.Node, data: Edge | None, weight: Edge | None) -> bool:
    convolves = node.op_type.startswith("Conv")
    if weight is None:
        rounds_weights = node.op_type != "MatMul" and match.is_constant(node.inputs[1])
        return rounds_weights and any(_rounding(node))
    if data is None:
        return not convolves and match.is_constant(weight.back.inputs[0])
    if node.op_type == "ConvTranspose":
        return False  # it has no integer kernel
    if not _fits(data.back) or not (_fits(weight.back) or _is_per_channel(node, weight)):
        return True
    return not all(map(_fits, _rounding(node))) or _overflows(node, data.back, weight.back)


def _rounding(node: ir.Node) -> list[ir.Node]:
    """The QuantizeLinear behind a node, or behind the Relu or Clip that the runtime takes into it."""
    return [reader for reader in _behind(node) if match.is_op(reader, "QuantizeLinear")]


def _behind(node: ir.Node) -> Iterator[ir.Node]:
    for reader, index in node.outputs[0].uses():
        if index == 0:
            yield reader
            if match.is_op(reader, "Relu", "Clip"):
                yield from reader.outputs[0].consumers()


def _parts_one(rounding: ir.Node) -> bool:
    """Whether the step is one divided by an integer, which is what the kernel of Softmax rounds it to."""
    step = match.scalar(rounding.inputs[1])
    if step is None or not step > 0:
        return False
    parts = np.float32(1) / np.float32(step)
    return bool(parts - np.floor(parts) <= 1e-6 * parts)


def _fits(node: ir.Node) -> bool:
    """Whether codes are integers with one scale."""
    codes = node.inputs[0] if node.op_type == "DequantizeLinear" else node.outputs[0]
    if codes is None or codes.dtype is None or not codes.dtype.is_integer() or _block(node):
        return False
    return all(value is None or _is_single(value) for value in node.inputs[1:])


def _is_single(value: ir.Value) -> bool:
    return value.shape is not None and all(dim == 1 for dim in value.shape)


def _block(node: ir.Node) -> int:
    return match.attr_int(node, "block_size", 0)


def _is_per_channel(node: ir.Node, weight: Edge) -> bool:
    """Whether constant integer codes have a scale for each output channel."""
    codes, scale = weight.back.inputs[:2]
    if codes is None or not codes.shape or codes.dtype is None or not match.is_constant(codes):
        return False
    if not codes.dtype.is_integer() or _block(weight.back) or weight.turns is None or match.rank(scale) != 1:
        return False
    axis = match.attr_int(weight.back, "axis", 1) % len(codes.shape)
    if node.op_type == "Conv":
        return axis == 0
    turns = weight.turns + match.attr_int(node, "transB", 0)
    return len(codes.shape) == 2 and axis == (1 + turns) % 2


def _overflows(node: ir.Node, data: ir.Node, weight: ir.Node) -> bool:
    """Whether a float bias has no code in int32 with the scale that the sums have."""
    bias = match.constant(node.inputs[2]) if len(node.inputs) > 2 else None
    step, scales = match.constant(data.inputs[1]), match.constant(weight.inputs[1])
    if bias is None or step is None or scales is None:
        return False
    with np.errstate(all="ignore"):
        codes = bias.astype(np.float64) / (step.astype(np.float64) * scales)
    return not bool((np.abs(codes) < _LARGEST_BIAS).all())
