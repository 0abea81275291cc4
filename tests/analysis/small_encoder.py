"""An encoder in three styles, small enough to see every node of it."""

from __future__ import annotations

import functools

import onnx_ir as ir
import torch
from torch import nn

WIDTH = 8


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.qkv, self.out = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)

    def forward(self, x: torch.Tensor, mask: torch.Tensor | None = None) -> torch.Tensor:
        q, k, v = self.qkv(x).chunk(3, -1)
        scores = q @ k.transpose(-1, -2) / WIDTH**0.5
        return self.out((scores if mask is None else scores + mask).softmax(-1) @ v)


def mlp() -> nn.Module:
    return nn.Sequential(nn.Linear(WIDTH, 16), nn.GELU(approximate="tanh"), nn.Linear(16, WIDTH))


class Layer(nn.Module):
    """One layer; ``style`` is where the norm and the skip connections are."""

    def __init__(self, style: str) -> None:
        super().__init__()
        self.style, self.attention, self.mlp = style, Attention(), mlp()
        self.norms = nn.ModuleList(nn.LayerNorm(WIDTH) for _ in range(2))

    def forward(self, x: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        first, second = self.norms
        if self.style == "post":
            x = first(x + self.attention(x, mask))
            return second(x + self.mlp(x))
        if self.style == "parallel":
            y = first(x)
            return x + self.attention(y, mask) + self.mlp(y)
        x = x + self.attention(first(x), mask)
        return x + self.mlp(second(x))


class Encoder(nn.Module):
    def __init__(self, style: str, depth: int = 3) -> None:
        super().__init__()
        self.embed, self.position = nn.Embedding(20, WIDTH), nn.Embedding(9, WIDTH)
        self.norm, self.layers = nn.LayerNorm(WIDTH), nn.ModuleList(Layer(style) for _ in range(depth))
        self.head = nn.Linear(WIDTH, 5)

    def forward(self, ids: torch.Tensor, keep: torch.Tensor) -> torch.Tensor:
        x = self.norm(self.embed(ids) + self.position(torch.arange(ids.shape[1])))
        mask = torch.where(keep[:, None, :] > 0, 0.0, -1e9)
        for layer in self.layers:
            x = layer(x, mask)
        return self.head(x).softmax(-1)


TOKENS = (torch.arange(10).reshape(2, 5), torch.ones(2, 5, dtype=torch.long))


@functools.cache
def encoder(style: str) -> tuple[Encoder, ir.Model]:
    torch.manual_seed(0)
    module = Encoder(style)
    return module, exported(module, TOKENS)


def exported(module: nn.Module, example: tuple[torch.Tensor, ...]) -> ir.Model:
    torch.manual_seed(0)
    program = torch.onnx.export(module.eval(), example, dynamo=True, verbose=False)
    assert program is not None
    return program.model
