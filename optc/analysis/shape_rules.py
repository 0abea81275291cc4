"""Corrections to the library's shape rules, where they say more than is known.

The library assumes that what it cannot see does not matter: that two different symbols broadcast to the first
one, that `Split` sizes given at run time are equal parts, that `Squeeze` with run-time axes drops the ones. A
rewrite that trusts such a shape changes results, so here those dims become fresh symbols or unknown shapes.
What the library could know and does not (integers in shape tensors) is in `shape_values`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache

import onnx_ir as ir
from onnx_shape_inference import ShapeInferenceContext, registry

from optc.analysis import contrib_rules, quantized_rules, shape_values

Rule = Callable[[ShapeInferenceContext, ir.Node], None]
Dim = int | ir.SymbolicDim

_FAR = 2**31 - 1  # what exporters write for "to the end"
_BROADCAST = (
    *("Add", "Sub", "Mul", "Div", "Pow", "Mod", "Max", "Min", "Mean", "Sum", "Where"),
    *("And", "Or", "Xor", "BitShift", "BitwiseAnd", "BitwiseOr", "BitwiseXor"),
    *("Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual"),
)


@cache
def install() -> None:
    """Registers the corrections over the library's own rules, once per process."""
    registry.collect()
    contrib_rules.install()
    for op_type, wrapper in {
        "Expand": _expand,
        "MatMul": _matmul,
        "Slice": _slice,
        "Split": _split,
        "Squeeze": _squeeze,
        "If": _if,
        "Loop": _loop,
        "AveragePool": _ceil_pool,
        "MaxPool": _ceil_pool,
        "LpPool": _ceil_pool,
        **shape_values.WRAPPERS,
    }.items():
        _wrap(op_type, wrapper)
    for op_type in _BROADCAST:  # around the rules for values: those of Div, Equal and Where set a shape too
        _wrap(op_type, _broadcast)
    for op_type, wrapper in quantized_rules.WRAPPERS.items():
        _wrap(op_type, wrapper, quantized_rules.CONTRIB)
    for domain, op_type, _ in list(registry.iter_supported()):
        _wrap(op_type, _tidy, domain)


def _wrap(op_type: str, wrapper: Callable[[Rule], Rule], domain: str = "") -> None:
    versions = dict.fromkeys(registry.version_boundaries(domain, op_type))
    rules = {since: registry.get(domain, op_type, since) for since in versions}
    for since, rule in rules.items():
        assert rule is not None
        registry.register(domain, op_type, since_version=since)(wrapper(rule))


def _tidy(library: Rule) -> Rule:
    """Arithmetic on symbols can end in a plain number, which the library leaves as a symbol named ``2``."""

    def rule(ctx: ShapeInferenceContext, node: ir.Node) -> None:
        library(ctx, node)
        for output in node.outputs:
            if output.shape is not None and any(_is_number(dim) for dim in output.shape):
                output.shape = ir.Shape([_number(dim) for dim in output.shape])
            known = ctx.get_symbolic_value(output)
            if known is not None and any(_is_number(element) for element in known):
                ctx.set_symbolic_value(output, [_number(element) for element in known])

    return rule


def _is_number(dim: Dim) -> bool:
    return isinstance(dim, ir.SymbolicDim) and re.fullmatch(r"-?\d+", dim.value or "") is not None


def _number(dim: Dim) -> Dim:
    return int(dim.value or "") if isinstance(dim, ir.SymbolicDim) and _is_number(dim) else dim


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
            known = _declared(declared, rank, axis)
            if known is None or _is_fresh(known):
                known = _merged(symbols) or known or ctx.new_symbolic_dim()
            dims[axis] = known
    if dims != list(shape):
        output.shape = ir.Shape(dims)


def _merged(symbols: Sequence[ir.SymbolicDim]) -> ir.SymbolicDim | None:
    """What the symbols broadcast to, or None where that depends on their values."""
    merged = symbols[0]
    for other in symbols[1:]:
        if _same(merged, other) or _caps(merged, other):
            merged = other if _caps(merged, other) else merged
        elif not _caps(other, merged):
            return None
    return merged


def _caps(capped: ir.SymbolicDim, dim: ir.SymbolicDim) -> bool:
    """Whether ``capped`` is ``Min(n, dim)`` with n > 1 (a slice of a table): they broadcast to ``dim``."""
    match = re.fullmatch(r"Min\((\d+), (.+)\)", capped.value or "")
    return match is not None and int(match[1]) > 1 and match[2] == dim.value


def _declared(declared: ir.Shape | None, rank: int, axis: int) -> Dim | None:
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


def _slice(library: Rule) -> Rule:
    """``x[:, :10]`` has at most ten columns; the library takes a symbolic axis to have as many."""

    def rule(ctx: ShapeInferenceContext, node: ir.Node) -> None:
        declared = node.outputs[0].shape
        library(ctx, node)
        data, output = node.inputs[0], node.outputs[0]
        if data is None or data.shape is None or output.shape is None or len(node.inputs) < 3:
            return
        ends = ctx.get_symbolic_value(node.inputs[2]) if node.inputs[2] is not None else None
        if _runs_backwards(ctx, node) and (ends is None or any(not _is_near(end) for end in ends)):
            output.shape = ir.Shape([ctx.new_symbolic_dim() for _ in output.shape])
            return
        if ends is not None and not any(isinstance(end, int) and 0 <= end < _FAR for end in ends):
            return
        dims = list(output.shape)
        for axis, (whole, part) in enumerate(zip(data.shape, output.shape, strict=True)):
            if isinstance(part, int) and not isinstance(whole, int):
                dims[axis] = _declared(declared, len(dims), axis) or ctx.new_symbolic_dim()
        output.shape = ir.Shape(dims)

    return rule


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


def _if(library: Rule) -> Rule:
    def rule(ctx: ShapeInferenceContext, node: ir.Node) -> None:
        declared = [value.shape for value in node.outputs]
        library(ctx, node)
        branches = [node.attributes[name].as_graph().outputs for name in ("then_branch", "else_branch")]
        for output, before, ends in zip(node.outputs, declared, zip(*branches, strict=False), strict=False):
            if before is None and any(end.shape is None for end in ends):
                output.shape = None  # the library takes the branch that it knows

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
