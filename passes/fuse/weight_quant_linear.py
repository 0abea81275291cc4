"""Products of float inputs with weights in blocks of 8 or 4 bit codes."""

from __future__ import annotations

from typing import ClassVar

import onnx_ir as ir

from optc import match
from optc.rewrite import Match, NearMiss, Pattern

from ._bias import bias_add


class WeightQuantLinear(Pattern):
    """x times dequantized constant codes with a scale per block of rows, plus a bias."""

    name: ClassVar[str] = "weight_quant_linear"
    family: ClassVar[str] = "weight-quant"
    anchors: ClassVar[frozenset[str]] = frozenset({"MatMul", "Gemm"})

    def match(self, node: ir.Node, model: ir.Model) -> Match | None:
        """The DequantizeLinear of the weight, the product, and the bias behind it or inside it."""
        back = match.producer(node.inputs[1], "DequantizeLinear")
        if back is None or match.attr_int(back, "block_size", 0) == 0:
            return None
        if not all(match.is_constant(value) for value in back.inputs) or match.rank(back.inputs[0]) != 2:
            raise NearMiss("its codes, scales or zero points are not constants")
        x, scale = node.inputs[0], back.inputs[1]
        assert x is not None and scale is not None
        if x.dtype != scale.dtype or match.attr_int(back, "output_dtype", 0):
            raise NearMiss("its scales have another type than what it is multiplied with")
        turned = match.attr_int(node, "transB", 0)
        if match.attr_int(back, "axis", 1) % 2 != turned:
            raise NearMiss("the blocks do not lie along the axis that is summed over")
        if match.attr_int(node, "transA", 0) or match.attr_float(node, "alpha", 1.0) != 1.0:
            raise NearMiss("it transposes or scales its input")
        nodes, output = [back, node], node.outputs[0]
        names = ["x", "w", "scale", "zero"][: 1 + len(back.inputs)]
        inputs = dict(zip(names, [x, *back.inputs], strict=True))
        if (bias := _inner_bias(node)) is not None:
            inputs["bias"] = bias
        elif (found := bias_add(output)) is not None:
            inputs["bias"] = found[1]
            nodes.append(found[0])
            output = found[0].outputs[0]
        block = match.attr_int(back, "block_size", 0)
        body = _body([*inputs], block, turned)
        attributes = {"block_size": block, "transB": turned}
        # The codes serve all products of this weight: their node goes when nothing reads it any more.
        own = nodes if match.has_one_reader(back.outputs[0]) else nodes[1:]
        return Match("WeightQuantLinear", [*inputs.values()], [output], body, attributes, own)


def _inner_bias(node: ir.Node) -> ir.Value | None:
    """The bias of a Gemm, one number per column."""
    bias = node.inputs[2] if len(node.inputs) > 2 else None
    if bias is None:
        return None
    columns = match.static_dim(node.outputs[0], -1)
    if match.attr_float(node, "beta", 1.0) != 1.0 or match.rank(bias) != 1 or not match.is_constant(bias):
        raise NearMiss("its bias is scaled, or not one number per column")
    if columns is None or match.static_dim(bias, 0) != columns:
        raise NearMiss("its bias is broadcast")
    return bias


def _body(names: list[str], block: int, turned: int) -> str:
    codes = ", ".join(name for name in names if name in ("w", "scale", "zero"))
    result = "product" if "bias" in names else "y"
    lines = [f"weight = DequantizeLinear <axis = {turned}, block_size = {block}> ({codes})"]
    if turned:
        lines.append("weight_turned = Transpose <perm = [1, 0]> (weight)")
    lines.append(f"{result} = MatMul(x, {'weight_turned' if turned else 'weight'})")
    if "bias" in names:
        lines.append("y = Add(product, bias)")
    text = "\n".join(lines)
    return f"({', '.join(names)}) => (y) {{\n{text}\n}}"
