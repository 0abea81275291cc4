"""Two small transformers from PyTorch, with calibration data: images of one size, and texts of any length."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import onnx_ir as ir
import torch
import transformers as hf

from optc import opsets, registry
from optc.capture import capture
from optc.passbase import Feeds

LAYERS = 3
WORDS = 400
SMALL: dict[str, Any] = {
    "hidden_size": 64,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": 4,
    "intermediate_size": 128,
    "initializer_range": 0.15,
}


class _First(torch.nn.Module):
    def __init__(self, model: torch.nn.Module, names: list[str]) -> None:
        super().__init__()
        self.model, self.names = model, names

    def forward(self, *values: torch.Tensor) -> torch.Tensor:
        return self.model(**dict(zip(self.names, values, strict=True)))[0]


@cache
def _captured(name: str) -> ir.Model:
    torch.manual_seed(0)
    batch = torch.export.Dim("batch")
    if name == "vit":
        model = hf.ViTForImageClassification(hf.ViTConfig(**SMALL, image_size=32, patch_size=8, num_labels=9))
        example = {"pixel_values": torch.zeros(2, 3, 32, 32)}
        dims: Any = ({0: batch},)
    else:
        config = hf.BertConfig(vocab_size=WORDS, max_position_embeddings=64, **SMALL)
        model = hf.BertModel(config, add_pooling_layer=False)
        ids = torch.arange(2, 20).reshape(2, 9)
        example = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
        dims = ({0: batch, 1: torch.export.Dim("seq", min=2, max=64)},) * 2
    module = _First(model.eval(), list(example))
    found = capture(module, tuple(example.values()), dynamic_shapes={"values": dims}).model
    cpu = registry.find_target("cpu")
    assert cpu.max_opset is not None
    opsets.raise_to(found, cpu.max_opset(), cpu.keeps_kernel)
    return found


def encoder(name: str) -> ir.Model:
    """A copy of "vit" or "bert"."""
    return _captured(name).clone()


def samples(model: ir.Model) -> list[Feeds]:
    """Four texts of four lengths, or twelve batches of images, since few leave more room in static ranges."""
    rng = np.random.default_rng(1)
    names = [str(value.name) for value in model.graph.inputs]
    if len(names) == 1:
        return [{names[0]: rng.standard_normal((2, 3, 32, 32)).astype(np.float32)} for _ in range(12)]
    ids = [rng.integers(5, WORDS, (2, length)) for length in (9, 16, 7, 23)]
    return [{names[0]: each, names[1]: np.ones_like(each)} for each in ids]
