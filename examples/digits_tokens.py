"""Accuracy against latency of merged tokens, without training: a vision transformer on handwritten digits.

python examples/digits_tokens.py

A vision transformer with a class token learns scikit-learn's digits, and is compiled with ever more tokens
merged between attention and MLP of its layers.
"""

from __future__ import annotations

import sys

import torch
from digits_int8 import Block, accuracy, compiled, digits, train
from rich.console import Console
from rich.table import Table
from torch import nn

from optc import measure

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
    """Trains, compiles and prints a table; fails where 1.5 times fewer operations cost more than a point."""
    torch.set_num_threads(1)
    (x, y), (test_x, test_y) = digits()
    torch.manual_seed(0)
    module = train(Vit(), x, y, epochs=20)
    whole = compiled(module, x)
    best, lost = accuracy(whole, test_x, test_y), []
    table = Table("merged per layer", "operations", "test accuracy", "batch of 64")
    for r in (0, 4, 8, 10):
        merged = compiled(module, x, f"simplify, merge-tokens{{r={r}}}, fuse")
        [row] = [row for row in merged.report["passes"] if row["name"] == "merge-tokens"]
        counts = row["detail"]["streams"][0]["tokens"] if row["changed"] else [TOKENS] * (LAYERS + 1)
        both = {"a": lambda: whole(x[:64]), "b": lambda: merged(x[:64])}  # noqa: B023
        timing = measure.paired(both, seconds=1)
        fewer = operations([TOKENS] * (LAYERS + 1)) / operations(counts)
        found = accuracy(merged, test_x, test_y)
        lost += [best - found] if fewer >= 1.5 else []
        table.add_row(str(r), f"1/{fewer:.2f}", f"{found:.2f} %", f"{timing.median('b') * 1e3:.2f} ms")
    Console(width=None if sys.stdout.isatty() else 100).print(table)
    sys.exit(0 if lost and lost[0] <= ALLOWED else 1)


if __name__ == "__main__":
    main()
