"""The bias, the residual and the activation behind a convolution."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import onnx_ir as ir

from optc import match, newnode
from optc.newnode import Operand
from optc.rewrite import Match, NearMiss, Pattern

from ._constants import is_float, literal
from ._dims import same_shape

# What com.microsoft.FusedConv applies, with the op's own attributes in the order of activation_params.
ACTIVATIONS: dict[str, dict[str, float]] = {
    "Relu": {},
    "Sigmoid": {},
    "Tanh": {},
    "HardSwish": {},
    "LeakyRelu": {"alpha": 0.01},
    "HardSigmoid": {"alpha": 0.2, "beta": 0.5},
    "Clip": {},
}
_CLIP = ("low", "high")
_ATTRIBUTES = {
    "auto_pad": "string",
    "dilations": "ints",
    "group": "int",
    "kernel_shape": "ints",
    "pads": "ints",
    "strides": "ints",
}


@dataclass
class _Chain:
    """What was found behind the convolution so far."""

    output: ir.Value
    nodes: list[ir.Node]
    bias: Operand | None
    residual: ir.Value | None = None
    activation: str | None = None
    parameters: list[float] = field(default_factory=list)


class FusedConv(Pattern):
    """activation(conv(x, w) + b + residual), where one of the last three was a node of its own."""

    name: ClassVar[str] = "conv"
    family: ClassVar[str] = "conv"
    anchors: ClassVar[frozenset[str]] = frozenset({"Conv"})

    def match(self, node: ir.Node, model: ir.Model) -> Match | None:
        """What alone reads a convolution."""
        x, w = node.inputs[:2]
        bias = node.inputs[2] if len(node.inputs) > 2 else None
        if not is_float(node.outputs[0].dtype) or match.producer(w, "DequantizeLinear") is not None:
            return None  # what is quantized the runtime fuses with the pairs around it
        chain = _Chain(node.outputs[0], [node], bias)
        _take_bias(chain)
        _take_residual(chain)
        _take_activation(chain)
        if len(chain.nodes) == 1:
            return None
        named = {"x": x, "w": w, "b": chain.bias, "residual": chain.residual}
        given = {name: value for name, value in named.items() if value is not None}
        attributes: dict[str, Any] = {
            k: node.attributes[k].value for k in _ATTRIBUTES if k in node.attributes
        }
        body = _body(list(given), [*attributes], chain, node.outputs[0].dtype)
        if chain.activation is not None:
            attributes["activation"] = chain.activation
        if chain.parameters:
            attributes["activation_params"] = chain.parameters
        return Match("FusedConv", [*given.values()], [chain.output], body, attributes, chain.nodes)


def _added(chain: _Chain) -> tuple[ir.Node, ir.Value] | None:
    """The Add that alone reads the end of the chain, and what it adds."""
    add = match.only_reader(chain.output)
    if add is None or not match.is_op(add, "Add"):
        return None
    other = add.inputs[1] if add.inputs[0] is chain.output else add.inputs[0]
    return None if other is None else (add, other)


def _take_bias(chain: _Chain) -> None:
    """A constant with one number per channel, shaped [C, 1, ..] or [1, C, 1, ..]."""
    found = _added(chain)
    rank, channels = match.rank(chain.output), match.static_dim(chain.output, 1)
    if chain.bias is not None or found is None or rank is None or channels is None:
        return
    add, other = found
    if not match.is_constant(other) or other.shape is None:
        return
    dims = [1] * (rank - other.shape.rank()) + list(other.shape)
    if len(dims) != rank or dims != [1, channels] + [1] * (rank - 2):
        return
    array = match.constant(other)
    assert array is not None
    chain.bias = newnode.constant(np.ascontiguousarray(array.reshape(-1)))
    chain.nodes.append(add)
    chain.output = add.outputs[0]


def _take_residual(chain: _Chain) -> None:
    found = _added(chain)
    if found is None or match.is_constant(found[1]):
        return
    add, other = found
    if not same_shape(other, chain.output):
        if _known_to_broadcast(other, chain.output):
            return
        raise NearMiss(f"the shapes of the residual Add, {chain.output.shape} and {other.shape}, may differ")
    chain.residual = other
    chain.nodes.append(add)
    chain.output = add.outputs[0]


def _known_to_broadcast(other: ir.Value, output: ir.Value) -> bool:
    if other.shape is None or output.shape is None:
        return False
    ones = any((a == 1) != (b == 1) for a, b in zip(other.shape, output.shape, strict=False))
    return ones or other.shape.rank() != output.shape.rank()


def _take_activation(chain: _Chain) -> None:
    node = match.only_reader(chain.output)
    if node is None or not match.is_op(node, *ACTIVATIONS) or node.inputs[0] is not chain.output:
        return
    parameters = [match.attr_float(node, *pair) for pair in ACTIVATIONS[node.op_type].items()]
    if node.op_type == "Clip":
        bounds = _clip_bounds(node)
        if bounds is None:
            return
        parameters = bounds
    chain.activation, chain.parameters = node.op_type, parameters
    chain.nodes.append(node)
    chain.output = node.outputs[0]


def _clip_bounds(node: ir.Node) -> list[float] | None:
    """The bounds of a Clip when they are constant and in order; all of float's range where one is absent."""
    limit = float(np.finfo(np.float32).max)
    bounds = [-limit, limit]
    for i, value in enumerate(node.inputs[1:3]):
        number = bounds[i] if value is None else match.scalar(value)
        if number is None:
            return None
        bounds[i] = number
    return bounds if bounds[0] <= bounds[1] else None


def _body(names: list[str], attributes: list[str], chain: _Chain, dtype: ir.DataType | None) -> str:
    given = ", ".join(f"{name}: {_ATTRIBUTES[name]} = @{name}" for name in attributes)
    operands = "x, w, b" if "b" in names else "x, w"
    steps = [f"Conv {f'<{given}> ' if given else ''}({operands})"]
    if "residual" in names:
        steps.append("Add(v0, residual)")
    if chain.activation is not None:
        steps.append(_activation(chain.activation, chain.parameters, f"v{len(steps) - 1}"))
    results = [f"v{i}" for i in range(len(steps) - 1)] + ["y"]
    lines = [f"{result} = {step}" for result, step in zip(results, steps, strict=True)]
    if chain.activation == "Clip":
        lines[:0] = [literal(name, value, dtype) for name, value in zip(_CLIP, chain.parameters, strict=True)]
    text = "\n".join(lines)
    return f"({', '.join(names)}) => (y) {{\n{text}\n}}"


def _activation(op_type: str, parameters: list[float], operand: str) -> str:
    if op_type == "Clip":
        return f"Clip({', '.join([operand, *_CLIP])})"
    pairs = zip(ACTIVATIONS[op_type], parameters, strict=True)
    own = ", ".join(f"{name} = {value!r}" for name, value in pairs)
    return f"{op_type} {f'<{own}> ' if own else ''}({operand})"
