"""Encoders of known families, small, and what they give with merged tokens, layer by layer in PyTorch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import eager
import torch
import transformers as hf
from vision import CONFIG, attend, pixels

_HEADS = 4
_TEXT = {k: v for k, v in CONFIG.items() if k not in ("image_size", "patch_size")} | {"vocab_size": 100}

Inputs = tuple[torch.Tensor, ...]


@dataclass
class Case:
    """A module, its inputs for a batch size, and its first output with ``amounts`` of tokens merged."""

    module: Any
    inputs: Callable[[int], Inputs]
    protected: int
    expected: Callable[[Inputs, list[int]], torch.Tensor]


def _halves(
    layers: Any, attention: Callable[..., Any], mlp: Callable[..., Any]
) -> tuple[list[Any], list[Any]]:
    return (
        [lambda x, bias, layer=layer: attention(layer, x, bias) for layer in layers],
        [lambda x, layer=layer: mlp(layer, x) for layer in layers],
    )


def deit() -> Case:
    config = hf.DeiTConfig(**CONFIG, num_labels=5)
    module = hf.DeiTForImageClassificationWithTeacher(config).eval()

    def attention(layer: Any, x: torch.Tensor, bias: torch.Tensor) -> Any:
        h, a = layer.layernorm_before(x), layer.attention
        y, k = attend(a.q_proj(h), a.k_proj(h), a.v_proj(h), bias, _HEADS)
        return x + a.o_proj(y), k

    def mlp(layer: Any, x: torch.Tensor) -> torch.Tensor:
        return x + layer.mlp(layer.layernorm_after(x))

    def expected(inputs: Inputs, amounts: list[int]) -> torch.Tensor:
        body = module.deit
        x = eager.encode(body.embeddings(*inputs), *_halves(body.layers, attention, mlp), amounts, 2).x
        x = body.layernorm(x)
        return (module.cls_classifier(x[:, 0]) + module.distillation_classifier(x[:, 1])) / 2

    return Case(module, lambda batch: (pixels(batch),), 2, expected)


def dinov2() -> Case:
    """With four register tokens behind the class token."""
    config = hf.Dinov2WithRegistersConfig(
        **{k: v for k, v in CONFIG.items() if k != "intermediate_size"}, mlp_ratio=2, num_register_tokens=4
    )
    module = hf.Dinov2WithRegistersModel(config).eval()

    def attention(layer: Any, x: torch.Tensor, bias: torch.Tensor) -> Any:
        h, a = layer.norm1(x), layer.attention
        y, k = attend(a.q_proj(h), a.k_proj(h), a.v_proj(h), bias, _HEADS)
        return x + layer.layer_scale1(a.o_proj(y)), k

    def mlp(layer: Any, x: torch.Tensor) -> torch.Tensor:
        return x + layer.layer_scale2(layer.mlp(layer.norm2(x)))

    def expected(inputs: Inputs, amounts: list[int]) -> torch.Tensor:
        halves = _halves(module.encoder.layer, attention, mlp)
        tokens = eager.encode(module.embeddings(*inputs), *halves, amounts, 5)
        return tokens.restored(module.layernorm(tokens.x))

    return Case(module, lambda batch: (pixels(batch),), 5, expected)


def clip_vision() -> Case:
    module = hf.CLIPVisionModel(hf.CLIPVisionConfig(**CONFIG)).eval()

    def attention(layer: Any, x: torch.Tensor, bias: torch.Tensor) -> Any:
        h, a = layer.layer_norm1(x), layer.self_attn
        y, k = attend(a.q_proj(h), a.k_proj(h), a.v_proj(h), bias, _HEADS)
        return x + a.out_proj(y), k

    def mlp(layer: Any, x: torch.Tensor) -> torch.Tensor:
        return x + layer.mlp(layer.layer_norm2(x))

    def expected(inputs: Inputs, amounts: list[int]) -> torch.Tensor:
        body = getattr(module, "vision_model", module)
        x = body.pre_layrnorm(body.embeddings(*inputs))
        tokens = eager.encode(x, *_halves(body.encoder.layers, attention, mlp), amounts, 1)
        return tokens.restored(tokens.x)

    return Case(module, lambda batch: (pixels(batch),), 1, expected)


def bert() -> Case:
    """Post-norm, with a padding mask; the pooler reads the first token."""
    module = hf.BertModel(hf.BertConfig(**_TEXT, max_position_embeddings=64)).eval()

    def attention(layer: Any, x: torch.Tensor, bias: torch.Tensor) -> Any:
        a = layer.attention.self
        y, k = attend(a.query(x), a.key(x), a.value(x), bias, _HEADS)
        return layer.attention.output(y, x), k

    def mlp(layer: Any, x: torch.Tensor) -> torch.Tensor:
        return layer.output(layer.intermediate(x), x)

    def inputs(batch: int) -> Inputs:
        generator = torch.Generator().manual_seed(batch)
        mask = torch.ones(batch, 20, dtype=torch.int64)
        for sample in range(batch):
            mask[sample, 20 - 4 * sample - 3 :] = 0
        return torch.randint(0, 100, (batch, 20), generator=generator), mask

    def expected(given: Inputs, amounts: list[int]) -> torch.Tensor:
        ids, mask = given
        halves = _halves(module.encoder.layer, attention, mlp)
        tokens = eager.encode(module.embeddings(ids), *halves, amounts, 1, mask == 0)
        return tokens.restored(tokens.x)

    return Case(module, inputs, 1, expected)


def whisper() -> Case:
    """An audio encoder: no class token, all tokens are the output."""
    from transformers.models.whisper.modeling_whisper import WhisperEncoder

    config = hf.WhisperConfig(
        d_model=32, encoder_layers=3, encoder_attention_heads=_HEADS, encoder_ffn_dim=64, num_mel_bins=8,
        max_source_positions=30, vocab_size=100, pad_token_id=0, bos_token_id=1, eos_token_id=2, init_std=0.3,
    )  # fmt: skip
    module = WhisperEncoder(config).eval()

    def attention(layer: Any, x: torch.Tensor, bias: torch.Tensor) -> Any:
        h, a = layer.self_attn_layer_norm(x), layer.self_attn
        y, k = attend(a.q_proj(h), a.k_proj(h), a.v_proj(h), bias, _HEADS)
        return x + a.out_proj(y), k

    def mlp(layer: Any, x: torch.Tensor) -> torch.Tensor:
        h = layer.final_layer_norm(x)
        return x + layer.fc2(layer.activation_fn(layer.fc1(h)))

    def inputs(batch: int) -> Inputs:
        return (torch.randn(batch, 8, 60, generator=torch.Generator().manual_seed(batch)),)

    def expected(given: Inputs, amounts: list[int]) -> torch.Tensor:
        gelu = torch.nn.functional.gelu
        x = gelu(module.conv2(gelu(module.conv1(given[0])))).transpose(1, 2)
        x = x + module.embed_positions.weight
        tokens = eager.encode(x, *_halves(module.layers, attention, mlp), amounts, 0)
        return tokens.restored(module.layer_norm(tokens.x))

    return Case(module, inputs, 0, expected)


CASES = {f.__name__: f for f in (deit, dinov2, clip_vision, bert, whisper)}
