"""Layers whose attention can be shared by hand: the reference for what share-attention makes of them."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from capture_once import capture_once
from torch import nn

import optc

WIDTH, HEADS, DEPTH = 16, 4, 6


class Layer(nn.Module):
    """``leader`` is (layer, heads) whose probabilities it uses, or None."""

    def __init__(self) -> None:
        super().__init__()
        self.q, self.k, self.v, self.out = (nn.Linear(WIDTH, WIDTH) for _ in range(4))
        self.norm = nn.LayerNorm(WIDTH)
        self.mlp = nn.Sequential(nn.LayerNorm(WIDTH), nn.Linear(WIDTH, 32), nn.GELU(), nn.Linear(32, WIDTH))
        self.leader: tuple[int, list[int]] | None = None

    def forward(self, x: torch.Tensor, mask: torch.Tensor | None, seen: list[torch.Tensor]) -> torch.Tensor:
        y = self.norm(x)
        q, k, v = (self._split(linear(y)) for linear in (self.q, self.k, self.v))
        if self.leader is None:
            scores = q @ k.transpose(-1, -2) / (WIDTH // HEADS) ** 0.5
            if mask is not None:
                scores = scores.masked_fill(mask[:, None, None, :] == 0, -1e9)
            seen.append(scores.softmax(-1))
        else:
            layer, heads = self.leader
            seen.append(seen[layer][:, heads])
        mixed = (seen[-1] @ v).transpose(1, 2).reshape(x.shape)
        x = x + self.out(mixed)
        return x + self.mlp(x)

    def _split(self, y: torch.Tensor) -> torch.Tensor:
        return y.reshape(*y.shape[:2], HEADS, WIDTH // HEADS).transpose(1, 2)


class Encoder(nn.Module):
    """Layers 2 and 4 attend almost as layers 1 and 3 do, with their heads in another order."""

    order = (2, 0, 3, 1)

    def __init__(self, probabilities: bool = False) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layers, self.probabilities = nn.ModuleList(Layer() for _ in range(DEPTH)), probabilities
        rows = [head * (WIDTH // HEADS) + i for head in self.order for i in range(WIDTH // HEADS)]
        with torch.no_grad():
            for layer in self.layers:
                layer.q.weight.mul_(6), layer.k.weight.mul_(6)
                for parameter in (*layer.out.parameters(), *layer.mlp[3].parameters()):
                    parameter.mul_(0.1)
            for leader, follower in ((1, 2), (3, 4)):
                for name in ("q", "k"):
                    source, target = (getattr(self.layers[i], name) for i in (leader, follower))
                    target.weight.copy_(source.weight[rows]), target.bias.copy_(source.bias[rows])

    def forward(self, x: torch.Tensor, mask: torch.Tensor | None = None) -> Any:
        seen: list[torch.Tensor] = []
        for layer in self.layers:
            x = layer(x, mask, seen)
        return (x, *seen) if self.probabilities else x


class Packed(nn.Module):
    """Layers of an encoder whose queries, keys and values come from one product."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = Encoder()
        for layer in self.encoder.layers:
            layer.qkv = nn.Linear(WIDTH, 3 * WIDTH)
            with torch.no_grad():
                layer.qkv.weight.copy_(torch.cat([p.weight for p in (layer.q, layer.k, layer.v)]))
                layer.qkv.bias.copy_(torch.cat([p.bias for p in (layer.q, layer.k, layer.v)]))
            layer.q, layer.k, layer.v = (Third(layer.qkv, place) for place in range(3))

    def forward(self, x: torch.Tensor) -> Any:
        return self.encoder(x)


class Third(nn.Module):
    """One of three equal parts of what a linear layer gives."""

    def __init__(self, linear: nn.Linear, place: int) -> None:
        super().__init__()
        self.linear, self.place = linear, place

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.linear(x).chunk(3, -1)[self.place]


X = torch.randn(2, 6, WIDTH, generator=torch.Generator().manual_seed(1))
CALIBRATION = {"x": np.random.default_rng(2).standard_normal((20, 6, WIDTH)).astype(np.float32)}


def compiled(module: nn.Module, options: str, **kwargs: Any) -> tuple[Any, dict[str, Any]]:
    pipeline = kwargs.pop("pipeline", "simplify, share-attention{%s}, fuse") % options
    kwargs.setdefault("calibration", CALIBRATION)
    captured = capture_once(module.eval(), kwargs.pop("args", (X,)), kwargs.pop("dynamic_shapes", None))
    artifact = optc.compile(captured, pipeline=pipeline, gate=False, **kwargs)
    [row] = [row for row in artifact.report["passes"] if row["name"] == "share-attention"]
    return artifact, row


def share_by_hand(module: Encoder, row: dict[str, Any]) -> None:
    for each in row["detail"]["followers"]:
        module.layers[each["layer"]].leader = (each["leader"], each["heads"])
