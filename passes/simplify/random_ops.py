"""Which nodes give the same outputs for the same inputs, always."""

from __future__ import annotations

import onnx_ir as ir

from optc.subgraphs import subgraphs

RANDOM = frozenset(
    {"RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike", "Multinomial", "Bernoulli"}
)


def is_pure(node: ir.Node) -> bool:
    """Whether the node is no random operator, and neither holds a graph nor may drop elements out."""
    if node.op_type in RANDOM or any(subgraphs(node)):
        return False
    return node.op_type != "Dropout" or len(node.inputs) < 3
