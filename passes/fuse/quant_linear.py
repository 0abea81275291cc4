"""Products in int8 whose input is quantized when it arrives."""

from __future__ import annotations

from typing import ClassVar

import onnx_ir as ir

from optc import match
from optc.rewrite import Match, NearMiss, Pattern

from ._bias import bias_add


class DynamicQuantLinear(Pattern):
    """codes(x) times int8 weights, scaled back to float, plus a bias; the codes may serve other products."""

    name: ClassVar[str] = "dynamic_quant_linear"
    family: ClassVar[str] = "quant"
    anchors: ClassVar[frozenset[str]] = frozenset({"MatMulInteger"})

    def match(self, node: ir.Node, model: ir.Model) -> Match | None:
        """The quantization of the input, the product, the cast, the scale and the bias."""
        codes = match.producer(node.inputs[0], "DynamicQuantizeLinear")
        if codes is None:
            return None
        weight, weight_zero = node.inputs[1], node.inputs[3] if len(node.inputs) > 3 else None
        if not match.is_constant(weight) or match.rank(weight) != 2:
            return None
        if (
            len(node.inputs) < 3
            or node.inputs[0] is not codes.outputs[0]
            or node.inputs[2] is not codes.outputs[2]
        ):
            raise NearMiss("the zero point of the product is not the one of its input")
        cast = match.only_reader(node.outputs[0])
        if (
            cast is None
            or not match.is_op(cast, "Cast")
            or match.attr_int(cast, "to", 0) != ir.DataType.FLOAT
        ):
            raise NearMiss("the sums are not cast to float, and only that")
        scaled = match.only_reader(cast.outputs[0])
        if scaled is None or not match.is_op(scaled, "Mul"):
            raise NearMiss("the sums are not scaled")
        step = scaled.inputs[1] if scaled.inputs[0] is cast.outputs[0] else scaled.inputs[0]
        scale, step_nodes = _weight_scale(step, codes.outputs[1], weight)
        inputs = {"x": codes.inputs[0], "w": weight, "scale": scale}
        if weight_zero is not None:
            inputs["zero"] = _zero(weight_zero, weight)
        nodes, output = [node, cast, *step_nodes, scaled], scaled.outputs[0]
        if (found := bias_add(output)) is not None:
            inputs["bias"] = found[1]
            nodes.append(found[0])
            output = found[0].outputs[0]
        body = _body("zero" in inputs, "bias" in inputs)
        return Match("DynamicQuantLinear", [*inputs.values()], [output], body, {}, nodes)


def _weight_scale(
    step: ir.Value | None, x_scale: ir.Value, weight: ir.Value | None
) -> tuple[ir.Value, list[ir.Node]]:
    """The scale of the weight in ``scale(x) * scale(W)``, and the node that multiplies them."""
    product = match.producer(step, "Mul")
    if product is None:
        raise NearMiss("the scale is not a product of two scales")
    for one, other in match.operands(product):
        if one is x_scale and match.is_constant(other) and _per_column(other, weight):
            alone = match.has_one_reader(product.outputs[0])
            return other, [product] if alone else []
    raise NearMiss("the scale is not that of the input times one per column of the weight")


def _per_column(scale: ir.Value, weight: ir.Value | None) -> bool:
    if match.rank(scale) == 0:
        return True
    columns = match.static_dim(weight, 1)
    return match.rank(scale) == 1 and columns is not None and match.static_dim(scale, 0) in (1, columns)


def _zero(zero: ir.Value, weight: ir.Value | None) -> ir.Value:
    if not match.is_constant(zero) or not _per_column(zero, weight):
        raise NearMiss("the zero point of the weight is not one per column")
    return zero


def _body(zero: bool, bias: bool) -> str:
    names = ["x", "w", "scale", *(["zero"] if zero else []), *(["bias"] if bias else [])]
    result = "product" if bias else "y"
    lines = [
        "codes, x_scale, x_zero = DynamicQuantizeLinear(x)",
        f"sums = MatMulInteger(codes, w, x_zero{', zero' if zero else ''})",
        "sums_float = Cast <to = 1> (sums)",
        "step = Mul(x_scale, scale)",
        f"{result} = Mul(sums_float, step)",
    ]
    if bias:
        lines.append("y = Add(product, bias)")
    text = "\n".join(lines)
    return f"({', '.join(names)}) => (y) {{\n{text}\n}}"
