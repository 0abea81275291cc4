"""Shapes behind `If` and `Loop`: only what holds for each branch and after any number of iterations."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import onnx_ir as ir
from onnx_shape_inference import ShapeInferenceContext

from optc.analysis.broadcast_rules import Rule


def _if(library: Rule) -> Rule:
    def rule(ctx: ShapeInferenceContext, node: ir.Node) -> None:
        declared = [value.shape for value in node.outputs]
        library(ctx, node)
        branches = [node.attributes[name].as_graph().outputs for name in ("then_branch", "else_branch")]
        for output, before, ends in zip(node.outputs, declared, zip(*branches, strict=False), strict=False):
            if any(end.shape is None for end in ends):
                output.shape = before  # the library takes the branch that it knows

    return rule


def _loop(library: Rule) -> Rule:
    """Carried values keep a dim only where one iteration provably keeps it; trip counts are not known."""

    def rule(ctx: ShapeInferenceContext, node: ir.Node) -> None:
        declared = [value.shape for value in node.outputs]
        with _with_condition(node):
            library(ctx, node)
        body = node.attributes["body"].as_graph()
        carried = len(node.inputs) - 2
        stable = True
        for index, (output, before) in enumerate(zip(node.outputs, declared, strict=True)):
            if before is not None or output.shape is None:
                continue
            if index >= carried:
                output.shape = ir.Shape([ctx.new_symbolic_dim(), *list(output.shape)[1:]])
                continue
            start, end = body.inputs[index + 2].shape, body.outputs[index + 1].shape
            output.shape = _invariant(ctx, start, end)
            stable = stable and start is not None and start == end
        if not stable:
            _forget_body(body)

    return rule


@contextmanager
def _with_condition(node: ir.Node) -> Iterator[None]:
    """Fills in the condition of a Loop for a while: it may be left out, and the library insists on it."""
    left_out = node.inputs[1] is None
    if left_out:
        node.replace_input_with(1, ir.Value(type=ir.TensorType(ir.DataType.BOOL), shape=ir.Shape([])))
    try:
        yield
    finally:
        if left_out:
            node.replace_input_with(1, None)


def _invariant(ctx: ShapeInferenceContext, start: ir.Shape | None, end: ir.Shape | None) -> ir.Shape | None:
    if start is None or end is None or len(start) != len(end):
        return None
    return ir.Shape([a if a == b else ctx.new_symbolic_dim() for a, b in zip(start, end, strict=True)])


def _forget_body(body: ir.Graph) -> None:
    outputs = set(body.outputs)
    for node in body.all_nodes():
        for value in node.outputs:
            if value not in outputs:
                value.shape = None


WRAPPERS: dict[str, Callable[[Rule], Rule]] = {"If": _if, "Loop": _loop}
