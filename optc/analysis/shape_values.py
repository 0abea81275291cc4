"""The integers in shape tensors, through operators where the library loses or mistakes them.

Exporters compute shapes with `Shape`, `ConstantOfShape`, `Equal`, `Where` and arithmetic. Dims are not
negative, so what compares a dim with -1 is decided.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

import onnx_ir as ir
from onnx_shape_inference import ShapeInferenceContext, broadcast_shapes

from optc.analysis import extents

Rule = Callable[[ShapeInferenceContext, ir.Node], None]
Elements = list[int | ir.SymbolicDim]

_MOST = 64  # elements of a shape tensor
_EXACT_UP_TO = {
    ir.DataType.INT32: 2**31 - 1,
    ir.DataType.INT64: 2**63 - 1,
    ir.DataType.FLOAT: 2**24,
    ir.DataType.DOUBLE: 2**53,
}


def _constant_of_shape(library: Rule) -> Rule:
    def rule(ctx: ShapeInferenceContext, node: ir.Node) -> None:
        library(ctx, node)
        output, source = node.outputs[0], node.inputs[0]
        sizes = ctx.get_symbolic_value(source) if source is not None else None
        if sizes is None and source is not None and source.shape is not None and source.shape.is_static():
            sizes = (
                [ctx.new_symbolic_dim() for _ in range(source.shape.numpy()[0])]
                if len(source.shape) == 1
                else None
            )
        if sizes is None:
            return
        ctx.set_shape(output, ir.Shape(sizes))
        fill = node.attributes.get("value")
        if fill is None or not fill.as_tensor().dtype.is_integer() or len(sizes) > 1:
            return
        count = sizes[0] if sizes else 1
        if isinstance(count, int) and 0 <= count <= _MOST:
            ctx.set_symbolic_value(output, [int(fill.as_tensor().numpy().reshape(-1)[0])] * count)

    return rule


def _equal(library: Rule) -> Rule:
    def rule(ctx: ShapeInferenceContext, node: ir.Node) -> None:
        library(ctx, node)
        pairs = _pairs(ctx, node.inputs[0], node.inputs[1])
        decided = [_are_equal(ctx, a, b) for a, b in pairs or ()]
        if decided and None not in decided:
            ctx.set_symbolic_value(node.outputs[0], [int(bool(answer)) for answer in decided])

    return rule


def _where(library: Rule) -> Rule:
    def rule(ctx: ShapeInferenceContext, node: ir.Node) -> None:
        condition = ctx.get_symbolic_value(node.inputs[0]) if node.inputs[0] is not None else None
        pairs = _pairs(ctx, node.inputs[1], node.inputs[2])
        library(ctx, node)
        if condition is None or pairs is None or len(condition) != len(pairs):
            return
        if all(isinstance(choice, int) for choice in condition):
            chosen = [yes if choice else no for choice, (yes, no) in zip(condition, pairs, strict=True)]
            ctx.set_symbolic_value(node.outputs[0], chosen)

    return rule


def _div(library: Rule) -> Rule:
    """The library divides what it knows as integers, also where the tensors are floats; and numbers only.

    Batch times heads divided by heads is the batch again.
    """

    def rule(ctx: ShapeInferenceContext, node: ir.Node) -> None:
        a, b = node.inputs
        if a is None or b is None or a.dtype is None or a.dtype.is_integer():
            library(ctx, node)
            pairs = _pairs(ctx, a, b)
            quotients = [_quotient(ctx, node, *pair) for pair in pairs or ()]
            if ctx.get_symbolic_value(node.outputs[0]) is None and quotients and None not in quotients:
                ctx.set_symbolic_value(node.outputs[0], quotients)
            return
        ctx.set_shape_and_dtype(node.outputs[0], broadcast_shapes(a.shape, b.shape), a.dtype)

    return rule


def _quotient(
    ctx: ShapeInferenceContext, node: ir.Node, a: int | ir.SymbolicDim, b: int | ir.SymbolicDim
) -> int | ir.SymbolicDim | None:
    """``a / b`` where it is known that ``a`` is not negative: `Div` cuts towards 0, dims are rounded down.

    That is so where nothing is left over, and where a tensor is as long as that.
    """
    if isinstance(b, ir.SymbolicDim):
        return _exact(ctx, node, a, b)
    if b <= 0:
        return None
    if isinstance(a, int):
        return a // b if a >= 0 else None
    quotient = a // b
    if not isinstance(quotient, ir.SymbolicDim):
        return None
    if is_extent(ctx, a) and is_extent(ctx, quotient):
        return quotient
    return extents.bounded(ctx, node, quotient)


def _exact(
    ctx: ShapeInferenceContext, node: ir.Node, a: int | ir.SymbolicDim, b: ir.SymbolicDim
) -> int | ir.SymbolicDim | None:
    """``a / b`` where ``b`` is a factor of ``a``: batch times tokens, divided by the batch."""
    if isinstance(a, int):
        return None
    quotient = a // b
    if not isinstance(quotient, ir.SymbolicDim) or (quotient * b - a).simplify().value != "0":
        return None
    if quotient.value is not None and quotient.value.isdigit():
        return int(quotient.value)
    return extents.bounded(ctx, node, quotient) or quotient


def _cast(library: Rule) -> Rule:
    """Narrowing changes numbers; the library keeps them."""

    def rule(ctx: ShapeInferenceContext, node: ir.Node) -> None:
        to = ir.DataType(node.attributes["to"].as_int())
        source = node.inputs[0]
        if source is not None and not _keeps(to, ctx.get_symbolic_value(source) or []):
            ctx.set_shape_and_dtype(node.outputs[0], source.shape, to)
            return
        library(ctx, node)

    return rule


def _keeps(to: ir.DataType, known: Elements) -> bool:
    """Whether the known numbers are the same in this type, which an extent is in any wide one."""
    most = _EXACT_UP_TO.get(to)
    return most is not None and all(-most <= each <= most for each in known if isinstance(each, int))


def _pairs(
    ctx: ShapeInferenceContext, a: ir.Value | None, b: ir.Value | None
) -> list[tuple[int | ir.SymbolicDim, int | ir.SymbolicDim]] | None:
    """The known elements of two tensors side by side, one element repeated where the other has several."""
    left, right = (ctx.get_symbolic_value(v) if v is not None else None for v in (a, b))
    if left is None or right is None:
        return None
    count = max(len(left), len(right))
    if len(left) not in (1, count) or len(right) not in (1, count):
        return None
    return (
        list(zip(left * (count // len(left)), right * (count // len(right)), strict=True)) if count else None
    )


def _are_equal(ctx: ShapeInferenceContext, a: int | ir.SymbolicDim, b: int | ir.SymbolicDim) -> bool | None:
    if isinstance(a, int) and isinstance(b, int):
        return a == b
    if isinstance(a, ir.SymbolicDim) and isinstance(b, ir.SymbolicDim):
        return True if a.value is not None and a.value == b.value else None
    number, symbol = (a, b) if isinstance(a, int) else (b, a)
    assert isinstance(number, int) and isinstance(symbol, ir.SymbolicDim)
    return False if number < 0 and is_extent(ctx, symbol) else None


def _extreme(library: Rule) -> Rule:
    """The library knows no order between a number and a dim: ``max(0, 64 - n)`` starts a slice of a table."""

    def rule(ctx: ShapeInferenceContext, node: ir.Node) -> None:
        library(ctx, node)
        output = node.outputs[0]
        if len(node.inputs) != 2 or output.dtype is None or not output.dtype.is_integer():
            return
        pairs = _pairs(ctx, *node.inputs)
        if pairs and not any(_may_be_zero(ctx, element) for pair in pairs for element in pair):
            ctx.set_symbolic_value(
                output, [ir.SymbolicDim(f"{node.op_type}({a}, {b})").simplify() for a, b in pairs]
            )

    return rule


def _is_invented(ctx: ShapeInferenceContext, element: int | ir.SymbolicDim) -> bool:
    """Whether it is not known, and so may be negative, which arithmetic on symbols takes no symbol to be."""
    if isinstance(element, int):
        return False
    return element.value is None or any(ctx.is_generated_symbol(name) for name in element.free_symbols())


def _may_be_zero(ctx: ShapeInferenceContext, element: int | ir.SymbolicDim) -> bool:
    """Whether it depends on data, in this inference or an earlier one.

    Arithmetic takes every symbol to be at least 1, as dims of inputs are.
    """
    if _is_invented(ctx, element):
        return True
    return isinstance(element, ir.SymbolicDim) and extents.INVENTED.search(element.value or "") is not None


def is_extent(ctx: ShapeInferenceContext, symbol: ir.SymbolicDim) -> bool:
    """Whether it is a dim, or a multiple of dims, and no number that the library could not compute."""
    if re.fullmatch(r"(\d+\*)?[^\W\d]\w*(\*[^\W\d]\w*)*", symbol.value or "") is None:
        return False
    return not _is_invented(ctx, symbol)


WRAPPERS: Mapping[str, Callable[[Rule], Rule]] = {
    "ConstantOfShape": _constant_of_shape,
    "Equal": _equal,
    "Where": _where,
    "Div": _div,
    "Max": _extreme,
    "Min": _extreme,
    "Cast": _cast,
}
