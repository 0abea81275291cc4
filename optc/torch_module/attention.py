"""Attention and rotary embeddings of the default operator set."""

from __future__ import annotations

from typing import Any

import torch

from optc.errors import UserError

from .table import Node, Op, Tensor


def _attention(
    node: Node, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None, past_key: Tensor | None = None,
    past_value: Tensor | None = None, lengths: Tensor | None = None,
) -> Any:  # fmt: skip
    """The result, and the keys and values with those of the past before them."""
    windows = [node.get(f"{side}_window_size", -1) for side in ("left", "right")]
    if lengths is not None or any(window >= 0 for window in windows):
        raise UserError("Attention with nonpad_kv_seqlen or a window has no translation", where="to_module")
    merged = q.ndim == 3
    if merged:
        q = _split(q, node.get("q_num_heads"))
        k, v = _split(k, node.get("kv_num_heads")), _split(v, node.get("kv_num_heads"))
    k = k if past_key is None else torch.cat((past_key, k), 2)
    v = v if past_value is None else torch.cat((past_value, v), 2)
    offset = 0 if past_key is None else past_key.shape[2]
    weights = _softmax(_masked(node, _scores(node, q, k), mask, offset))
    y = weights @ _for_every_query(v, q.shape[1])
    return (y.transpose(1, 2).flatten(2) if merged else y), k, v


def _split(x: Tensor, heads: int) -> Tensor:
    return x.reshape(*x.shape[:2], heads, -1).transpose(1, 2)


def _for_every_query(x: Tensor, heads: int) -> Tensor:
    """Groups of query heads share one of the keys and values."""
    return x if x.shape[1] == heads else x.repeat_interleave(heads // x.shape[1], 1)


def _scores(node: Node, q: Tensor, k: Tensor) -> Tensor:
    factor = node.get("scale") or q.shape[-1] ** -0.5
    scores = (q @ _for_every_query(k, q.shape[1]).mT) * factor
    cap = float(node.get("softcap", 0.0))
    return torch.tanh(scores / cap) * cap if cap else scores


def _masked(node: Node, scores: Tensor, mask: Tensor | None, offset: int) -> Tensor:
    if mask is not None and mask.dtype == torch.bool:
        scores = scores.masked_fill(~mask, float("-inf"))
    elif mask is not None:
        scores = scores + mask
    if node.get("is_causal", 0):
        later = torch.ones(scores.shape[-2:], dtype=torch.bool, device=scores.device).triu(offset + 1)
        scores = scores.masked_fill(later, float("-inf"))
    return scores


def _softmax(scores: Tensor) -> Tensor:
    """Rows that mask every key give 0, and so do their gradients."""
    empty = (scores == float("-inf")).all(-1, keepdim=True)
    return scores.masked_fill(empty, 0).softmax(-1).masked_fill(empty, 0)


def _rotary(node: Node, x: Tensor, cos: Tensor, sin: Tensor, positions: Tensor | None = None) -> Tensor:
    rows = _split(x, node.get("num_heads")) if x.ndim == 3 else x
    if positions is not None:
        cos, sin = cos[positions], sin[positions]
    cos, sin = cos.unsqueeze(1), sin.unsqueeze(1)
    size = node.get("rotary_embedding_dim", 0) or rows.shape[-1]
    turned, rest = rows[..., :size], rows[..., size:]
    if node.get("interleaved", 0):
        a, b = turned[..., ::2], turned[..., 1::2]
        turned = torch.stack((cos * a - sin * b, sin * a + cos * b), -1).flatten(-2)
    else:
        a, b = turned.chunk(2, -1)
        turned = torch.cat((cos * a - sin * b, sin * a + cos * b), -1)
    y = torch.cat((turned, rest), -1)
    return y.transpose(1, 2).flatten(2) if x.ndim == 3 else y


ATTENTION_OPS: dict[str, Op] = {"Attention": _attention, "RotaryEmbedding": _rotary}
