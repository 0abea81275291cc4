"""The bias and the activation behind a product of matrices."""

from __future__ import annotations

from typing import ClassVar

import onnx_ir as ir

from optc import match
from optc.rewrite import Match, Pattern

from ._bias import bias_add

# What com.microsoft.FusedGemm applies: attribute of the op -> (attribute of FusedGemm, default of the op).
ACTIVATIONS: dict[str, dict[str, tuple[str, float]]] = {
    "Relu": {},
    "Sigmoid": {},
    "Tanh": {},
    "Softplus": {},
    "Softsign": {},
    "LeakyRelu": {"alpha": ("activation_alpha", 0.01)},
    "ThresholdedRelu": {"alpha": ("activation_alpha", 1.0)},
    "Elu": {"alpha": ("activation_alpha", 1.0)},
    "Celu": {"alpha": ("activation_alpha", 1.0)},
    "HardSigmoid": {"alpha": ("activation_alpha", 0.2), "beta": ("activation_beta", 0.5)},
    "Selu": {
        "alpha": ("activation_alpha", 1.6732632423543772),
        "gamma": ("activation_gamma", 1.0507009873554805),
    },
}
_TYPES = (ir.DataType.FLOAT, ir.DataType.DOUBLE, ir.DataType.FLOAT16)  # no runtime has a Gemm of integers


class FusedGemm(Pattern):
    """activation(alpha * a b + beta * c), where the bias or the activation was a node of its own."""

    name: ClassVar[str] = "gemm"
    family: ClassVar[str] = "gemm"
    anchors: ClassVar[frozenset[str]] = frozenset({"Gemm", "MatMul"})
    after: ClassVar[tuple[str, ...]] = ("packed_linear", "bias_gelu", "skip_norm")

    def match(self, node: ir.Node, model: ir.Model) -> Match | None:
        """What alone reads a product of two matrices."""
        a, b = node.inputs[:2]
        if match.rank(a) != 2 or match.rank(b) != 2 or node.outputs[0].dtype not in _TYPES:
            return None
        if match.producer(b, "DequantizeLinear") is not None:
            return None  # what is quantized the runtime fuses with the pairs around it
        c = node.inputs[2] if len(node.inputs) > 2 else None
        beta = match.attr_float(node, "beta", 1.0)
        output, nodes = node.outputs[0], [node]
        if c is None and (found := bias_add(output)) is not None:
            nodes.append(found[0])
            c, beta, output = found[1], 1.0, found[0].outputs[0]
        activation = match.only_reader(output)
        if activation is None or not match.is_op(activation, *ACTIVATIONS):
            activation = None
        else:
            nodes.append(activation)
            output = activation.outputs[0]
        if len(nodes) == 1:
            return None
        attributes = {
            "alpha": match.attr_float(node, "alpha", 1.0),
            "beta": beta,
            "transA": match.attr_int(node, "transA", 0),
            "transB": match.attr_int(node, "transB", 0),
            **_activation_attributes(activation),
        }
        inputs = [a, b] if c is None else [a, b, c]
        return Match("FusedGemm", inputs, [output], _body(c is not None, activation), attributes, nodes)


def _activation_attributes(activation: ir.Node | None) -> dict[str, str | float]:
    if activation is None:
        return {}
    parameters = ACTIVATIONS[activation.op_type].items()
    values = {theirs: match.attr_float(activation, own, default) for own, (theirs, default) in parameters}
    return {"activation": activation.op_type, **values}


def _body(biased: bool, activation: ir.Node | None) -> str:
    product = "alpha: float = @alpha, beta: float = @beta, transA: int = @transA, transB: int = @transB"
    names = "a, b, c" if biased else "a, b"
    if activation is None:
        return f"({names}) => (y) {{\ny = Gemm <{product}> ({names})\n}}"
    parameters = ACTIVATIONS[activation.op_type].items()
    own = ", ".join(f"{name}: float = @{theirs}" for name, (theirs, _) in parameters)
    call = f"{activation.op_type} {f'<{own}> ' if own else ''}(product)"
    return f"({names}) => (y) {{\nproduct = Gemm <{product}> ({names})\ny = {call}\n}}"
