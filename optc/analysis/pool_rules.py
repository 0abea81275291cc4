"""Sizes of pools with `ceil_mode`, of which the closed form says one too many."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import onnx_ir as ir
from onnx_shape_inference import ShapeInferenceContext

from optc.analysis.broadcast_rules import Dim, Rule


def _ceil_pool(library: Rule) -> Rule:
    """`ceil_mode` drops a last window that starts in the padding, which the closed form leaves out."""

    def rule(ctx: ShapeInferenceContext, node: ir.Node) -> None:
        declared = [value.shape for value in node.outputs]
        library(ctx, node)
        if not node.attributes.get_int("ceil_mode", 0):
            return
        for output, before in zip(node.outputs, declared, strict=True):
            if output.shape is None or before is not None:
                continue
            dims: Iterable[Dim] = output.shape
            output.shape = ir.Shape(
                [d if i < 2 or isinstance(d, int) else ctx.new_symbolic_dim() for i, d in enumerate(dims)]
            )

    return rule


WRAPPERS: dict[str, Callable[[Rule], Rule]] = dict.fromkeys(("AveragePool", "MaxPool", "LpPool"), _ceil_pool)
