"""Accuracy against latency of merged tokens, without training: a vision transformer on handwritten digits.

python examples/digits_tokens.py [DIR]

A vision transformer with a class token learns scikit-learn's digits, and is compiled with ever more tokens
merged between attention and MLP of its layers. With a DIR, the artifact and its report.html go there.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import torch
from digits_int8 import Block, digits, train
from rich.console import Console
from torch import nn

import optc
from optc import ledger

ALLOWED = 1.0  # points of accuracy at 1.5 times fewer operations on tokens
LAYERS, WIDTH, TOKENS = 4, 48, 50


class Vit(nn.Module):
    """Overlapping patches of 2 x 2 and a class token through four transformer layers."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(1, WIDTH, 2)
        self.token = nn.Parameter(0.02 * torch.randn(1, 1, WIDTH))
        self.place = nn.Parameter(0.02 * torch.randn(1, TOKENS, WIDTH))
        self.blocks = nn.ModuleList(Block(WIDTH) for _ in range(LAYERS))
        self.norm, self.head = nn.LayerNorm(WIDTH), nn.Linear(WIDTH, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[batch, 1, 8, 8] to logits [batch, 10]."""
        tokens = self.patches(x).flatten(2).transpose(1, 2)
        tokens = torch.cat([self.token.expand(x.shape[0], -1, -1), tokens], 1) + self.place
        for block in self.blocks:
            tokens = block(tokens)
        return self.head(self.norm(tokens)[:, 0])


def operations(counts: list[int]) -> int:
    """Multiplications of the layers, when ``counts`` tokens enter each, and the last leave it."""
    attention = sum(4 * t * WIDTH**2 + 2 * t * t * WIDTH for t in counts[:-1])
    return attention + sum(8 * t * WIDTH**2 for t in counts[1:])


def main() -> None:
    """Trains, compiles, prints the curve; fails where 1.5 times fewer operations cost more than a point."""
    torch.set_num_threads(1)
    (x, y), (test_x, test_y) = digits()
    torch.manual_seed(0)
    module = train(Vit(), x, y, epochs=20)

    def percent(run: Callable[[dict[str, Any]], dict[str, Any]]) -> float:
        [logits] = run({"x": test_x}).values()
        return 100 * float((logits.argmax(-1) == test_y).mean())

    artifact = optc.compile(
        module,
        (torch.from_numpy(x[:64]),),
        dynamic_shapes={"x": {0: torch.export.Dim("batch", min=1, max=4096)}},
        pipeline="simplify, merge-tokens{r=10}, fuse",
        metric=percent,
        max_drop=ALLOWED,
        threads=1,
        curve=True,
        output=sys.argv[1] if len(sys.argv) > 1 else None,
    )
    console = Console(width=None if sys.stdout.isatty() else 100)
    console.print(ledger.render(artifact.report))
    whole, *merged = artifact.report["curves"][0]["points"]
    for point in merged:
        [stream] = point["detail"]["streams"]
        fewer = operations([TOKENS] * (LAYERS + 1)) / operations(stream["tokens"])
        lost = whole["metric"] - point["metric"]
        console.print(f"{point['setting']}: operations on tokens 1/{fewer:.2f}, {lost:.2f} points lost")
        if fewer >= 1.5:
            sys.exit(0 if lost <= ALLOWED else 1)
    sys.exit(1)


if __name__ == "__main__":
    main()
