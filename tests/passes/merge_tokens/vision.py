"""Small vision transformers and what they give with merged tokens."""

from __future__ import annotations

from typing import Any

import eager
import torch
from transformers import ViTConfig, ViTForImageClassification

CONFIG: dict[str, Any] = {
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "image_size": 32,
    "patch_size": 8,
    "initializer_range": 0.3,  # tokens that differ: no near ties
}


def pixels(batch: int) -> torch.Tensor:
    return torch.randn(batch, 3, 32, 32, generator=torch.Generator().manual_seed(3))


def vit() -> ViTForImageClassification:
    torch.manual_seed(0)
    return ViTForImageClassification(ViTConfig(**CONFIG, num_labels=5)).eval()


def split(x: torch.Tensor, heads: int) -> torch.Tensor:
    return x.unflatten(-1, (heads, -1)).transpose(1, 2)


def attend(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, bias: torch.Tensor, heads: int
) -> tuple[torch.Tensor, eager.Heads]:
    """Attention of [B, T, D] with a bias; also returns queries and keys by head."""
    return attend_by_head(*(split(x, heads) for x in (q, k, v)), bias)


def attend_by_head(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, bias: torch.Tensor
) -> tuple[torch.Tensor, eager.Heads]:
    """The same of [B, heads, T, d]."""
    scores = q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5 + bias
    return (scores.softmax(-1) @ v).transpose(1, 2).flatten(2), (q, k)


def merged_vit(module: Any, x: torch.Tensor, amounts: list[int], protected: int = 1) -> eager.Tokens:
    """The tokens behind the last layer of a ViT, merged after every attention."""

    def attention(layer: Any) -> eager.Layer:
        def run(x: torch.Tensor, bias: torch.Tensor, _: torch.Tensor) -> tuple[torch.Tensor, eager.Heads]:
            h, a = layer.layernorm_before(x), layer.attention
            y, k = attend(a.q_proj(h), a.k_proj(h), a.v_proj(h), bias, CONFIG["num_attention_heads"])
            return x + a.o_proj(y), k

        return run

    layers = list(module.layers)
    mlps = [lambda x, layer=layer: x + layer.mlp(layer.layernorm_after(x)) for layer in layers]
    return eager.encode(x, [attention(layer) for layer in layers], mlps, amounts, protected)
