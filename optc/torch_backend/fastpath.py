"""The fused encoder layer of torch, which is not exported, in terms of operators that are."""

from __future__ import annotations

import torch
from torch import fx
from torch.nn import functional

Tensor = torch.Tensor


def spell_out(graph: fx.Graph) -> None:
    """Replaces calls of the layer that ``nn.TransformerEncoder`` takes in evaluation mode."""
    for node in graph.nodes:
        if node.op == "call_function" and node.target in _FUSED:
            node.target = encoder_layer


def encoder_layer(
    src: Tensor,
    embed_dim: int,
    num_heads: int,
    qkv_weight: Tensor,
    qkv_bias: Tensor,
    proj_weight: Tensor,
    proj_bias: Tensor,
    use_gelu: bool,
    norm_first: bool,
    eps: float,
    norm_weight_1: Tensor,
    norm_bias_1: Tensor,
    norm_weight_2: Tensor,
    norm_bias_2: Tensor,
    ffn_weight_1: Tensor,
    ffn_bias_1: Tensor,
    ffn_weight_2: Tensor,
    ffn_bias_2: Tensor,
    mask: Tensor | None = None,
    mask_type: int | None = None,
) -> Tensor:
    """``aten._transformer_encoder_layer_fwd``, argument by argument; ``src`` and the result are [B, S, E].

    Args:
        mask: what is not zero is hidden: [S, S] for ``mask_type`` 0, [B, S] for 1, [B, N, S, S] for 2.
    """

    def attend(x: Tensor) -> Tensor:
        batch, length, _ = x.shape
        heads = (batch, length, num_heads, embed_dim // num_heads)
        parts = functional.linear(x, qkv_weight, qkv_bias).chunk(3, dim=-1)
        q, k, v = (part.view(heads).transpose(1, 2) for part in parts)
        scores = (q * (embed_dim // num_heads) ** -0.5) @ k.transpose(-2, -1)
        if mask is not None:
            hidden = mask.to(torch.bool)
            hidden = hidden[:, None, None, :] if mask_type == 1 else hidden
            scores = scores.masked_fill(hidden, float("-inf"))
        merged = (scores.softmax(-1) @ v).transpose(1, 2).reshape(batch, length, embed_dim)
        return functional.linear(merged, proj_weight, proj_bias)

    def feed(x: Tensor) -> Tensor:
        inner = functional.linear(x, ffn_weight_1, ffn_bias_1)
        inner = functional.gelu(inner) if use_gelu else functional.relu(inner)
        return functional.linear(inner, ffn_weight_2, ffn_bias_2)

    def norm_1(x: Tensor) -> Tensor:
        return functional.layer_norm(x, (embed_dim,), norm_weight_1, norm_bias_1, eps)

    def norm_2(x: Tensor) -> Tensor:
        return functional.layer_norm(x, (embed_dim,), norm_weight_2, norm_bias_2, eps)

    if norm_first:
        src = src + attend(norm_1(src))
        return src + feed(norm_2(src))
    src = norm_1(src + attend(src))
    return norm_2(src + feed(src))


_FUSED = frozenset(
    {torch._transformer_encoder_layer_fwd, torch.ops.aten._transformer_encoder_layer_fwd.default}
)
