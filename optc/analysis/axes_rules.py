"""The rules of `axes`: where each operator puts the axis of the tokens."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import onnx_ir as ir

from optc import match, rewrite
from optc.analysis import shapes
from optc.analysis.axes_layout import Dim, Factor, Group, Layout, Mixes, Side, Step

Layouts = Mapping[ir.Value, Layout]


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


_ELEMENTWISE = _names(
    """
    Add Sub Mul Div Pow Mod Max Min Mean Sum Where And Or Xor Equal Greater GreaterOrEqual Less
    LessOrEqual PRelu BitShift BitwiseAnd BitwiseOr BitwiseXor
    """
)
_UNARY = _names(
    """
    Abs Cast CastLike Ceil Celu Clip Cos Dropout Elu Erf Exp Floor Gelu HardSigmoid HardSwish
    Identity IsInf IsNaN LeakyRelu Log Mish Neg Not Reciprocal Relu Round Selu Shrink Sigmoid Sign
    Sin Softplus Softsign Sqrt Swish Tanh ThresholdedRelu QuantizeLinear DequantizeLinear
    DynamicQuantizeLinear
    """
)
_ALONG_AN_AXIS = _names("Softmax LogSoftmax Hardmax LpNormalization CumSum")
_NORMS = _names("LayerNormalization RMSNormalization SimplifiedLayerNormalization")
_REDUCTIONS = _names(
    """
    ReduceSum ReduceMean ReduceMax ReduceMin ReduceProd ReduceL1 ReduceL2 ReduceLogSum
    ReduceLogSumExp ReduceSumSquare
    """
)
_REGROUPING = _names("Reshape Flatten Squeeze Unsqueeze")
_PRODUCTS = _names("MatMul MatMulInteger")
_ALL = 2**31 - 1  # the end of a slice that goes as far as there is something
ATTENTIONS = frozenset({"Attention", "CappedAttention"})


def step(node: ir.Node, layouts: Layouts) -> Step:
    """What ``node``, which reads tokens, does to them.

    Raises:
        Mixes: it computes across tokens, or has no rule.
    """
    if rewrite.kind(node) in ATTENTIONS:
        return _attention(node, layouts)
    rule = _RUNTIME.get(node.op_type) if node.domain == "com.microsoft" else None
    if node.domain in ("", "ai.onnx"):
        rule = _RULES.get(node.op_type)
    if rule is None:
        raise Mixes(f"{node.op_type} has no rule for the axis of tokens")
    done = rule(node, layouts)
    for layout in done.outputs:
        if layout is not None and sum(f.role == "token" for g in layout.groups for f in g) != 1:
            raise Mixes(f"{node.op_type} pairs tokens with tokens")
    return done


def regroup(layout: Layout, sizes: Sequence[Dim | None]) -> Layout:
    """The layout after a reshape to ``sizes``; raises Mixes where an axis of tokens or batch is cut."""
    rest = [factor for group in layout.groups for factor in group if factor.role or factor.size != 1]
    groups: list[Group] = []
    for size in sizes:
        if size is None:
            raise Mixes("a size of a reshape is not known")
        groups.append(_taken(rest, size))
    if any(factor.size != 1 for factor in rest):
        raise Mixes("a reshape cuts the axis of tokens")
    if rest:
        groups[-1] = (*groups[-1], *rest)
    return Layout(tuple(_without_ones(group) for group in groups))


def _taken(rest: list[Factor], size: Dim) -> Group:
    """Takes the factors of one axis off the front of ``rest``."""
    taken: list[Factor] = []
    total: Dim = 1
    while not _equal(total, size):
        if not rest:
            raise Mixes("a reshape cuts the axis of tokens")
        factor = rest.pop(0)
        left = size // total if isinstance(size, int) and isinstance(total, int) else None
        if left is not None and isinstance(factor.size, int) and left < factor.size:
            if factor.role or left * total != size or factor.size % left:
                raise Mixes("a reshape cuts the axis of tokens into parts (windows, or a grid)")
            rest.insert(0, Factor("", factor.size // left))
            factor = Factor("", left)
        taken.append(factor)
        total = factor.size if total == 1 else total * factor.size
    if not taken and size == 1 and rest and rest[0].role and rest[0].size == 1:
        taken.append(rest.pop(0))
    return tuple(taken)


def _without_ones(group: Group) -> Group:
    """A batch of one inside an axis is no part of it."""
    return tuple(f for f in group if len(group) == 1 or f.size != 1 or f.role == "token")


def _equal(one: Dim, other: Dim) -> bool:
    if isinstance(one, int) and isinstance(other, int):
        return one == other
    if isinstance(one, ir.SymbolicDim) and one.value is None:
        return False
    if isinstance(other, ir.SymbolicDim) and other.value is None:
        return False
    if one == other:
        return True
    difference = one - other if isinstance(one, ir.SymbolicDim) else other - one
    return isinstance(difference, ir.SymbolicDim) and difference.simplify().value == "0"


def _sizes(value: ir.Value) -> list[Dim | None]:
    if value.shape is None:
        raise Mixes(f"the shape of {value.name!r} is not known")
    return [match.dim(value, axis) for axis in range(len(value.shape))]


def _sized(groups: Sequence[Group], value: ir.Value) -> Layout:
    """The layout with these groups whose axes without roles have the sizes of ``value``."""
    sizes = _sizes(value)
    if len(sizes) != len(groups):
        raise Mixes(f"the rank of {value.name!r} is not what it should be")
    out: list[Group] = []
    for group, size in zip(groups, sizes, strict=True):
        out.append(group if any(f.role for f in group) else (Factor("", ir.SymbolicDim(None)),))
        if size is not None and not any(f.role for f in group):
            out[-1] = (Factor("", size),)
    return Layout(tuple(out))


def _given(node: ir.Node, index: int = 0) -> ir.Value:
    value = node.inputs[index] if index < len(node.inputs) else None
    if value is None:
        raise Mixes(f"{node.op_type} lacks an input")
    return value


def _only_first(node: ir.Node, layouts: Layouts) -> Layout:
    """The layout of the first input, where no other follows the tokens."""
    if any(value in layouts for value in node.inputs[1:] if value is not None):
        raise Mixes(f"{node.op_type} takes tokens as another operand than its first")
    return layouts[_given(node)]


def _elementwise(node: ir.Node, layouts: Layouts) -> Step:
    output = node.outputs[0]
    rank = len(_sizes(output))
    groups: list[Group] = [()] * rank
    for value in node.inputs:
        if value is None or value not in layouts:
            continue
        own = layouts[value].groups
        for axis, group in enumerate(own, rank - len(own)):
            if not any(f.role for f in group):
                continue
            if groups[axis] and groups[axis] != group:
                raise Mixes(f"{node.op_type} joins tokens with another axis")
            groups[axis] = group
    layout = _sized(groups, output)
    return Step((layout,), _aligned(node, layouts, layout, range(len(node.inputs))))


def _aligned(
    node: ir.Node, layouts: Layouts, layout: Layout, indices: Sequence[int], kept: int = 0
) -> tuple[Side, ...]:
    """The operands without tokens that have as many numbers as there are tokens, broadcast to ``layout``.

    ``kept`` axes at the end of an operand are not broadcast.
    """
    sides, rank = [], len(layout.groups)
    for index in indices:
        value = node.inputs[index]
        if value is None or value in layouts:
            continue
        sizes = _sizes(value)
        axis, batch = layout.tokens - rank + len(sizes), layout.axis("batch")
        batch = None if batch is None else batch - rank + len(sizes)
        if axis < 0 or axis >= len(sizes) - kept or sizes[axis] == 1:
            if batch is not None and 0 <= batch < len(sizes) and sizes[batch] is None:
                raise Mixes(f"the shape of {value.name!r} is not known")
            continue
        whole = layout.is_whole(layout.tokens)
        size = sizes[axis]
        if not whole or size is None or not _equal(size, layout.groups[layout.tokens][0].size):
            raise Mixes(f"{node.op_type} joins tokens with {value.name!r} of the shape {value.shape}")
        has_batch = batch is not None and 0 <= batch < len(sizes) and sizes[batch] != 1
        sides.append(Side(index, axis, batch if has_batch else None))
    return tuple(sides)


def _unary(node: ir.Node, layouts: Layouts) -> Step:
    layout = _only_first(node, layouts)
    for value in node.inputs[1:]:
        if value is None or match.rank(value) == 0 or match.static_dim(value, 0) == 1:
            continue
        axis = match.attr_int(node, "axis", 1) % len(layout.groups)
        if match.rank(value) != 1 or layout.has_role(axis):
            raise Mixes(f"{node.op_type} has a number for every token")
    return Step((layout, *(None for _ in node.outputs[1:])))


def _along_an_axis(node: ir.Node, layouts: Layouts) -> Step:
    layout = _only_first(node, layouts)
    if node.op_type == "CumSum":
        given = shapes.constant_ints(_given(node, 1))
        if given is None or not isinstance(given[0], int):
            raise Mixes("CumSum goes along an axis that is not known")
        axis = given[0]
    else:
        axis = match.attr_int(node, "axis", -1)
    if layout.has_role(axis % len(layout.groups)):
        raise Mixes(f"{node.op_type} goes over the tokens")
    return Step((layout,))


def _norm(node: ir.Node, layouts: Layouts) -> Step:
    layout = _only_first(node, layouts)
    axis = match.attr_int(node, "axis", -1) % len(layout.groups)
    if any(layout.has_role(i) for i in range(axis, len(layout.groups))):
        raise Mixes(f"{node.op_type} goes over the tokens")
    return Step((layout, *(None for _ in node.outputs[1:])))


def _reduction(node: ir.Node, layouts: Layouts) -> Step:
    layout = _only_first(node, layouts)
    rank = len(layout.groups)
    axes = _axes(node, 1)
    if not axes or any(layout.has_role(axis % rank) for axis in axes):
        raise Mixes(f"{node.op_type} goes over the tokens")
    gone = {axis % rank for axis in axes}
    kept = match.attr_int(node, "keepdims", 1)
    groups = [() if i in gone else group for i, group in enumerate(layout.groups) if kept or i not in gone]
    return Step((_sized(groups, node.outputs[0]),))


def _axes(node: ir.Node, index: int) -> list[int] | None:
    """The axes given as an attribute or as an input; None when they are not known, or none are given."""
    given: Sequence[int | str] | None = match.attr_ints(node, "axes")
    if given is None and len(node.inputs) > index and node.inputs[index] is not None:
        given = shapes.constant_ints(node.inputs[index])
    if given is None or not all(isinstance(axis, int) for axis in given):
        return None
    return [axis for axis in given if isinstance(axis, int)]


def _transpose(node: ir.Node, layouts: Layouts) -> Step:
    layout = _only_first(node, layouts)
    perm = match.attr_ints(node, "perm") or tuple(reversed(range(len(layout.groups))))
    return Step((Layout(tuple(layout.groups[axis] for axis in perm)),))


def _regrouping(node: ir.Node, layouts: Layouts) -> Step:
    return Step((regroup(_only_first(node, layouts), _sizes(node.outputs[0])),))


def _expand(node: ir.Node, layouts: Layouts) -> Step:
    layout = _only_first(node, layouts)
    extra = len(_sizes(node.outputs[0])) - len(layout.groups)
    groups = [*[()] * extra, *(g if any(f.role for f in g) else () for g in layout.groups)]
    return Step((_sized(groups, node.outputs[0]),))


def _product(node: ir.Node, layouts: Layouts) -> Step:
    a, b = _given(node, 0), _given(node, 1)
    if a in layouts and b in layouts:
        raise Mixes(f"{node.op_type} multiplies tokens with tokens, not as an attention that is understood")
    if any(value in layouts for value in node.inputs[2:] if value is not None):
        raise Mixes(f"{node.op_type} takes tokens as a zero point")
    rank, groups = len(_sizes(node.outputs[0])), list[Group]()
    labelled, other, summed = (layouts[a], b, -1) if a in layouts else (layouts[b], a, -2)
    own = list(labelled.groups)
    if len(own) < 2 or len(_sizes(other)) < 2:
        raise Mixes(f"{node.op_type} with a vector has no rule for the axis of tokens")
    if labelled.has_role(len(own) + summed):
        raise Mixes(f"{node.op_type} sums over the tokens")
    groups = [*[()] * (rank - len(own)), *own]
    groups[summed] = ()
    groups = [group if any(f.role for f in group) else () for group in groups]
    layout = _sized(groups, node.outputs[0])
    return Step((layout,), _aligned(node, layouts, layout, [1 if a in layouts else 0], kept=2))


def _gemm(node: ir.Node, layouts: Layouts) -> Step:
    layout = _only_first(node, layouts)
    if match.attr_int(node, "transA", 0) or layout.has_role(1):
        raise Mixes("Gemm sums over the tokens")
    addend = node.inputs[2] if len(node.inputs) > 2 else None
    if addend is not None and match.rank(addend) == 2 and match.dim(addend, 0) != 1:
        raise Mixes("Gemm adds a number for every token")
    return Step((_sized([layout.groups[0], ()], node.outputs[0]),))


def _packed_product(node: ir.Node, layouts: Layouts) -> Step:
    """A product with a packed or quantized matrix, which takes the last axis of its first input."""
    layout = _only_first(node, layouts)
    if layout.has_role(len(layout.groups) - 1):
        raise Mixes(f"{node.op_type} sums over the tokens")
    return Step((_sized([*layout.groups[:-1], ()], node.outputs[0]),))


def _concat(node: ir.Node, layouts: Layouts) -> Step:
    first = next(layouts[value] for value in node.inputs if value is not None and value in layouts)
    rank = len(first.groups)
    axis = match.attr_int(node, "axis", 0) % rank
    if axis == first.tokens:
        return _put_back(node, layouts)
    if first.has_role(axis):
        raise Mixes("Concat appends to the samples")
    roles = [group if any(f.role for f in group) else () for group in first.groups]
    for value in node.inputs:
        if value in layouts and value is not None:
            own = [group if any(f.role for f in group) else () for group in layouts[value].groups]
            if own != roles:
                raise Mixes("Concat joins tokens on different axes")
    layout = _sized(roles, node.outputs[0])
    sides = _aligned(node, layouts, layout, range(len(node.inputs)))
    return Step((layout,), sides)


def _put_back(node: ir.Node, layouts: Layouts) -> Step:
    """The first tokens in front of the others, which were apart from them."""
    *ahead, last = (_given(node, index) for index in range(len(node.inputs)))
    if last not in layouts or any(value in layouts for value in ahead):
        raise Mixes("Concat appends to the tokens")
    layout = layouts[last]
    axis, skip = layout.tokens, layout.skip
    counts = [match.static_dim(value, axis) for value in ahead]
    if not layout.is_whole(axis) or None in counts or sum(filter(None, counts)) != skip:
        raise Mixes("Concat appends to the tokens")
    return Step((_cut(layout, -skip),), first=skip)


def _cut(layout: Layout, count: int) -> Layout:
    """The layout of the tokens behind the first ``count`` of those that are in it."""
    axis = layout.tokens
    [factor] = layout.groups[axis]
    cut = Factor("token", factor.size - count, factor.skip + count)
    return Layout(tuple((cut,) if i == axis else group for i, group in enumerate(layout.groups)))


def _split(node: ir.Node, layouts: Layouts) -> Step:
    layout = _only_first(node, layouts)
    axis = match.attr_int(node, "axis", 0) % len(layout.groups)
    if axis == layout.tokens and layout.is_whole(axis) and len(node.outputs) == 2:
        count = match.static_dim(node.outputs[0], axis)
        if count is not None:
            return Step((None, _cut(layout, count)), first=layout.skip + count)
    if layout.has_role(axis):
        raise Mixes("Split cuts the axis of tokens")
    groups = [group if i != axis else () for i, group in enumerate(layout.groups)]
    return Step(tuple(_sized(groups, value) for value in node.outputs))


def _gather(node: ir.Node, layouts: Layouts) -> Step:
    layout = _only_first(node, layouts)
    axis = match.attr_int(node, "axis", 0) % len(layout.groups)
    index = _given(node, 1)
    if axis == layout.tokens:
        picked = match.constant(index)
        if picked is None or not layout.is_whole(axis) or not picked.size or picked.min() < 0:
            raise Mixes("Gather picks tokens")
        return Step((None,), first=layout.skip + int(picked.max()) + 1)
    if layout.has_role(axis):
        raise Mixes("Gather picks samples")
    groups = list(layout.groups)
    groups[axis : axis + 1] = [()] * (match.rank(index) or 0)
    return Step((_sized(groups, node.outputs[0]),))


def _slice(node: ir.Node, layouts: Layouts) -> Step:
    layout = _only_first(node, layouts)
    rank = len(layout.groups)
    axes = _axes(node, 3) if len(node.inputs) > 3 else list(range(rank))
    starts, ends = (shapes.constant_ints(_given(node, i)) for i in (1, 2))
    steps = shapes.constant_ints(node.inputs[4]) if len(node.inputs) > 4 else None
    if axes is None:
        raise Mixes("Slice cuts an axis that is not known")
    if all(not layout.has_role(axis % rank) for axis in axes):
        gone = {axis % rank for axis in axes}
        groups = [group if i not in gone else () for i, group in enumerate(layout.groups)]
        return Step((_sized(groups, node.outputs[0]),))
    if [axis % rank for axis in axes] == [layout.tokens] and layout.is_whole(layout.tokens):
        begin, end = (known[0] if known is not None else None for known in (starts, ends))
        [tokens] = layout.groups[layout.tokens]
        if steps in (None, (1,)) and isinstance(begin, int) and isinstance(end, int) and begin >= 0:
            if end >= (tokens.size if isinstance(tokens.size, int) else _ALL):
                return Step((_cut(layout, begin),), first=layout.skip + begin)
            if begin == 0 and end > 0:
                return Step((None,), first=layout.skip + end)
    raise Mixes("Slice picks tokens")


def _attention(node: ir.Node, layouts: Layouts) -> Step:
    """Queries, keys and values [batch, heads, tokens, size]; which of them are tokens is up to the caller."""
    q, k, v = (_given(node, index) for index in range(3))
    if len(node.inputs) > 3 and node.inputs[3] in layouts:
        raise Mixes("the mask of an attention is computed from tokens")
    if (k in layouts) != (v in layouts):
        raise Mixes("keys and values of an attention do not both follow the tokens")
    for value in (q, k, v):
        if value in layouts and layouts[value].skip:
            raise Mixes("an attention runs over some of the tokens")
        if value in layouts and not is_by_head(layouts[value]):
            raise Mixes("the axis that an attention runs over is not that of the tokens (windows, channels)")
    if node.attributes["causal"].as_int() and k in layouts:
        raise Mixes("the attention is causal")
    if q not in layouts:
        return Step((None,))
    return Step((_sized([*layouts[q].groups[:-1], ()], node.outputs[0]),))


def is_by_head(layout: Layout) -> bool:
    """Whether a 4-D value is [batch, heads, tokens, size]."""
    groups = layout.groups
    if len(groups) != 4 or layout.tokens != 2 or not layout.is_whole(2):
        return False
    return layout.axis("batch") in (0, None) and not layout.has_role(1) and len(groups[0]) <= 1


_RULES: dict[str, Callable[[ir.Node, Layouts], Step]] = {
    **dict.fromkeys(_ELEMENTWISE, _elementwise),
    **dict.fromkeys(_UNARY, _unary),
    **dict.fromkeys(_ALONG_AN_AXIS, _along_an_axis),
    **dict.fromkeys(_NORMS, _norm),
    **dict.fromkeys(_REDUCTIONS, _reduction),
    **dict.fromkeys(_REGROUPING, _regrouping),
    **dict.fromkeys(_PRODUCTS, _product),
    "Transpose": _transpose,
    "Expand": _expand,
    "Gemm": _gemm,
    "Concat": _concat,
    "Split": _split,
    "Gather": _gather,
    "Slice": _slice,
}

_RUNTIME: dict[str, Callable[[ir.Node, Layouts], Step]] = dict.fromkeys(
    ("MatMulNBits", "MatMulIntegerToFloat", "DynamicQuantizeMatMul"), _packed_product
)
