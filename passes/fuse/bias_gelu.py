"""The bias Add of a projection together with the GELU that reads it."""

from __future__ import annotations

from typing import ClassVar

import onnx_ir as ir

from optc import match
from optc.rewrite import Match, NearMiss, Pattern, opset

from ._bias import is_bias
from .gelu import gelu_body


class BiasGelu(Pattern):
    """Gelu(x + bias) with one constant bias per channel of the last axis."""

    name: ClassVar[str] = "bias_gelu"
    family: ClassVar[str] = "gelu"
    anchors: ClassVar[frozenset[str]] = frozenset({"Gelu"})
    domain: ClassVar[str] = "optc"
    after: ClassVar[tuple[str, ...]] = ("gelu",)

    def match(self, node: ir.Node, model: ir.Model) -> Match | None:
        """The Add in front of a fused Gelu."""
        add = match.producer(node.inputs[0], "Add")
        if add is None:
            return None
        for x, bias in match.operands(add):
            if match.is_constant(x) or not match.is_constant(bias) or match.rank(bias) == 0:
                continue
            if not is_bias(bias, x):
                raise NearMiss(f"the bias of shape {bias.shape} is not one number per channel of {x.shape}")
            approximate = node.attributes["approximate"].as_string()
            lines = gelu_body(approximate, x.dtype, opset(model), x="total")
            body = f"(x, bias) => (y) {{\ntotal = Add(x, bias)\n{lines}\n}}"
            attributes = {"approximate": approximate}
            return Match("BiasGelu", [x, bias], [node.outputs[0]], body, attributes, [add, node])
        return None
