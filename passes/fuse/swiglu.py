"""SwiGLU: silu(gate) * up, the gated unit of most recent decoders (Shazeer, arXiv:2002.05202)."""

from __future__ import annotations

from typing import ClassVar

import onnx_ir as ir

from optc import match
from optc.rewrite import Match, NearMiss, Pattern

from ._dims import same_shape

_BODY = "(gate, up) => (y) {\n s = Sigmoid(gate)\n a = Mul(gate, s)\n y = Mul(a, up)\n}"


class SwiGLU(Pattern):
    """A SiLU whose only reader multiplies it with something of the same shape."""

    name: ClassVar[str] = "swiglu"
    family: ClassVar[str] = "silu"
    anchors: ClassVar[frozenset[str]] = frozenset({"SiLU"})
    domain: ClassVar[str] = "optc"
    after: ClassVar[tuple[str, ...]] = ("silu",)

    def match(self, node: ir.Node, model: ir.Model) -> Match | None:
        """The Mul behind a fused SiLU; gate and up may be halves of one packed projection."""
        gate, silu = node.inputs[0], node.outputs[0]
        mul = match.only_reader(silu)
        if gate is None or mul is None or not match.is_op(mul, "Mul"):
            return None
        up = mul.inputs[1] if mul.inputs[0] is silu else mul.inputs[0]
        if up is None or match.is_constant(up) or _known_to_broadcast(up, silu):
            return None
        if not same_shape(up, silu):
            raise NearMiss(f"{silu.shape} and {up.shape} are not known to be equal")
        return Match("SwiGLU", [gate, up], [mul.outputs[0]], _BODY, {}, [node, mul])


def _known_to_broadcast(up: ir.Value, silu: ir.Value) -> bool:
    """Whether it is a scaling of channels, as in squeeze-and-excitation."""
    if up.shape is None or silu.shape is None:
        return False
    ones = any(a == 1 and b != 1 for a, b in zip(up.shape, silu.shape, strict=False))
    return ones or up.shape.rank() != silu.shape.rank()
