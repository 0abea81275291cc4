"""Programs under ``torch.set_default_dtype(torch.float64)``: what they make from numbers is double."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from side_by_side import captured
from torch.nn import functional


@pytest.fixture(autouse=True)
def double() -> Iterator[None]:
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def test_tensors_made_from_numbers() -> None:
    """The stock exporter made them float32, and so the result of the graph."""

    def made(x: torch.Tensor) -> list[torch.Tensor]:
        return [
            torch.arange(3.0) * 0.1,
            torch.arange(0, 1, 0.1) * 2,
            x + torch.ones(4) * 0.1 + torch.zeros(4),
            torch.eye(4) + 0.1,
            torch.linspace(0, 1, 5) * 0.1,
            torch.full((2,), 0.1) * 2,
            torch.tensor([0.1]) * x,
            torch.hann_window(4) * x,
        ]

    captured(made, (torch.randn(3, 4),))


def test_whole_numbers_become_double() -> None:
    def promoted(x: torch.Tensor) -> list[torch.Tensor]:
        whole = x.long()
        return [
            (x > 0) / 2,
            whole * 0.1,
            (x > 0).sum() / 3,
            whole.exp(),
            functional.one_hot(whole.abs(), 9) * 0.1,
        ]

    captured(promoted, (torch.randn(3, 4),))
