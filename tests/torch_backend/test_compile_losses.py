"""Losses: smoothed labels, weights, labels to ignore, and probabilities instead of labels."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from side_by_side import captured
from torch.nn import functional

DRAWS = torch.Generator().manual_seed(0)
SCORES, WEIGHTS = torch.randn(4, 5, generator=DRAWS), torch.rand(5, generator=DRAWS)
LABELS, SHARES = torch.tensor([0, 3, -100, 1]), torch.rand(4, 5, generator=DRAWS).softmax(-1)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_cross_entropy(smoothing: float, weighted: bool) -> None:
    """The stock translation takes no notice of smoothing, and takes probabilities for labels."""
    options: dict[str, Any] = {"label_smoothing": smoothing, "weight": WEIGHTS if weighted else None}

    def losses(scores: torch.Tensor, labels: torch.Tensor, shares: torch.Tensor) -> list[torch.Tensor]:
        return [
            functional.cross_entropy(scores, wanted, reduction=reduction, **options)
            for wanted in (labels, shares)
            for reduction in ("mean", "sum", "none")
        ]

    captured(losses, (SCORES, LABELS, SHARES))
