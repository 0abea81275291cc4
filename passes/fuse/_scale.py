"""Numbers that a graph computes from constants and static dimensions, such as 1 / sqrt(head size)."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx_ir as ir

from optc import match

_DEPTH = 12  # 1 / sqrt(q.shape[-1]) as exporters write it is eight nodes deep

_SAME = frozenset({"Identity", "Squeeze", "Unsqueeze", "Reshape", "Expand", "Flatten"})
_ARITHMETIC: dict[str, Callable[..., np.float64]] = {
    "Neg": np.negative,
    "Sqrt": np.sqrt,
    "Reciprocal": np.reciprocal,
    "Exp": np.exp,
    "Add": np.add,
    "Sub": np.subtract,
    "Mul": np.multiply,
    "Div": np.divide,
    "Pow": np.power,
}


def known_number(value: ir.Value | None, depth: int = _DEPTH) -> float | None:
    """The one number that every element of ``value`` has, whatever the inputs of the model; else None."""
    if value is None or depth == 0:
        return None
    found = match.scalar(value)
    if found is not None:
        return found
    node = value.producer()
    if node is None or node.domain not in ("", "ai.onnx"):
        return None
    if node.op_type in _SAME:
        return known_number(node.inputs[0], depth - 1)
    if node.op_type in ("Cast", "CastLike"):
        return _cast(node, known_number(node.inputs[0], depth - 1))
    if node.op_type in _ARITHMETIC:
        return _computed(node, [known_number(each, depth - 1) for each in node.inputs])
    if node.op_type == "ConstantOfShape":
        fill = node.attributes.get("value")
        return 0.0 if fill is None else float(fill.as_tensor().numpy().astype(np.float64).reshape(-1)[0])
    return _dimension(node)


def _cast(node: ir.Node, number: float | None) -> float | None:
    """A number that the cast does not cut off."""
    kind = node.outputs[0].dtype
    if number is None or kind is None or not (kind.is_floating_point() or number == int(number)):
        return None
    return number


def _computed(node: ir.Node, operands: list[float | None]) -> float | None:
    kind = node.outputs[0].dtype
    if any(each is None for each in operands) or kind is None or not kind.is_floating_point():
        return None
    with np.errstate(all="ignore"):
        number = float(_ARITHMETIC[node.op_type](*np.array(operands, np.float64)))
    return number if np.isfinite(number) else None


def _dimension(node: ir.Node) -> float | None:
    """A static dimension that ``Gather`` or ``Slice`` picks from a ``Shape``, or that ``Shape`` gives."""
    shape = node if node.op_type == "Shape" or not node.inputs else match.producer(node.inputs[0], "Shape")
    if shape is None or not shape.inputs or shape.inputs[0] is None or shape.inputs[0].shape is None:
        return None
    whole = list(shape.inputs[0].shape)
    end = match.attr_int(shape, "end", len(whole))
    picked = _pick(node, whole[match.attr_int(shape, "start", 0) : end])
    return float(picked[0]) if len(picked) == 1 and isinstance(picked[0], int) else None


def _pick(node: ir.Node, sizes: list[int | ir.SymbolicDim]) -> list[int | ir.SymbolicDim]:
    if node.op_type == "Shape":
        return sizes
    if node.op_type == "Gather":
        index = match.scalar(node.inputs[1])
        return [] if index is None or not -len(sizes) <= index < len(sizes) else [sizes[int(index)]]
    if node.op_type == "Slice" and len(node.inputs) >= 3:
        start, end = match.scalar(node.inputs[1]), match.scalar(node.inputs[2])
        step = 1.0 if len(node.inputs) < 5 else match.scalar(node.inputs[4])
        if start is not None and end is not None and step == 1:
            return sizes[int(start) : int(end)]
    return []
