"""Products of codes whose grid is fixed, with int8 weights and a float result."""

from __future__ import annotations

from typing import ClassVar

import onnx_ir as ir

from optc import match
from optc.rewrite import Match, NearMiss, Pattern

from ._bias import bias_add

_CODES = (ir.DataType.UINT8, ir.DataType.INT8)


class GridLinear(Pattern):
    """Dequantized codes times a dequantized constant matrix, plus a bias.

    Where the result goes to codes again without a bias, a runtime has an operator of its own for all of it.
    """

    name: ClassVar[str] = "grid_linear"
    family: ClassVar[str] = "quant-grid"
    anchors: ClassVar[frozenset[str]] = frozenset({"MatMul"})

    def match(self, node: ir.Node, model: ir.Model) -> Match | None:
        """The DequantizeLinear of the weight, the product and the bias; that of the input may serve more."""
        given, weight = (match.producer(value, "DequantizeLinear") for value in node.inputs)
        if given is None or weight is None or match.is_constant(given.inputs[0]):
            return None
        _check_input(given)
        _check_weight(weight)
        inputs = dict(zip(("codes", "step", "middle"), given.inputs, strict=False))
        inputs |= dict(zip(("w", "scale", "zero"), weight.inputs, strict=False))
        nodes, output = [node], node.outputs[0]
        if match.has_one_reader(weight.outputs[0]):
            nodes.insert(0, weight)
        if (found := bias_add(output)) is not None:
            inputs["bias"] = found[1]
            nodes.append(found[0])
            output = found[0].outputs[0]
        elif any(match.is_op(reader, "QuantizeLinear") for reader in output.consumers()):
            return None
        return Match("GridLinear", [*inputs.values()], [output], _body([*inputs]), {}, nodes)


def _check_input(given: ir.Node) -> None:
    """One step and one zero point for all of it."""
    codes, step, middle = [*given.inputs, None][:3]
    if codes is None or codes.dtype not in _CODES or middle is None:
        raise NearMiss("its input is not codes of 8 bits with a zero point")
    if step is None or match.scalar(step) is None or match.scalar(middle) is None:
        raise NearMiss("its input does not have one constant step and zero point")
    if step.dtype != ir.DataType.FLOAT or match.attr_int(given, "output_dtype", 0):
        raise NearMiss("its input is not float32")


def _check_weight(weight: ir.Node) -> None:
    """A matrix of constant codes, with one scale or one per column."""
    codes, scale, *zero = weight.inputs
    if not all(match.is_constant(value) for value in weight.inputs) or match.rank(codes) != 2:
        raise NearMiss("its codes, scales or zero points are not constants, or no matrix")
    if codes is None or scale is None or codes.dtype not in _CODES or scale.dtype != ir.DataType.FLOAT:
        raise NearMiss("its weight is not codes of 8 bits with scales in float32")
    if match.attr_int(weight, "block_size", 0) or match.attr_int(weight, "output_dtype", 0):
        raise NearMiss("its scales are those of blocks, or give another type")
    one = match.rank(scale) == 0
    if not one and (match.rank(scale) != 1 or match.attr_int(weight, "axis", 1) not in (1, -1)):
        raise NearMiss("its scales are not one per column")
    if any(value is not None and value.shape != scale.shape for value in zero):
        raise NearMiss("its zero points are not one per scale")


def _body(names: list[str]) -> str:
    given = ", ".join(name for name in ("codes", "step", "middle") if name in names)
    codes = ", ".join(name for name in ("w", "scale", "zero") if name in names)
    result = "product" if "bias" in names else "y"
    lines = [
        f"x = DequantizeLinear({given})",
        f"weight = DequantizeLinear <axis = 1> ({codes})",
        f"{result} = MatMul(x, weight)",
    ]
    if "bias" in names:
        lines.append("y = Add(product, bias)")
    text = "\n".join(lines)
    return f"({', '.join(names)}) => (y) {{\n{text}\n}}"
