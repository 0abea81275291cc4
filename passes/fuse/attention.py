"""Scaled dot-product attention: softmax(scale * q @ k^T + mask) @ v.

Vaswani et al., "Attention Is All You Need", 2017. The softmax is the anchor: masks, scales and casts between
the two products may stand in any order, and the fused call takes one scale and one mask of the same effect.
"""

from __future__ import annotations

from typing import ClassVar

import onnx_ir as ir

from optc import rewrite
from optc.rewrite import Match, NearMiss, Pattern

from ._assemble import fused
from ._probabilities import use_of, why_unused
from ._scores import ways


class Attention(Pattern):
    """softmax(scale * q @ k^T + mask) @ v"""

    name: ClassVar[str] = "attention"
    family: ClassVar[str] = "attention"
    anchors: ClassVar[frozenset[str]] = frozenset({"Softmax"})

    def match(self, node: ir.Node, model: ir.Model) -> Match | None:
        """The attention whose softmax is ``node``."""
        use = use_of(node)
        if use is None:
            if (reason := why_unused(node)) is not None:
                raise NearMiss(reason)
            return None
        misses: list[NearMiss] = []
        for way in ways(node):
            try:
                return fused(way, node, use, rewrite.opset(model))
            except NearMiss as miss:
                misses.append(miss)
        if misses:
            raise misses[0]
        return None
