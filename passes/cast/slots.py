"""Which inputs and outputs of an operator may have a narrower type, from its declaration in ONNX."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import onnx
import onnx_ir as ir

# The type of their result is an attribute, or they make it up.
_TYPED = frozenset({"Cast", "CastLike", "Constant", "ConstantOfShape", "EyeLike", "Bernoulli", "Multinomial"})


@dataclass(frozen=True)
class Slots:
    """Positions of the float32 inputs and outputs that become narrower together."""

    inputs: tuple[int, ...]
    outputs: tuple[int, ...]


def is_float(value: ir.Value | None) -> bool:
    """Whether a value is a float32 tensor."""
    return value is not None and isinstance(value.type, ir.TensorType) and value.dtype == ir.DataType.FLOAT


def concerns(node: ir.Node) -> bool:
    """Whether a node computes float32 from float32, so that there is something to decide."""
    if node.op_type in _TYPED or node.op_type.startswith("Random"):
        return False
    return any(is_float(v) for v in node.inputs) and any(is_float(v) for v in node.outputs)


def find(node: ir.Node, version: int, to: ir.DataType) -> Slots | None:
    """What becomes ``to`` when the node does, or None where its operator is not declared for that.

    An output follows the inputs that share its type variable; one without (the statistics that a
    LayerNormalization gives out) keeps its type.
    """
    try:
        schema = onnx.defs.get_schema(node.op_type, version, "")
    except onnx.defs.SchemaError:
        return None
    if any(v is not None and not isinstance(v.type, ir.TensorType) for v in (*node.inputs, *node.outputs)):
        return None
    taken, variables = [], set()
    for index, value in enumerate(node.inputs):
        formal = schema.inputs[min(index, len(schema.inputs) - 1)]
        if is_float(value) and _allows(formal, to):
            taken.append(index)
            variables.add(formal.type_str)
    formals = schema.outputs
    made = [
        index
        for index, value in enumerate(node.outputs)
        if is_float(value) and formals[min(index, len(formals) - 1)].type_str in variables
    ]
    return Slots(tuple(taken), tuple(made)) if taken and made else None


def _allows(formal: Any, to: ir.DataType) -> bool:
    return f"tensor({to.name.lower()})" in formal.types
