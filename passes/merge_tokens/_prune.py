"""Dropping the tokens that attention looks at least.

"received": the attention that a token receives, summed over heads and queries, as in Goyal et al.,
"PoWER-BERT", ICML 2020 (https://arxiv.org/abs/2001.08950), and in latency-adjustable encoders
(https://arxiv.org/abs/2201.03327). "class": the attention that the first token pays to it, summed over heads,
as in HiRED (https://arxiv.org/abs/2408.10945). Where all tokens are needed again, a dropped one is the
nearest kept one before it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ._text import FAR, constants, function, given, scalars, spread

OUTPUTS = ("y", "index", "place")
Score = Literal["received", "class"]


@dataclass(frozen=True)
class PruneForm:
    """What the body depends on besides its attributes.

    ``mask``: how the scores are masked. ``counted``: the number of tokens is known when compiling. ``share``:
    the share of unprotected tokens that stays, where it is a share.
    """

    score: Score
    mask: Literal["none", "added", "bool"]
    padded: bool
    lead: bool
    counted: bool
    share: float | None = None


def attributes(form: PruneForm) -> tuple[str, ...]:
    """The attributes of the call, lists of one, besides ``scale``."""
    return ("lead", "keep") if form.counted else ("lead", "r")


def inputs(form: PruneForm) -> tuple[str, ...]:
    """The inputs that both methods share."""
    return ("x", "q", "k", *(() if form.mask == "none" else ("mask",)), *(("flags",) if form.padded else ()))


def body(form: PruneForm) -> str:
    """``(x, q, k, mask?, flags?) => (y, index, place)`` as ONNX text.

    x [B, T, D], q and k [B, N, T, d], flags [B, T, 1] (1 for content, about 0 for padding) -> y [B, T', D],
    the token that each is, index [B, T', 1], and where each went, place [B, T, 1].
    """
    lines = [
        *given(*attributes(form)),
        *constants(zero=[0], one=[1], two=[2], far=[FAR]),
        *selection(form),
        "staying = GatherND <batch_dims: int = 1> (x, kept)",
        *(["first = Slice (x, zero, lead, one)"] if form.lead else []),
        f"y = Concat <axis: int = 1> ({'first, ' if form.lead else ''}staying)",
        *scalars(),
        *(spread("first_index", "lead", "zero", 1) if form.lead else ()),
        f"index = Concat <axis: int = 1> ({'first_index, ' if form.lead else ''}kept)",
        "shape = Shape <start: int = 0, end: int = 2> (x)",
        "sizes = Concat <axis: int = 0> (shape, one)",
        "nothing = ConstantOfShape <value: tensor = int64[1] {0}> (sizes)",
        "index_shape = Shape (index)",
        "marks = ConstantOfShape <value: tensor = int64[1] {1}> (index_shape)",
        "marked = ScatterElements <axis: int = 1> (nothing, index, marks)",
        "seen = CumSum (marked, one_scalar)",
        "last = Sub (seen, one)",
        "place = Max (last, zero)",
    ]
    return function(inputs(form), OUTPUTS, lines)


def selection(form: PruneForm) -> list[str]:
    """Statements that define ``kept`` [B, K, 1]: the unprotected tokens that stay, in their order."""
    return [
        "scale = Constant <value_float: float = @scale> ()",
        *_counts(form),
        *(["asking = Slice (q, zero, one, two)"] if form.score == "class" else ["asking = Identity (q)"]),
        "scaled = Mul (asking, scale)",
        "kt = Transpose <perm: ints = [0, 1, 3, 2]> (k)",
        "product = MatMul (scaled, kt)",
        *_masked(form),
        "probabilities = Softmax <axis: int = -1> (scores)",
        *_summed(form),
        "free_total = Slice (total, lead, far, one)",
        "best, best_at = TopK <axis: int = -1> (free_total, keep_now)",
        "in_order, in_order_at = TopK <axis: int = -1, largest: int = 0> (best_at, keep_now)",
        "from_start = Add (in_order, lead)",
        "kept = Unsqueeze (from_start, two)",
    ]


def _counts(form: PruneForm) -> list[str]:
    if form.counted:
        return ["keep_now = Identity (keep)"]
    lines = ["tokens = Shape <start: int = 1, end: int = 2> (x)", "free = Sub (tokens, lead)"]
    if form.share is None:
        return [
            *lines,
            "left = Sub (free, r)",
            "at_least = Min (free, one)",
            "keep_now = Max (left, at_least)",
        ]
    return [
        *lines,
        f"share = Constant <value_float: float = {form.share!r}> ()",
        "free_float = Cast <to: int = 1> (free)",
        "left_float = Mul (free_float, share)",
        "left_up = Ceil (left_float)",
        "keep_now = Cast <to: int = 7> (left_up)",
    ]


def _masked(form: PruneForm) -> list[str]:
    if form.mask == "none":
        return ["scores = Identity (product)"]
    if form.mask == "added":
        return ["scores = Add (product, mask)"]
    return ["low = Constant <value_float: float = -1e30> ()", "scores = Where (mask, product, low)"]


def _summed(form: PruneForm) -> list[str]:
    """What padding pays does not count."""
    lines = constants(both=[1, 2])
    if not form.padded or form.score == "class":
        return [*lines, "total = ReduceSum <keepdims: int = 0> (probabilities, both)"]
    return [
        *lines,
        "half = Constant <value_float: float = 0.5> ()",
        "is_content = Greater (flags, half)",
        "content = Cast <to: int = 1> (is_content)",
        "row = Transpose <perm: ints = [0, 2, 1]> (content)",
        "rows = Unsqueeze (row, one)",
        "paid = MatMul (rows, probabilities)",
        "total = ReduceSum <keepdims: int = 0> (paid, both)",
    ]
