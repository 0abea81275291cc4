"""Attention as exporters write it, with each piece now and then a little off."""

from __future__ import annotations

import numpy as np

from . import draws
from .builder import Builder, Reject
from .idioms import scalar, two
from .linear import weight

B, N, S, D = 2, 2, 3, 4


def ints(b: Builder, *numbers: int) -> str:
    return b.constant(np.array(numbers, np.int64))


def attention(b: Builder) -> str:
    """Heads from projections or inputs, scores, masks, probabilities, and the merge of the heads."""
    dtype = np.dtype(b.mostly(np.float32, np.float32, np.float64, np.float16))
    kv, keys, size = b.mostly(N, 1), b.mostly(S, 5), b.mostly(D, 2)
    if b.chance(0.5):
        hidden = b.input(draws.array(b.rng, (B, S, N * D), dtype), ("batch", "seq", N * D))
        keys = S
        q, k, v = (_project(b, hidden, heads, width) for heads, width in ((N, D), (kv, D), (kv, size)))
    else:
        shapes = ((B, N, S, D), (B, kv, keys, D), (B, kv, keys, size))
        dims = ("batch", "seq" if keys == S else "keys")
        q, k, v = (
            b.input(draws.array(b.rng, shape, dtype, special=0.03), (dims[0], shape[1], lengths, shape[3]))
            for shape, lengths in zip(shapes, ("seq", dims[1], dims[1]), strict=True)
        )
    if kv != N:
        k, v = _repeat(b, k, N // kv), _repeat(b, v, b.mostly(N // kv, 1))
    if b.chance(0.3):
        q, k = rotary(b, q), b.mostly(rotary(b, k), k)
    attended = b.op("MatMul", _probabilities(b, q, k, dtype), v)
    if b.chance(0.3):
        return attended
    merged = b.op("Transpose", attended, perm=b.mostly([0, 2, 1, 3], [0, 1, 2, 3], [0, 2, 3, 1]))
    width = N * b.value(v).shape[-1]
    return b.op(
        "Reshape", merged, ints(b, *b.rng.choice(([0, 0, width], [0, -1, width], [0, 0, -1], [B, S, width])))
    )


def _project(b: Builder, hidden: str, heads: int, size: int) -> str:
    dtype = b.value(hidden).dtype
    flat = b.op("MatMul", hidden, weight(b, (N * D, heads * size), dtype))
    if b.chance(0.7):
        flat = two(b, "Add", flat, weight(b, (heads * size,), dtype))
    shape = b.mostly([0, 0, heads, size], [0, -1, heads, size], [0, 0, size, heads])
    return b.op(
        "Transpose", b.op("Reshape", flat, ints(b, *shape)), perm=b.mostly([0, 2, 1, 3], [0, 1, 2, 3])
    )


def _repeat(b: Builder, value: str, times: int) -> str:
    """Each head of keys and values several times, as in grouped-query attention."""
    batch, heads, length, size = b.value(value).shape
    wide = b.op("Unsqueeze", value, ints(b, b.mostly(2, 1)))
    wide = b.op("Expand", wide, ints(b, batch, heads, times, length, size))
    return b.op("Reshape", wide, ints(b, 0, heads * times, -1, size))


def _scores(b: Builder, q: str, k: str, dtype: np.dtype) -> str:
    scale = b.mostly(D**-0.5, 1.0, 0.3, -1.0)
    kind = b.rng.choice(("after", "after", "divided", "on q", "on both", "none"))
    if kind in ("on q", "on both"):
        part = scale if kind == "on q" else abs(scale) ** 0.5
        q = two(b, "Mul", q, scalar(b, part, dtype))
        k = two(b, "Mul", k, scalar(b, part, dtype)) if kind == "on both" else k
    turned = b.op("Transpose", k, perm=b.mostly([0, 1, 3, 2], [1, 0, 3, 2]))
    scores = b.op("MatMul", q, turned)
    if kind == "after":
        return two(b, "Mul", scores, scalar(b, scale, dtype))
    return b.op("Div", scores, scalar(b, 1 / scale, dtype)) if kind == "divided" else scores


def _probabilities(b: Builder, q: str, k: str, dtype: np.dtype) -> str:
    scores = _scores(b, q, k, dtype)
    if b.chance(0.1):
        scores = two(
            b, "Mul", b.op("Tanh", b.op("Div", scores, scalar(b, 5.0, dtype))), scalar(b, 5.0, dtype)
        )
    mask: str | None = None
    for _ in range(b.rng.choice((0, 1, 1, 2))):
        scores, mask = _masked(b, scores, dtype)
    found = b.op("Softmax", scores, axis=b.mostly(-1, 2))
    if b.chance(0.2):
        found = b.op("Where", b.op("IsNaN", found), scalar(b, b.mostly(0.0, 1.0), dtype), found)
    elif mask is not None and b.chance(0.2):
        found = b.op("Where", mask, found, scalar(b, b.mostly(0.0, 1.0), dtype))
    return found


def _masked(b: Builder, scores: str, dtype: np.dtype) -> tuple[str, str | None]:
    """Scores behind a boolean, additive or causal mask."""
    batch, heads, length, keys = b.value(scores).shape
    shape = b.rng.choice(
        ((batch, 1, 1, keys), (batch, 1, length, keys), (length, keys), (keys,), (1, heads, 1, keys))
    )
    low = scalar(b, b.rng.choice((-np.inf, -1e4, np.finfo(dtype).min, b.mostly(-np.inf, 0.0))), dtype)
    kind = b.rng.choice(("bool", "bool", "added", "causal", "causal added"))
    if kind == "added":
        return two(b, "Add", scores, b.input(draws.array(b.rng, shape, dtype))), None
    if kind.startswith("causal"):
        past = np.tri(length, keys, b.mostly(0, 1, -1), dtype=bool)
        if kind == "causal":
            return b.op("Where", b.constant(past), scores, low), None
        hidden = b.mostly(-np.inf, -1e4, -1.0)
        return two(b, "Add", scores, b.constant(np.where(past, 0, hidden).astype(dtype))), None
    kept = draws.array(b.rng, shape, bool)
    kept = np.zeros_like(kept) if b.chance(0.2) else kept
    mask = b.input(kept)
    if b.chance(0.3):
        return b.op("Where", b.op("Not", mask), low, scores), mask
    return b.op("Where", mask, *b.mostly((scores, low), (low, scores))), mask


def rotary(b: Builder, value: str) -> str:
    """The pairs of columns turned by angles: halves, or neighbours."""
    batch, _, length, size = b.value(value).shape
    if size % 2:
        raise Reject("an odd number of columns has no pairs")
    dtype = b.value(value).dtype
    tables = []
    for _ in range(2):
        half = draws.array(b.rng, (b.rng.choice((1, batch)), 1, length, size // 2), dtype)
        whole = b.mostly(np.concatenate((half, half), -1), np.repeat(half, 2, -1))
        tables.append(b.constant(whole) if b.chance(0.5) else b.input(whole))
    cos, sin = tables
    middle = ints(b, b.mostly(size // 2, 1))
    last = ints(b, b.mostly(-1, 3))
    low = b.op("Slice", value, ints(b, 0), middle, last)
    high = b.op("Slice", value, middle, ints(b, 2**63 - 1), last)
    turned = b.op("Concat", b.mostly(b.op("Neg", high), high), low, axis=-1)
    return two(b, "Add", two(b, "Mul", value, cos), two(b, "Mul", turned, sin))


def loose_rotary(b: Builder) -> str:
    return rotary(b, b.input(draws.array(b.rng, (B, N, S, D), np.float32), ("batch", N, "seq", D)))


MOVES = (attention, attention, attention, loose_rotary)
