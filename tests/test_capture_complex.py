"""Rotary embeddings written with complex numbers, as Llama's own code has them."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

import optc

LENGTH, HEADS, SIZE = 12, 2, 8


class Rotary(nn.Module):
    """Turns x [batch, length, heads, size] by angles that grow with the position; ``how`` broadcasts them."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.how = how
        self.register_buffer(
            "angles", torch.outer(torch.arange(LENGTH) / 3, 1.0 / torch.arange(1, SIZE // 2 + 1))
        )

    def forward(self, x: Any) -> Any:
        angles = self.angles[: x.shape[1]]
        turns = torch.polar(torch.ones_like(angles), angles)
        pairs = torch.view_as_complex(x.reshape(*x.shape[:-1], -1, 2))
        if self.how == "view":
            turns = turns.view(1, x.shape[1], 1, SIZE // 2)
        elif self.how == "index":
            turns = turns[None, :, None, :]
        else:
            turns = turns.unsqueeze(-2)
        return torch.view_as_real(pairs * turns).flatten(3)


@pytest.mark.parametrize("how", ["view", "index", "unsqueeze"])
def test_rotary_embeddings_with_complex_numbers(how: str) -> None:
    model, x = Rotary(how).eval(), torch.randn(2, 5, HEADS, SIZE, generator=torch.Generator().manual_seed(0))
    artifact = optc.compile(model, x, dynamic_shapes=({0: "batch", 1: "length"},), gate=False)
    for given in (x, x[:1, :3], x.repeat(2, 2, 1, 1)):
        torch.testing.assert_close(torch.as_tensor(artifact(given)), model(given))
