"""Encoders of known families, small, and what they give with merged tokens, layer by layer in PyTorch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import eager
import torch
import transformers as hf
from vision import CONFIG, attend, attend_by_head, pixels, split

_HEADS = 4
_TEXT = {k: v for k, v in CONFIG.items() if k not in ("image_size", "patch_size")} | {"vocab_size": 100}

Inputs = tuple[torch.Tensor, ...]


@dataclass
class Case:
    """A module, its inputs for a batch size, and its first output with fewer tokens.

    ``expected`` takes the inputs, and what `eager.encode` takes to say how many tokens go, and how.
    """

    module: Any
    inputs: Callable[[int], Inputs]
    protected: int
    expected: Callable[..., torch.Tensor]


def _halves(
    layers: Any, attention: Callable[..., Any], mlp: Callable[..., Any]
) -> tuple[list[Any], list[Any]]:
    return (
        [lambda x, bias, index, layer=layer: attention(layer, x, bias) for layer in layers],
        [lambda x, layer=layer: mlp(layer, x) for layer in layers],
    )


def _sentences(batch: int) -> Inputs:
    """Token numbers and a mask of padding."""
    generator = torch.Generator().manual_seed(batch)
    mask = torch.ones(batch, 20, dtype=torch.int64)
    for sample in range(batch):
        mask[sample, 20 - 4 * sample - 3 :] = 0
    return torch.randint(0, 100, (batch, 20), generator=generator), mask


def deit() -> Case:
    config = hf.DeiTConfig(**CONFIG, num_labels=5)
    module = hf.DeiTForImageClassificationWithTeacher(config).eval()

    def attention(layer: Any, x: torch.Tensor, bias: torch.Tensor) -> Any:
        h, a = layer.layernorm_before(x), layer.attention
        y, k = attend(a.q_proj(h), a.k_proj(h), a.v_proj(h), bias, _HEADS)
        return x + a.o_proj(y), k

    def mlp(layer: Any, x: torch.Tensor) -> torch.Tensor:
        return x + layer.mlp(layer.layernorm_after(x))

    def expected(inputs: Inputs, amounts: Any, **how: Any) -> torch.Tensor:
        body = module.deit
        x = eager.encode(body.embeddings(*inputs), *_halves(body.layers, attention, mlp), amounts, 2, **how).x
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

    def expected(inputs: Inputs, amounts: Any, **how: Any) -> torch.Tensor:
        halves = _halves(module.encoder.layer, attention, mlp)
        tokens = eager.encode(module.embeddings(*inputs), *halves, amounts, 5, **how)
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

    def expected(inputs: Inputs, amounts: Any, **how: Any) -> torch.Tensor:
        body = getattr(module, "vision_model", module)
        x = body.pre_layrnorm(body.embeddings(*inputs))
        tokens = eager.encode(x, *_halves(body.encoder.layers, attention, mlp), amounts, 1, **how)
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

    def expected(given: Inputs, amounts: Any, **how: Any) -> torch.Tensor:
        ids, mask = given
        halves = _halves(module.encoder.layer, attention, mlp)
        tokens = eager.encode(module.embeddings(ids), *halves, amounts, 1, mask == 0, **how)
        return tokens.restored(tokens.x)

    return Case(module, _sentences, 1, expected)


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

    def expected(given: Inputs, amounts: Any, **how: Any) -> torch.Tensor:
        gelu = torch.nn.functional.gelu
        x = gelu(module.conv2(gelu(module.conv1(given[0])))).transpose(1, 2)
        x = x + module.embed_positions.weight
        tokens = eager.encode(x, *_halves(module.layers, attention, mlp), amounts, 0, **how)
        return tokens.restored(module.layer_norm(tokens.x))

    return Case(module, inputs, 0, expected)


def _turned(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    """Rotary positions: x [B, heads, T, d] with tables [B, T, d]."""
    first, second = x.chunk(2, -1)
    return x * cos[:, None] + torch.cat([-second, first], -1) * sin[:, None]


def dinov3() -> Case:
    """Rotary positions of the patches only: the class token and two registers have none."""
    config = hf.DINOv3ViTConfig(**CONFIG, num_register_tokens=2, layerscale_value=0.7)
    module = hf.DINOv3ViTModel(config).eval()

    def expected(inputs: Inputs, amounts: Any, **how: Any) -> torch.Tensor:
        cos, sin = (
            torch.cat([torch.full((3, table.shape[1]), first), table])
            for table, first in zip(module.rope_embeddings(*inputs), (1.0, 0.0), strict=True)
        )

        def attention(layer: Any, x: torch.Tensor, bias: torch.Tensor, index: torch.Tensor) -> Any:
            h, a = layer.norm1(x), layer.attention
            q, k, v = (split(f(h), _HEADS) for f in (a.q_proj, a.k_proj, a.v_proj))
            q, k = (_turned(each, cos[index], sin[index]) for each in (q, k))
            y, heads = attend_by_head(q, k, v, bias)
            return x + layer.layer_scale1(a.o_proj(y)), heads

        layers = list(module.model.layer)
        attentions = [
            lambda x, bias, index, layer=layer: attention(layer, x, bias, index) for layer in layers
        ]
        mlps = [lambda x, layer=layer: x + layer.layer_scale2(layer.mlp(layer.norm2(x))) for layer in layers]
        tokens = eager.encode(module.embeddings(*inputs), attentions, mlps, amounts, 3, **how)
        return tokens.restored(module.norm(tokens.x))

    return Case(module, lambda batch: (pixels(batch),), 3, expected)


def siglip() -> Case:
    """No class token; a learnt query looks at all tokens in the end."""
    module = hf.SiglipVisionModel(hf.SiglipVisionConfig(**CONFIG)).eval()
    for parameter in module.parameters():
        torch.nn.init.normal_(parameter, std=0.2)

    def attention(layer: Any, x: torch.Tensor, bias: torch.Tensor) -> Any:
        h, a = layer.layer_norm1(x), layer.self_attn
        y, heads = attend(a.q_proj(h), a.k_proj(h), a.v_proj(h), bias, _HEADS)
        return x + a.out_proj(y), heads

    def mlp(layer: Any, x: torch.Tensor) -> torch.Tensor:
        return x + layer.mlp(layer.layer_norm2(x))

    def expected(inputs: Inputs, amounts: Any, **how: Any) -> torch.Tensor:
        body = getattr(module, "vision_model", module)
        halves = _halves(body.encoder.layers, attention, mlp)
        tokens = eager.encode(body.embeddings(*inputs), *halves, amounts, 0, **how)
        return body.head(tokens.restored(body.post_layernorm(tokens.x)))

    return Case(_Pooled(module), lambda batch: (pixels(batch),), 0, expected)


class _Pooled(torch.nn.Module):
    def __init__(self, inner: Any) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, pixel_values: torch.Tensor) -> torch.Tensor:
        return self.inner(pixel_values=pixel_values).pooler_output


def modernbert() -> Case:
    """Rotary positions of all tokens, padding, and no window."""
    config = hf.ModernBertConfig(
        **_TEXT, max_position_embeddings=64, pad_token_id=0, bos_token_id=1, eos_token_id=2, cls_token_id=1,
        sep_token_id=2, global_attn_every_n_layers=1,
    )  # fmt: skip
    module = hf.ModernBertModel(config).eval()

    def expected(given: Inputs, amounts: Any, **how: Any) -> torch.Tensor:
        ids, mask = given
        x = module.embeddings(input_ids=ids)
        cos, sin = (table[0] for table in module.rotary_emb(x, torch.arange(20)[None], "full_attention"))

        def attention(layer: Any, x: torch.Tensor, bias: torch.Tensor, index: torch.Tensor) -> Any:
            h, a = layer.attn_norm(x), layer.attn
            q, k, v = (split(each, _HEADS) for each in a.Wqkv(h).chunk(3, -1))
            q, k = (_turned(each, cos[index], sin[index]) for each in (q, k))
            y, heads = attend_by_head(q, k, v, bias)
            return x + a.Wo(y), heads

        layers = list(module.layers)
        attentions = [
            lambda x, bias, index, layer=layer: attention(layer, x, bias, index) for layer in layers
        ]
        mlps = [lambda x, layer=layer: x + layer.mlp(layer.mlp_norm(x)) for layer in layers]
        tokens = eager.encode(x, attentions, mlps, amounts, 0, mask == 0, **how)
        return tokens.restored(module.final_norm(tokens.x))

    return Case(module, _sentences, 0, expected)


def wav2vec2() -> Case:
    """Speech, post-norm, with positions from a convolution."""
    config = hf.Wav2Vec2Config(
        **{k: v for k, v in _TEXT.items() if k != "vocab_size"}, vocab_size=10, conv_dim=(16, 16),
        conv_stride=(5, 4), conv_kernel=(10, 4), num_conv_pos_embeddings=4, num_conv_pos_embedding_groups=2,
    )  # fmt: skip
    module = hf.Wav2Vec2Model(config).eval()

    def attention(layer: Any, x: torch.Tensor, bias: torch.Tensor) -> Any:
        a = layer.attention
        y, heads = attend(a.q_proj(x), a.k_proj(x), a.v_proj(x), bias, _HEADS)
        return layer.layer_norm(x + a.out_proj(y)), heads

    def mlp(layer: Any, x: torch.Tensor) -> torch.Tensor:
        return layer.final_layer_norm(x + layer.feed_forward(x))

    def expected(given: Inputs, amounts: Any, **how: Any) -> torch.Tensor:
        x, _ = module.feature_projection(module.feature_extractor(given[0]).transpose(1, 2))
        x = module.encoder.layer_norm(x + module.encoder.pos_conv_embed(x))
        tokens = eager.encode(x, *_halves(module.encoder.layers, attention, mlp), amounts, 0, **how)
        return tokens.restored(tokens.x)

    def inputs(batch: int) -> Inputs:
        return (torch.randn(batch, 400, generator=torch.Generator().manual_seed(batch)),)

    return Case(module, inputs, 0, expected)


CASES = {
    f.__name__: f for f in (deit, dinov2, dinov3, clip_vision, siglip, bert, modernbert, whisper, wav2vec2)
}
