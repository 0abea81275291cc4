"""Two different symbols on one axis broadcast to neither: either of them may be 1."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

import onnx_ir as ir
from onnx_shape_inference import ShapeInferenceContext

Rule = Callable[[ShapeInferenceContext, ir.Node], None]
Dim = int | ir.SymbolicDim

_ELEMENTWISE = (
    *("Add", "Sub", "Mul", "Div", "Pow", "Mod", "Max", "Min", "Mean", "Sum", "Where"),
    *("And", "Or", "Xor", "BitShift", "BitwiseAnd", "BitwiseOr", "BitwiseXor"),
    *("Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual"),
)


def _broadcast(library: Rule) -> Rule:
    def rule(ctx: ShapeInferenceContext, node: ir.Node) -> None:
        declared = node.outputs[0].shape
        library(ctx, node)
        shapes = [value.shape for value in node.inputs if value is not None]
        _loosen(ctx, node.outputs[0], declared, shapes, kept=0)

    return rule


def _expand(library: Rule) -> Rule:
    def rule(ctx: ShapeInferenceContext, node: ir.Node) -> None:
        declared = node.outputs[0].shape
        library(ctx, node)
        data, sizes = node.inputs
        if data is None or sizes is None:
            return
        if data.shape is None:  # its rank may be larger than that of the sizes
            node.outputs[0].shape = declared
            return
        target = ctx.get_symbolic_value(sizes)
        if target is not None:
            _loosen(ctx, node.outputs[0], declared, [data.shape, ir.Shape(target)], kept=0)
        elif sizes.shape is not None and sizes.shape.is_static() and len(sizes.shape) == 1:
            known = [1] * (sizes.shape.numpy()[0] - len(data.shape)) + list(data.shape)
            dims = [d if isinstance(d, int) and d != 1 else ctx.new_symbolic_dim() for d in known]
            ctx.set_shape(node.outputs[0], ir.Shape(dims))

    return rule


def _matmul(library: Rule) -> Rule:
    def rule(ctx: ShapeInferenceContext, node: ir.Node) -> None:
        declared = node.outputs[0].shape
        library(ctx, node)
        shapes = [value.shape for value in node.inputs if value is not None]
        if all(shape is not None and len(shape) > 2 for shape in shapes):
            _loosen(ctx, node.outputs[0], declared, shapes, kept=2)

    return rule


def _loosen(
    ctx: ShapeInferenceContext,
    output: ir.Value,
    declared: ir.Shape | None,
    shapes: Sequence[ir.Shape | None],
    kept: int,
) -> None:
    """Gives a fresh symbol to every axis on which different symbols meet: either of them may be 1."""
    shape = output.shape
    if shape is None:
        return
    rank = len(shape)
    dims = list(shape)
    for axis in range(rank - kept):
        met = [s[axis - rank] for s in shapes if s is not None and len(s) >= rank - axis]
        if any(isinstance(d, int) and d != 1 for d in met):
            continue
        symbols = [d for d in met if isinstance(d, ir.SymbolicDim)]
        if symbols:
            known = declared_dim(declared, rank, axis)
            if known is None or _is_fresh(known):
                known = _merged(symbols) or known or ctx.new_symbolic_dim()
            dims[axis] = known
    if dims != list(shape):
        output.shape = ir.Shape(dims)


def _merged(symbols: Sequence[ir.SymbolicDim]) -> ir.SymbolicDim | None:
    """What the symbols broadcast to, or None where that depends on their values."""
    merged = symbols[0]
    for other in symbols[1:]:
        if _same(merged, other) or caps(merged, other):
            merged = other if caps(merged, other) else merged
        elif not caps(other, merged):
            return None
    return merged


def caps(capped: Dim, dim: Dim) -> bool:
    """Whether ``capped`` is ``Min(n, dim)`` with n > 1 (a slice of a table): they broadcast to ``dim``."""
    if isinstance(capped, int) or isinstance(dim, int):
        return False
    match = re.fullmatch(r"Min\((\d+), (.+)\)", capped.value or "")
    return match is not None and int(match[1]) > 1 and match[2] == dim.value


def declared_dim(declared: ir.Shape | None, rank: int, axis: int) -> Dim | None:
    """What was known of the dim before, such as the fresh symbol of an earlier inference."""
    if declared is None or len(declared) != rank or declared.is_unknown_dim(axis):
        return None
    return declared[axis]


def _is_fresh(dim: Dim) -> bool:
    """Whether it is a symbol that an earlier inference made up, and not what the model says."""
    return isinstance(dim, ir.SymbolicDim) and re.fullmatch(r"_d\d+", dim.value or "") is not None


def _same(a: ir.SymbolicDim, b: ir.SymbolicDim) -> bool:
    if a.value is None or b.value is None:
        return False
    return a.value == b.value or (a - b).simplify().value == "0"


WRAPPERS: dict[str, Callable[[Rule], Rule]] = {"Expand": _expand, "MatMul": _matmul}
ELEMENTWISE: dict[str, Callable[[Rule], Rule]] = dict.fromkeys(_ELEMENTWISE, _broadcast)
