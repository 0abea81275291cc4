"""SiLU, also called Swish: x * sigmoid(x)."""

from __future__ import annotations

from typing import ClassVar

import onnx_ir as ir

from optc import match
from optc.rewrite import Match, NearMiss, Pattern

from ._constants import close, is_float
from ._polynomial import gated

_BODY = "(x) => (y) {\n gate = Sigmoid(x)\n y = Mul(x, gate)\n}"


class SiLU(Pattern):
    """x times the logistic function of x."""

    name: ClassVar[str] = "silu"
    family: ClassVar[str] = "silu"
    anchors: ClassVar[frozenset[str]] = frozenset({"Sigmoid", "Tanh", "Swish"})
    after: ClassVar[tuple[str, ...]] = ("gelu",)

    def match(self, node: ir.Node, model: ir.Model) -> Match | None:
        """The gate around a Sigmoid, the same with tanh(x / 2), or a native Swish of alpha 1."""
        if node.op_type == "Swish":
            if match.attr_float(node, "alpha", 1.0) != 1.0:
                raise NearMiss("the alpha of Swish is not 1")
            return _fused(node.inputs[0], node.outputs[0], (node,))
        if not is_float(node.outputs[0].dtype):
            return None
        scale, offset, slope = (1.0, 0.0, 1.0) if node.op_type == "Sigmoid" else (0.5, 0.5, 0.5)
        for found in gated(node):
            actual = (found.inner.get(1, 0.0), found.offset, found.slope)
            same = zip(actual, (scale, offset, slope), strict=True)
            if len(found.inner) == 1 and all(close(a, b, found.x.dtype) for a, b in same):
                return _fused(found.x, found.output, found.nodes)
        return None


def _fused(x: ir.Value | None, y: ir.Value, nodes: tuple[ir.Node, ...]) -> Match:
    return Match("SiLU", [x], [y], _BODY, {}, nodes)
