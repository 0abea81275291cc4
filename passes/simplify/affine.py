"""Reading linear nodes with constant weights: ``y = x @ w + b`` as MatMul, MatMul and Add, or Gemm."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from .editor import Editor, attribute, operand, producer

FLOATS = frozenset({ir.DataType.FLOAT, ir.DataType.DOUBLE})  # what may be folded without a loss that shows


@dataclass(frozen=True)
class Linear:
    """``source @ weight + bias`` [..., K] -> [..., N]; only its nodes may read the values in ``inner``."""

    source: ir.Value
    weight: np.ndarray  # [K, N]
    bias: np.ndarray | None  # [N]
    inner: tuple[tuple[ir.Value, ir.Node], ...]

    def other_reader(self, editor: Editor) -> bool:
        """Whether something besides these nodes reads an intermediate value."""
        return not all(editor.only_reader(value, node) for value, node in self.inner)


def linear(value: ir.Value | None, editor: Editor) -> Linear | None:
    """The linear map that computes ``value``, or None when it is something else."""
    node = producer(value, "MatMul", "Gemm", "Add")
    if node is None or editor.facts.dtype(node.outputs[0]) not in FLOATS:
        return None
    if node.op_type == "MatMul":
        return _matmul(node, editor)
    return _gemm(node, editor) if node.op_type == "Gemm" else _matmul_add(node, editor)


def weight_shape(value: ir.Value | None, editor: Editor) -> tuple[int, int] | None:
    """[K, N] of the constant weight of a MatMul or Gemm that computes ``value``, without reading it."""
    node = producer(value, "MatMul", "Gemm", "Add")
    if node is not None and node.op_type == "Add":
        inner = [v for v in node.inputs if producer(v, "MatMul") is not None]
        return weight_shape(inner[0], editor) if inner else None
    tensor = editor.facts.const(node.inputs[1]) if node is not None else None
    if node is None or tensor is None or len(tensor.shape) != 2:
        return None
    rows, columns = (int(dim) for dim in tensor.shape.numpy())
    return (columns, rows) if attribute(node, "transB", 0) else (rows, columns)


def constant(value: ir.Value | None, editor: Editor) -> np.ndarray | None:
    """A constant float tensor of any size."""
    tensor = editor.facts.const(value)
    return tensor.numpy() if tensor is not None and tensor.dtype in FLOATS else None


def vector(array: np.ndarray | None, size: int) -> np.ndarray | None:
    """A bias that is one number per column (``[N]``, ``[1, N]``, ``[1]``, ``[]``) as [N]."""
    if array is None or array.size not in (1, size) or (array.ndim and array.shape[-1] != array.size):
        return None
    return np.broadcast_to(array.reshape(-1), (size,))


def _matmul(node: ir.Node, editor: Editor) -> Linear | None:
    source, weight = node.inputs[0], constant(node.inputs[1], editor)
    if source is None or weight is None or weight.ndim != 2:
        return None
    return Linear(source, weight, None, ())


def _gemm(node: ir.Node, editor: Editor) -> Linear | None:
    source, weight, added = node.inputs[0], constant(node.inputs[1], editor), operand(node, 2)
    if source is None or weight is None or attribute(node, "transA", 0):
        return None
    weight = weight.T if attribute(node, "transB", 0) else weight
    if attribute(node, "alpha", 1.0) != 1.0:
        weight = weight.astype(np.float64) * attribute(node, "alpha", 1.0)
    if added is None:
        return Linear(source, weight, None, ())
    bias = vector(constant(added, editor), weight.shape[1])
    if bias is None:
        return None
    return Linear(source, weight, bias.astype(np.float64) * attribute(node, "beta", 1.0), ())


def _matmul_add(node: ir.Node, editor: Editor) -> Linear | None:
    for index in (0, 1):
        product, added = node.inputs[index], node.inputs[1 - index]
        matmul = producer(product, "MatMul")
        if matmul is None or product is None or editor.facts.const(added) is None:
            continue
        map_ = _matmul(matmul, editor)
        if map_ is None:
            return None
        bias = vector(constant(added, editor), map_.weight.shape[1])
        rank, added_rank = editor.facts.rank(product), editor.facts.rank(added)
        if bias is None or added_rank is None or (added_rank > 1 and (rank is None or added_rank > rank)):
            return None  # a bias of higher rank would add axes
        return Linear(map_.source, map_.weight, bias, ((product, node),))
    return None
