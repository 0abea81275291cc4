"""RMS normalisation (Zhang and Sennrich, arXiv:1910.07467) from its parts, or the native op."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import onnx_ir as ir

from optc import match
from optc.newnode import Operand
from optc.rewrite import Match, Pattern, opset

from . import _norm_bodies
from ._norm import affine, centring, find_core, squared, suffix_axis
from ._widened import widened
from .layer_norm import native_parts


class RMSNorm(Pattern):
    """x / sqrt(mean(x^2) + epsilon) over the last axes, scaled."""

    name: ClassVar[str] = "rms_norm"
    family: ClassVar[str] = "norm"
    anchors: ClassVar[frozenset[str]] = frozenset({"ReduceMean", "RMSNormalization"})
    after: ClassVar[tuple[str, ...]] = ("layer_norm",)

    def match(self, node: ir.Node, model: ir.Model) -> Match | None:
        """The parts around the mean of squares, or a native RMSNormalization."""
        if node.op_type == "RMSNormalization":
            axis, scales = native_parts(node)
            epsilon = match.attr_float(node, "epsilon", 1e-5)
            return _fused(model, [node.inputs[0], *scales], node.outputs[0], axis, epsilon, [node])
        if centring(squared(node.inputs[0])[1]) is not None:  # a layer norm: fused, or refused with a reason
            return None
        core = find_core(node)
        if core is None:
            return None
        axis = suffix_axis(core.axes)
        around = widened(core.d, core.output, core.nodes)
        scale = affine(core, around.output, axis, shift=False)
        nodes = [*around.nodes, *scale.nodes]
        return _fused(model, [around.x, scale.gamma], scale.output, axis, core.epsilon, nodes)


def _fused(
    model: ir.Model,
    inputs: Sequence[Operand | None],
    output: ir.Value,
    axis: int,
    epsilon: float,
    nodes: list[ir.Node],
) -> Match:
    x = inputs[0]
    assert x is not None
    lines = _norm_bodies.rms_norm("x", axis=axis, epsilon=epsilon, dtype=x.dtype, opset=opset(model))
    attributes = {"axis": axis, "epsilon": epsilon}
    return Match("RMSNorm", inputs, [output], f"(x, gamma) => (y) {{\n{lines}\n}}", attributes, nodes)
