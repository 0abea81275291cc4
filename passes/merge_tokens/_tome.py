"""Token merging by bipartite soft matching.

Bolya et al., "Token Merging: Your ViT But Faster", ICLR 2023 (https://arxiv.org/abs/2210.09461). Tokens at
even places look for the most similar token at an odd place, by the cosine of their attention keys, averaged
over heads; the ``r`` most similar pairs become one token each, their average weighted by how many tokens each
stands for. Protected tokens lead, take no part and keep their places.
"""

from __future__ import annotations

from dataclasses import dataclass

from ._text import FAR, constants, function, given, scalars, spread

OUTPUTS = ("y", "new_size", "bias", "index", "place")
STATIC = ("r", "even", "odd", "lead", "sources", "sinks", "rest")
DYNAMIC = ("r", "even", "odd", "lead")


@dataclass(frozen=True)
class TomeForm:
    """What the body depends on besides its attributes.

    ``heads_axis`` is the axis of heads in the keys (of rank 4). ``sized``: tokens stand for several already,
    or for padding. ``padded``: sizes below 0.5 mark padding, which merges with padding before anything else
    does. ``ordered``: the kept tokens stay in their order, else the least similar to any comes last.
    ``lead``: there are protected tokens. ``counted``: the number of tokens is known when compiling.
    ``share``: the share of unprotected tokens that stays, where it is a share.
    """

    heads_axis: int
    sized: bool
    padded: bool
    ordered: bool
    lead: bool
    counted: bool
    share: float | None = None


def body(form: TomeForm) -> str:
    """``(x, k, size?) => (y, new_size, bias, index, place)`` as ONNX text.

    x [B, T, D], k [B, T, N, d] or [B, N, T, d], size [B, T, 1] -> y [B, T', D], sizes [B, T', 1], their
    logarithm [B, 1, 1, T'], the token that each stands for, index [B, T', 1], and where each went, place
    [B, T, 1]. Attributes, lists of one: r, even and odd (the first places of the two sets), lead (protected
    tokens), and where the number of tokens is known, sources and sinks (how large the sets are) and rest
    (sources - r).
    """
    r = "r" if form.counted else "r_now"
    lines = [
        *given(*(STATIC if form.counted else DYNAMIC)),
        *constants(zero=[0], one=[1], two=[2], far=[FAR], heads=[form.heads_axis]),
        *(() if form.counted else _counts(form)),
        "metric = ReduceMean <keepdims: int = 0> (k, heads)",
        "unit = LpNormalization <axis: int = -1, p: int = 2> (metric)",
        "a = Slice (unit, even, far, one, two)",
        "b = Slice (unit, odd, far, one, two)",
        "bt = Transpose <perm: ints = [0, 2, 1]> (b)",
        "cosine = MatMul (a, bt)",
        *(_padding() if form.padded else ()),
        f"best, choice = TopK <axis: int = -1> ({'likeness' if form.padded else 'cosine'}, one)",
        "score = Squeeze (best, two)",
        "ranked, order = TopK <axis: int = -1> (score, sources)",
        f"from = Slice (order, zero, {r}, one)",
        f"others = Slice (order, {r}, far, one)",
        *(_in_order() if form.ordered else ("stay = Identity (others)",)),
        "from_3 = Unsqueeze (from, two)",
        "stay_3 = Unsqueeze (stay, two)",
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
        *(_weighted() if form.sized else _counted()),
        "sum = Add (weighed_sink, added)",
        "mean = Div (sum, sink_size)",
        *_joined(form),
        *_bias(form),
        *_places(form),
    ]
    inputs = ("x", "k", "size") if form.sized else ("x", "k")
    return function(inputs, OUTPUTS, lines)


def _counts(form: TomeForm) -> list[str]:
    """The sizes of both sets, and how many tokens go, from the number of tokens at run time."""
    lines = [
        "tokens = Shape <start: int = 1, end: int = 2> (x)",
        "free = Sub (tokens, lead)",
        "half_free = Div (free, two)",
    ]
    wanted = "r"
    if form.share is not None:
        lines += [
            f"gone_share = Constant <value_float: float = {1 - form.share!r}> ()",
            "free_float = Cast <to: int = 1> (free)",
            "gone_float = Mul (free_float, gone_share)",
            "gone = Cast <to: int = 7> (gone_float)",
        ]
        wanted = "gone"
    return [
        *lines,
        f"r_now = Min ({wanted}, half_free)",
        "past_end = Add (tokens, one)",
        "even_span = Sub (past_end, even)",
        "odd_span = Sub (past_end, odd)",
        "sources = Div (even_span, two)",
        "sinks = Div (odd_span, two)",
        "rest = Sub (sources, r_now)",
    ]


def _in_order() -> list[str]:
    return ["stay, stay_at = TopK <axis: int = -1, largest: int = 0> (others, rest)"]


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


def _joined(form: TomeForm) -> list[str]:
    """Protected tokens, kept ones and those that were merged into, in this order, and their sizes."""
    first = "first, " if form.lead else ""
    lines = ["first = Slice (x, zero, lead, one)"] if form.lead else []
    lines.append(f"y = Concat <axis: int = 1> ({first}staying, mean)")
    if not form.sized:
        return [
            *lines,
            "ahead = Add (lead, rest)",
            "pads = Concat <axis: int = 0> (ahead, zero)",
            "new_size = Pad (sink_size, pads, unit_size, one)",
        ]
    if form.lead:
        lines.append("first_size = Slice (size, zero, lead, one)")
    first = "first_size, " if form.lead else ""
    return [*lines, f"new_size = Concat <axis: int = 1> ({first}staying_size, sink_size)"]


def _bias(form: TomeForm) -> list[str]:
    lines = [
        *constants(row=[0, 1, 1, -1]),
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


def _places(form: TomeForm) -> list[str]:
    """Which token each stands for, and where each went: the inverse of an order of all of them."""
    return [
        *scalars(),
        *(spread("first_index", "lead", "zero", 1) if form.lead else ()),
        *spread("sink_index", "sinks", "odd", 2),
        f"index = Concat <axis: int = 1> ({'first_index, ' if form.lead else ''}kept, sink_index)",
        "every = Concat <axis: int = 1> (index, merged)",
        "before_sinks = Add (lead, rest)",
        "count = Add (before_sinks, sinks)",
        *spread("still", "count", "zero", 1),
        "joined = Add (into, before_sinks)",
        "now = Concat <axis: int = 1> (still, joined)",
        "place = ScatterElements <axis: int = 1> (every, every, now)",
    ]
