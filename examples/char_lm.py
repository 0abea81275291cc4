"""A character-level language model, trained on the documentation that ships with Python, in int8 and int4.

    python examples/char_lm.py

Prints perplexity on text that training did not see, the size of the file, and the time of a single token.
"""

from __future__ import annotations

import math
import sys
import tempfile
import time
from pathlib import Path
from pydoc_data import topics

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from torch import nn

import optc

CONTEXT, WIDTH, LAYERS, HEADS = 64, 320, 4, 5
STEPS, BATCH = 120, 12
SCHEMES = {
    "float32": "simplify, fuse",
    "int8-weight": "simplify, quantize{scheme=int8-weight}, fuse",
    "int4-weight, rtn": "simplify, quantize{scheme=int4-weight}, fuse",
    "int4-weight, hqq": "simplify, quantize{scheme=int4-weight, method=hqq}, fuse",
    "int4-weight, awq": "simplify, quantize{scheme=int4-weight, method=awq}, fuse",
    "int4-weight, gptq": "simplify, quantize{scheme=int4-weight, method=gptq}, fuse",
}


class Layer(nn.Module):
    """Attention to what came before, then an MLP, each behind a norm and beside a residual."""

    def __init__(self) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.qkv, self.out = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)
        self.up, self.down = nn.Linear(WIDTH, 4 * WIDTH), nn.Linear(4 * WIDTH, WIDTH)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[batch, seq, width] to the same."""
        batch, seq, _ = x.shape
        parts = self.qkv(self.norm1(x)).chunk(3, dim=-1)
        heads = [part.view(batch, seq, HEADS, -1).transpose(1, 2) for part in parts]
        mixed = nn.functional.scaled_dot_product_attention(*heads, is_causal=True)
        x = x + self.out(mixed.transpose(1, 2).reshape(batch, seq, WIDTH))
        return x + self.down(nn.functional.gelu(self.up(self.norm2(x))))


class Model(nn.Module):
    """Characters, int64 [batch, seq], to logits of the next ones, float32 [batch, seq, vocabulary]."""

    def __init__(self, vocabulary: int) -> None:
        super().__init__()
        self.tokens, self.places = nn.Embedding(vocabulary, WIDTH), nn.Embedding(CONTEXT, WIDTH)
        self.layers = nn.ModuleList(Layer() for _ in range(LAYERS))
        self.norm, self.head = nn.LayerNorm(WIDTH), nn.Linear(WIDTH, vocabulary)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        """See the class."""
        x = self.tokens(ids) + self.places.weight[: ids.shape[1]]
        for layer in self.layers:
            x = layer(x)
        return self.head(self.norm(x))


def main() -> None:
    """Trains, compiles each scheme, prints the table."""
    torch.manual_seed(0)
    text = "".join(topics.topics[name] for name in sorted(topics.topics))
    letters = sorted(set(text))
    ids = np.array([letters.index(c) for c in text[:400_000]], np.int64)
    training, unseen = ids[:360_000], ids[360_000:]
    model = train(Model(len(letters)), training)
    windows = [unseen[i : i + CONTEXT + 1] for i in range(0, 100 * CONTEXT, CONTEXT)]
    samples = [{"ids": training[None, i : i + CONTEXT]} for i in range(0, 64 * 1000, 1000)]
    made = Table(title="character-level language model")
    for column in ("scheme", "perplexity", "over float", "model.onnx", "of float", "one token"):
        made.add_column(column, justify="left" if column == "scheme" else "right")
    dims = {"ids": {1: torch.export.Dim("seq", max=CONTEXT)}}
    base: tuple[float, int] | None = None
    for name, pipeline in SCHEMES.items():
        artifact = optc.compile(
            model,
            {"ids": torch.from_numpy(windows[0][None, :-1])},
            dynamic_shapes=dims,
            pipeline=pipeline,
            calibration=samples,
        )
        with tempfile.TemporaryDirectory() as folder:
            artifact.save(Path(folder) / "lm")
            size = sum(file.stat().st_size for file in (Path(folder) / "lm").glob("model.onnx*"))
        found = perplexity(artifact, windows)
        base = base or (found, size)
        made.add_row(
            name,
            f"{found:.3f}",
            f"{found / base[0] - 1:+.2%}",
            f"{size / 1e6:.2f} MB",
            f"{size / base[1]:.3f}",
            f"{token_time(artifact) * 1e3:.3f} ms",
        )
    Console(width=None if sys.stdout.isatty() else 100).print(made)


def train(model: Model, ids: np.ndarray) -> Model:
    """A few minutes of next-character prediction."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    generator = np.random.default_rng(0)
    for step in range(STEPS):
        for group in optimizer.param_groups:
            group["lr"] = 1e-3 * min(1.0, step / 20) * (1 + math.cos(math.pi * step / STEPS)) / 2
        starts = generator.integers(0, len(ids) - CONTEXT - 1, BATCH)
        batch = torch.from_numpy(np.stack([ids[s : s + CONTEXT + 1] for s in starts]))
        loss = nn.functional.cross_entropy(model(batch[:, :-1]).flatten(0, 1), batch[:, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return model.eval()


def perplexity(artifact: optc.Artifact, windows: list[np.ndarray]) -> float:
    """Of the next characters of windows of text."""
    losses = []
    for window in windows:
        logits = next(iter(artifact.run({"ids": window[None, :-1]}).values()))[0].astype(np.float64)
        logits -= logits.max(axis=-1, keepdims=True)
        chances = np.log(np.exp(logits).sum(axis=-1)) - logits[np.arange(CONTEXT), window[1:]]
        losses.append(chances.mean())
    return float(np.exp(np.mean(losses)))


def token_time(artifact: optc.Artifact) -> float:
    """Median seconds of a call with one token."""
    feeds, times = {"ids": np.zeros((1, 1), np.int64)}, []
    for _ in range(200):
        start = time.perf_counter()
        artifact.run(feeds)
        times.append(time.perf_counter() - start)
    return float(np.median(times[50:]))


if __name__ == "__main__":
    main()
