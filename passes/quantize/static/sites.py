"""Where static int8 is possible: convolutions and products with constant float weights."""

from __future__ import annotations

from dataclasses import dataclass

import onnx_ir as ir

from optc import match
from optc.passbase import Skip

from . import foreign

OPS = ("Conv", "Gemm", "MatMul")
FEW_TERMS = 4  # of a sum: rounding the input takes longer than the products


@dataclass(frozen=True)
class Site:
    """One node whose product may be computed in int8.

    Attributes:
        node: a Conv, Gemm or MatMul of the main graph.
        data, weight, bias: its inputs; ``bias`` is None where it has none (a MatMul never has).
        channels: the axis of the weight that counts output channels.
    """

    node: ir.Node
    data: ir.Value
    weight: ir.Value
    bias: ir.Value | None
    channels: int

    @property
    def name(self) -> str:
        """What reports and the option ``exclude`` call it."""
        return self.node.name or str(self.node.outputs[0].name)

    @property
    def output(self) -> ir.Value:
        """What it computes."""
        return self.node.outputs[0]

    @property
    def output_axis(self) -> int:
        """The axis of the output that counts channels."""
        return 1 if self.node.op_type == "Conv" else -1

    @property
    def is_convolution(self) -> bool:
        """Whether the int8 kernel exists only with an int8 output."""
        return self.node.op_type == "Conv"

    def renewed(self) -> Site:
        """The site with the inputs that its node has now."""
        return _site(self.node)


def find(model: ir.Model) -> tuple[list[Site], list[Skip]]:
    """All sites in graph order, and other nodes with products, with the reason why they are none."""
    sites: list[Site] = []
    skips: list[Skip] = []
    for node in model.graph.all_nodes():
        if (told := foreign.why_not(node)) is not None:
            skips.append(Skip(node.name or node.op_type, told))
        if not match.is_op(node, *OPS, "ConvTranspose"):
            continue
        reason = _why_not(node, model)
        if reason is None:
            sites.append(_site(node))
        elif reason:
            skips.append(Skip(node.name or node.op_type, f"left in float: {reason}"))
    return sites, skips


def _why_not(node: ir.Node, model: ir.Model) -> str | None:
    """Why a node is no site; "" where it is of another kind altogether; None where it is one."""
    if node.op_type == "ConvTranspose":
        return "there is no int8 kernel for ConvTranspose"
    data, weight = node.inputs[0], node.inputs[1]
    bias = node.inputs[2] if len(node.inputs) > 2 else None
    if data is None or weight is None:
        return ""
    if match.is_constant(data):
        return "all that it reads is constant"
    if match.rank(data) == 1:
        return "its input is one vector"
    if is_quantized(weight):
        return "its weight is quantized already"
    if not match.is_constant(weight):
        return "" if node.op_type == "MatMul" else "its weight is not a constant"
    if node.graph is not model.graph:
        return "it is in a subgraph, where calibration does not see it"
    if data.dtype != ir.DataType.FLOAT or weight.dtype != ir.DataType.FLOAT:
        return f"its type is {data.dtype}, not float32"
    if bias is not None and not match.is_constant(bias):
        return "its bias is not a constant"
    if node.op_type == "Conv":
        return None
    return _why_no_product(node, data, weight, bias)


def _why_no_product(node: ir.Node, data: ir.Value, weight: ir.Value, bias: ir.Value | None) -> str | None:
    if match.rank(weight) != 2:
        return "its weight is not a matrix"
    terms = match.static_dim(weight, 1 if match.attr_int(node, "transB", 0) else 0)
    if terms is not None and terms <= FEW_TERMS:
        return f"it sums up {terms} terms only: nothing to gain"
    if match.rank(data) is None:
        return "the rank of its input is not known"
    if node.op_type == "MatMul":
        return None
    if match.attr_int(node, "transA", 0) or match.attr_float(node, "alpha", 1.0) != 1.0:
        return "it transposes or scales its input"
    if bias is None:
        return None
    if match.attr_float(node, "beta", 1.0) != 1.0 or match.rank(bias) != 1:
        return "its bias is scaled, or not one number per column"
    return None if bias.shape == _columns(node, weight) else "its bias is broadcast"


def _columns(node: ir.Node, weight: ir.Value) -> ir.Shape | None:
    size = match.static_dim(weight, 0 if match.attr_int(node, "transB", 0) else 1)
    return None if size is None else ir.Shape([size])


def _site(node: ir.Node) -> Site:
    data, weight = node.inputs[0], node.inputs[1]
    assert data is not None and weight is not None
    bias = node.inputs[2] if len(node.inputs) > 2 else None
    channels = 0 if node.op_type == "Conv" or match.attr_int(node, "transB", 0) else 1
    return Site(node, data, weight, bias, channels)


def is_quantized(value: ir.Value | None) -> bool:
    """Whether a value comes out of a DequantizeLinear: it was quantized before."""
    return match.producer(value, "DequantizeLinear") is not None
