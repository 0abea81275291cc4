"""Nodes that a match asks for, described first and built only once the match is accepted.

Building a node registers it as a reader of its inputs; a pattern that refuses late must leave no trace, so it
works with these descriptions instead.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np
import onnx_ir as ir


@dataclass(frozen=True, eq=False)
class New:
    """A node with one output that does not exist yet; ``shape`` and ``dtype`` are those of the output."""

    op_type: str
    inputs: tuple[Operand | None, ...]
    dtype: ir.DataType
    shape: ir.Shape | None
    attributes: Mapping[str, int | Sequence[int] | ir.TensorProtocol] = field(default_factory=dict)


Operand: TypeAlias = "ir.Value | New"


def constant(array: np.ndarray | ir.TensorProtocol) -> New:
    """A ``Constant`` node with the contents of ``array``."""
    tensor = array if isinstance(array, ir.TensorProtocol) else ir.tensor(array)
    return New("Constant", (), tensor.dtype, ir.Shape(tensor.shape.numpy()), {"value": tensor})


def build(wanted: Sequence[Operand | None]) -> tuple[list[ir.Value | None], list[ir.Node]]:
    """Makes the described nodes: the values in the place of ``wanted``, and the new nodes in order."""
    made: dict[int, ir.Value] = {}
    nodes: list[ir.Node] = []
    return [_value(operand, made, nodes) for operand in wanted], nodes


def _value(operand: Operand | None, made: dict[int, ir.Value], nodes: list[ir.Node]) -> ir.Value | None:
    if operand is None or isinstance(operand, ir.Value):
        return operand
    if id(operand) not in made:
        inputs = [_value(each, made, nodes) for each in operand.inputs]
        node = ir.node(operand.op_type, inputs, operand.attributes)
        node.outputs[0].shape = operand.shape
        node.outputs[0].type = ir.TensorType(operand.dtype)
        made[id(operand)] = node.outputs[0]
        nodes.append(node)
    return made[id(operand)]
