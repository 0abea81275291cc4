"""Where the division of an input goes: into what computes it, if that is exact, or into a node of its own."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from optc import match
from optc.passes.quantize.static.graph import Graph
from optc.passes.quantize.static.grid import along

from .groups import Group

_COMMUTING = ("Relu", "LeakyRelu", "Identity", "Dropout")
Edit = tuple[ir.Node, int, int]  # a node, which of its inputs, and the axis of the channels
_DEPTH = 8  # operators between a product and what takes its factors


def by_node(group: Group, factors: np.ndarray, graph: Graph) -> None:
    """Divides the input in front of the sites; a factor of infinity leaves zeros."""
    data, name = group.data, str(group.data.name)
    reciprocals = graph.constant((1 / factors).astype(np.float32), f"{name}_reciprocals")
    divided = graph.make("Mul", [data, reciprocals], f"{name}_smoothed", ir.DataType.FLOAT, data.shape)
    graph.place_behind(data, divided)
    for site in group.sites:
        site.node.replace_input_with(0, divided)


def edits_for(group: Group) -> list[Edit] | None:
    """The constants to divide so that the input is divided; None where something else would see it."""
    return _edits(group.data, _DEPTH) if group.is_alone else None


def into_producer(group: Group, factors: np.ndarray, graph: Graph) -> bool:
    """Divides constants of the operators that compute the input, if only the sites see the difference."""
    edits = edits_for(group)
    if edits is None:
        return False
    for node, index, axis in edits:
        old = node.inputs[index]
        array = match.constant(old)
        assert old is not None and array is not None
        divided = (array / along(factors, axis, array.ndim)).astype(array.dtype)
        node.replace_input_with(index, graph.constant(divided, f"{old.name}_smoothed"))
    return True


def _edits(value: ir.Value, depth: int) -> list[Edit] | None:
    """The constants that dividing ``value`` by a factor per channel (last axis) divides, or None."""
    node = value.producer()
    width = match.static_dim(value, -1)
    if node is None or depth == 0 or width is None or node.domain not in ("", "ai.onnx"):
        return None
    if node.op_type in ("LayerNormalization", "RMSNormalization"):
        return _of_norm(node, value, width)
    if node.op_type in ("MatMul", "Gemm"):
        return _of_product(node)
    if node.op_type in _COMMUTING:
        return _through(node.inputs[0], depth)
    if node.op_type == "Mul":
        return _of_mul(node, width, depth)
    if node.op_type == "Add":
        return _of_add(node, width, depth)
    return None


def _through(value: ir.Value | None, depth: int) -> list[Edit] | None:
    if value is None or not match.has_one_reader(value):
        return None
    return _edits(value, depth - 1)


def _of_norm(node: ir.Node, value: ir.Value, width: int) -> list[Edit] | None:
    rank, axis = match.rank(value), match.attr_int(node, "axis", -1)
    if rank is None or axis % rank != rank - 1 or value is not node.outputs[0]:
        return None
    affine = [index for index in (1, 2) if len(node.inputs) > index and node.inputs[index] is not None]
    if not affine or not all(_is_vector(node.inputs[index], width) for index in affine):
        return None
    return [(node, index, -1) for index in affine]


def _of_product(node: ir.Node) -> list[Edit] | None:
    weight, bias = node.inputs[1], node.inputs[2] if len(node.inputs) > 2 else None
    turned = match.attr_int(node, "transB", 0)
    if not match.is_constant(weight) or match.rank(weight) != 2:
        return None
    edits: list[Edit] = [(node, 1, 0 if turned else 1)]
    if bias is None:
        return edits
    width = match.static_dim(weight, 0 if turned else 1)
    if width is None or not _is_vector(bias, width):
        return None
    return [*edits, (node, 2, -1)]


def _of_mul(node: ir.Node, width: int, depth: int) -> list[Edit] | None:
    """One factor of a product takes it all: a constant vector, or what leads to something that can."""
    for index in (0, 1):
        if _is_vector(node.inputs[index], width):
            return [(node, index, -1)]
    for operand in node.inputs:
        if match.static_dim(operand, -1) == width and (found := _through(operand, depth)) is not None:
            return found
    return None


def _of_add(node: ir.Node, width: int, depth: int) -> list[Edit] | None:
    for index in (0, 1):
        other = node.inputs[1 - index]
        if not _is_vector(node.inputs[index], width) or match.static_dim(other, -1) != width:
            continue
        found = _through(other, depth)
        return None if found is None else [(node, index, -1), *found]
    return None


def _is_vector(value: ir.Value | None, width: int) -> bool:
    return match.is_constant(value) and match.rank(value) == 1 and match.static_dim(value, 0) == width
