"""A stack of layers whose halves can be dropped by hand: the reference for what skip-layers makes of it."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from capture_once import capture_once
from torch import nn

import optc

WIDTH, DEPTH = 8, 5


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.qkv, self.out = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)

    def forward(self, x: torch.Tensor, mask: torch.Tensor | None = None) -> torch.Tensor:
        q, k, v = self.qkv(x).chunk(3, -1)
        scores = q @ k.transpose(-1, -2) / WIDTH**0.5
        if mask is not None:
            scores = scores.masked_fill(mask[:, None, :] == 0, -1e9)
        return self.out(scores.softmax(-1) @ v)


class Layer(nn.Module):
    """``style`` is where the norms are: pre, post, or parallel halves; a dropped half is the identity."""

    def __init__(self, style: str) -> None:
        super().__init__()
        self.style, self.attention = style, Attention()
        self.mlp = nn.Sequential(nn.Linear(WIDTH, 16), nn.GELU(), nn.Linear(16, WIDTH))
        self.norms = nn.ModuleList(nn.LayerNorm(WIDTH) for _ in range(2))
        self.dropped: set[str] = set()

    def forward(self, x: torch.Tensor, mask: torch.Tensor | None = None) -> torch.Tensor:
        first, second = self.norms
        if self.style == "parallel":
            y = first(x)
            x = x if "attention" in self.dropped else x + self.attention(y, mask)
            return x if "mlp" in self.dropped else x + self.mlp(y)
        if "attention" not in self.dropped:
            if self.style == "post":
                x = first(x + self.attention(x, mask))
            else:
                x = x + self.attention(first(x), mask)
        if "mlp" not in self.dropped:
            x = second(x + self.mlp(x)) if self.style == "post" else x + self.mlp(second(x))
        return x


class Encoder(nn.Module):
    def __init__(self, style: str = "pre", states: bool = False) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layers, self.states = nn.ModuleList(Layer(style) for _ in range(DEPTH)), states
        self.head = nn.Linear(WIDTH, 3)
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.add_(0.3 * torch.randn_like(parameter))

    def forward(self, x: torch.Tensor, mask: torch.Tensor | None = None) -> Any:
        seen = []
        for layer in self.layers:
            x = layer(x, mask)
            seen.append(x)
        return (self.head(x), *seen) if self.states else self.head(x)


X = torch.randn(2, 6, WIDTH, generator=torch.Generator().manual_seed(1))
CALIBRATION = {"x": np.random.default_rng(2).standard_normal((40, 6, WIDTH)).astype(np.float32)}


def compiled(module: nn.Module, options: str, **kwargs: Any) -> tuple[Any, dict[str, Any]]:
    pipeline = kwargs.pop("pipeline", "simplify, skip-layers{%s}, fuse")
    artifact = optc.compile(capture_once(module.eval(), (X,)), pipeline=pipeline % options, **kwargs)
    [row] = [row for row in artifact.report["passes"] if row["name"] == "skip-layers"]
    return artifact, row


def assert_close(actual: torch.Tensor, expected: torch.Tensor) -> None:
    torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-5)
