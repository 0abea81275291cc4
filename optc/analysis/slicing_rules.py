"""What `Slice`, `Split` and `Squeeze` leave is not known where their bounds, sizes or axes are not."""

from __future__ import annotations

import re
from collections.abc import Callable

import onnx_ir as ir
from onnx_shape_inference import ShapeInferenceContext

from optc.analysis.broadcast_rules import Dim, Rule, declared_dim
from optc.analysis.shape_values import Elements, is_extent

_FAR = 2**31 - 1  # what exporters write for "to the end"


def _slice(library: Rule) -> Rule:
    """``x[:, :10]`` has at most ten columns; the library takes a symbolic axis to have as many."""

    def rule(ctx: ShapeInferenceContext, node: ir.Node) -> None:
        declared = node.outputs[0].shape
        library(ctx, node)
        data, output = node.inputs[0], node.outputs[0]
        if data is None or data.shape is None or output.shape is None or len(node.inputs) < 3:
            return
        starts, ends = (None if v is None else ctx.get_symbolic_value(v) for v in node.inputs[1:3])
        if _runs_backwards(ctx, node) and (ends is None or any(not _is_near(end) for end in ends)):
            output.shape = ir.Shape([ctx.new_symbolic_dim() for _ in output.shape])
            return
        if starts is None or any(not isinstance(start, int) for start in starts):
            output.shape = _from_unknown(ctx, node, data.shape, declared)
            return
        if ends is not None and not any(isinstance(end, int) and 0 <= end < _FAR for end in ends):
            return
        dims = list(output.shape)
        for axis, (whole, part) in enumerate(zip(data.shape, output.shape, strict=True)):
            if isinstance(part, int) and not isinstance(whole, int):
                dims[axis] = declared_dim(declared, len(dims), axis) or ctx.new_symbolic_dim()
        output.shape = ir.Shape(dims)

    return rule


def _from_unknown(
    ctx: ShapeInferenceContext, node: ir.Node, whole: ir.Shape, declared: ir.Shape | None
) -> ir.Shape:
    """Where starts are no plain numbers: the axes that are not cut stay, of the others some may be known."""
    starts, ends, axes, steps = _bounds(ctx, node, len(whole))
    dims = list(whole)
    for axis in range(len(whole)) if axes is None else axes:
        known = declared_dim(declared, len(dims), axis)
        dims[axis] = known if known is not None else ctx.new_symbolic_dim()
    for start, end, axis, step in zip(starts or (), ends or (), axes or (), steps, strict=False):
        last = _last(ctx, whole[axis], start)
        if last is not None and step == 1 and isinstance(end, int) and end >= _FAR:
            dims[axis] = last
    return ir.Shape(dims)


def _bounds(
    ctx: ShapeInferenceContext, node: ir.Node, rank: int
) -> tuple[Elements | None, Elements | None, list[int] | None, Elements]:
    """Starts, ends, axes counted from the front, and steps; None for what is not known."""
    inputs = [*node.inputs[1:], None, None][:4]
    starts, ends, axes, steps = (None if v is None else ctx.get_symbolic_value(v) for v in inputs)
    if inputs[2] is None:
        axes = list(range(len(starts))) if starts is not None else None
    if axes is not None and not all(isinstance(axis, int) and -rank <= axis < rank for axis in axes):
        axes = None
    count = len(starts or ())
    return starts, ends, axes and [int(axis) % rank for axis in axes], steps or [1] * count


def _last(ctx: ShapeInferenceContext, whole: Dim, start: Dim) -> ir.SymbolicDim | None:
    """What ``table[max(0, W - n):]`` leaves of W rows: the last n, or all if there are fewer."""
    match = re.fullmatch(r"Max\(0, (.+)\)", "" if isinstance(start, int) else start.value or "")
    if match is None or not isinstance(whole, int):
        return None
    count = (whole - ir.SymbolicDim(match[1])).simplify()
    return ir.SymbolicDim(f"Min({whole}, {count.value})") if is_extent(ctx, count) else None


def _runs_backwards(ctx: ShapeInferenceContext, node: ir.Node) -> bool:
    """Whether a Slice may have a negative step."""
    steps = node.inputs[4] if len(node.inputs) > 4 else None
    known = None if steps is None else ctx.get_symbolic_value(steps)
    return steps is not None and (known is None or any(not isinstance(s, int) or s < 0 for s in known))


def _is_near(end: Dim) -> bool:
    """Whether the end is no way to say "all of it": ONNX Runtime goes down to the first element then."""
    return isinstance(end, int) and end < _FAR


def _split(library: Rule) -> Rule:
    def rule(ctx: ShapeInferenceContext, node: ir.Node) -> None:
        sizes = node.inputs[1] if len(node.inputs) > 1 else None
        data = node.inputs[0]
        if sizes is None or data is None or ir.convenience.get_const_tensor(sizes) is not None:
            library(ctx, node)
            return
        known = ctx.get_symbolic_value(sizes)
        axis = node.attributes.get_int("axis", 0)
        for index, output in enumerate(node.outputs):
            shape = None
            if data.shape is not None:
                dims = list(data.shape)
                dims[axis] = known[index] if known and index < len(known) else ctx.new_symbolic_dim()
                shape = ir.Shape(dims)
            ctx.set_shape_and_dtype(output, shape, data.dtype)

    return rule


def _squeeze(library: Rule) -> Rule:
    def rule(ctx: ShapeInferenceContext, node: ir.Node) -> None:
        data = node.inputs[0]
        axes = node.inputs[1] if len(node.inputs) > 1 else None
        at_run_time = axes is not None and ir.convenience.get_const_tensor(axes) is None
        all_ones = axes is None and "axes" not in node.attributes
        symbolic = data is not None and data.shape is not None and not data.shape.is_static()
        if data is not None and (at_run_time or (all_ones and symbolic)):
            ctx.set_shape_and_dtype(node.outputs[0], None, data.dtype)
            return
        library(ctx, node)

    return rule


WRAPPERS: dict[str, Callable[[Rule], Rule]] = {"Slice": _slice, "Split": _split, "Squeeze": _squeeze}
