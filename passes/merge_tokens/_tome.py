"""Token merging by bipartite soft matching.

Bolya et al., "Token Merging: Your ViT But Faster", ICLR 2023 (https://arxiv.org/abs/2210.09461). Tokens at
even places look for the most similar token at an odd place, by the cosine of their attention keys, averaged
over heads; the ``r`` most similar pairs become one token each, their average weighted by how many tokens each
stands for. Protected tokens lead, take no part and keep their places.
"""

from __future__ import annotations

from dataclasses import dataclass

_FAR = 2**63 - 1
OUTPUTS = ("tokens", "size", "bias", "kept", "merged", "into")


@dataclass(frozen=True)
class TomeForm:
    """What the body depends on besides its attributes.

    ``heads_axis`` is the axis of heads in the keys (of rank 4). ``sized``: tokens stand for several already.
    ``ordered``: the kept tokens stay in their order, else the least similar to any comes last.
    ``padded``: sizes below 0.5 mark padding, which merges with padding before anything else does.
    ``lead``: there are protected tokens.
    """

    heads_axis: int
    sized: bool
    padded: bool
    ordered: bool
    lead: bool


def body(form: TomeForm) -> str:
    """``(x, k, size?) => (y, size, bias, kept, merged, into)`` as ONNX text.

    x [B, T, D], k [B, T, N, d] or [B, N, T, d], size [B, T, 1] -> y [B, T', D], sizes [B, T', 1], their
    logarithm [B, 1, 1, T'], and where tokens went: kept [B, K, 1] and merged [B, r, 1] are places in x, into
    [B, r, 1] counts odd places. Attributes, lists of one: r, even and odd (the first places of the two sets),
    sources and sinks (how many they are), lead (protected tokens), rest (sources - r).
    """
    names = ("r", "even", "odd", "sources", "sinks", "rest", "lead")
    lines = [f"{name} = Constant <value_ints: ints = @{name}> ()" for name in names]
    lines += [
        "zero = Constant <value_ints: ints = [0]> ()",
        "one = Constant <value_ints: ints = [1]> ()",
        "two = Constant <value_ints: ints = [2]> ()",
        f"far = Constant <value_ints: ints = [{_FAR}]> ()",
        f"heads = Constant <value_ints: ints = [{form.heads_axis}]> ()",
        "metric = ReduceMean <keepdims: int = 0> (k, heads)",
        "unit = LpNormalization <axis: int = -1, p: int = 2> (metric)",
        "a = Slice (unit, even, far, one, two)",
        "b = Slice (unit, odd, far, one, two)",
        "bt = Transpose <perm: ints = [0, 2, 1]> (b)",
        "cosine = MatMul (a, bt)",
        *(_padding() if form.padded else ()),
        f"best, choice = TopK <axis: int = -1> ({'likeness' if form.padded else 'cosine'}, one)",
        "score = Squeeze (best, two)",
        "sorted, order = TopK <axis: int = -1> (score, sources)",
        "from = Slice (order, zero, r, one)",
        "stay = Slice (order, r, far, one)",
    ]
    stay = "stay"
    if form.ordered:
        lines.append("in_order, in_order_at = TopK <axis: int = -1, largest: int = 0> (stay, rest)")
        stay = "in_order"
    lines += [
        "from_3 = Unsqueeze (from, two)",
        f"stay_3 = Unsqueeze ({stay}, two)",
        "into = GatherElements <axis: int = 1> (choice, from_3)",
        "from_twice = Mul (from_3, two)",
        "merged = Add (from_twice, even)",
        "stay_twice = Mul (stay_3, two)",
        "kept = Add (stay_twice, even)",
        "moving = GatherND <batch_dims: int = 1> (x, merged)",
        "staying = GatherND <batch_dims: int = 1> (x, kept)",
        "sink = Slice (x, odd, far, one, two)",
        "target = Squeeze (into, two)",
        "off_on = Constant <value_floats: floats = [0.0, 1.0]> ()",
        "hot = OneHot <axis: int = 1> (target, sinks, off_on)",
        *(_weighted() if form.sized or form.padded else _counted()),
        "sum = Add (weighed_sink, added)",
        "mean = Div (sum, sink_size)",
    ]
    if form.lead:
        lines += ["first = Slice (x, zero, lead, one)", "y = Concat <axis: int = 1> (first, staying, mean)"]
    else:
        lines += ["y = Concat <axis: int = 1> (staying, mean)"]
    lines += [*_sizes(form), *_bias(form)]
    inputs = "x, k, size" if form.sized or form.padded else "x, k"
    text = "".join(f"  {line}\n" for line in lines)
    return f"({inputs}) => (y, new_size, bias, kept, merged, into) {{\n{text}}}"


def _padding() -> list[str]:
    """Padding goes to padding first, content to content next; what is unlike only if nothing else is left.

    The bonus is 4 from padding to padding, 0 from content to content, -4 from padding to content, -8 from
    content to padding.
    """
    return [
        "half = Constant <value_float: float = 0.5> ()",
        "is_padding = Less (size, half)",
        "a_padding = Slice (is_padding, even, far, one, two)",
        "b_padding_up = Slice (is_padding, odd, far, one, two)",
        "b_padding = Transpose <perm: ints = [0, 2, 1]> (b_padding_up)",
        "same = Constant <value_float: float = 4.0> ()",
        "none = Constant <value_float: float = 0.0> ()",
        "dropped = Constant <value_float: float = -4.0> ()",
        "last = Constant <value_float: float = -8.0> ()",
        "to_padding = Where (a_padding, same, last)",
        "to_content = Where (a_padding, dropped, none)",
        "bonus = Where (b_padding, to_padding, to_content)",
        "likeness = Add (cosine, bonus)",
    ]


def _weighted() -> list[str]:
    return [
        "moving_size = GatherND <batch_dims: int = 1> (size, merged)",
        "staying_size = GatherND <batch_dims: int = 1> (size, kept)",
        "old_sink_size = Slice (size, odd, far, one, two)",
        "added_size = MatMul (hot, moving_size)",
        "sink_size = Add (old_sink_size, added_size)",
        "weighed_moving = Mul (moving, moving_size)",
        "weighed_sink = Mul (sink, old_sink_size)",
        "added = MatMul (hot, weighed_moving)",
    ]


def _counted() -> list[str]:
    return [
        "unit_size = Constant <value_float: float = 1.0> ()",
        "added_size = ReduceSum <keepdims: int = 1> (hot, two)",
        "sink_size = Add (added_size, unit_size)",
        "weighed_sink = Identity (sink)",
        "added = MatMul (hot, moving)",
    ]


def _sizes(form: TomeForm) -> list[str]:
    if form.sized or form.padded:
        if not form.lead:
            return ["new_size = Concat <axis: int = 1> (staying_size, sink_size)"]
        return [
            "first_size = Slice (size, zero, lead, one)",
            "new_size = Concat <axis: int = 1> (first_size, staying_size, sink_size)",
        ]
    return [
        "pads_axes = Constant <value_ints: ints = [1]> ()",
        "ahead = Add (lead, rest)",
        "pads = Concat <axis: int = 0> (ahead, zero)",
        "new_size = Pad (sink_size, pads, unit_size, pads_axes)",
    ]


def _bias(form: TomeForm) -> list[str]:
    lines = [
        "row = Constant <value_ints: ints = [0, 1, 1, -1]> ()",
        "flat = Reshape (new_size, row)",
        f"{'logarithm' if form.padded else 'bias'} = Log (flat)",
    ]
    if form.padded:
        lines += [
            "content = GreaterOrEqual (flat, half)",
            "low = Constant <value_float: float = -1e30> ()",
            "bias = Where (content, logarithm, low)",
        ]
    return lines
