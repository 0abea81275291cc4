"""Sizes and numbers that change: how often the backend compiles, and that every answer is right."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from side_by_side import captured, same
from torch import nn

from optc.torch_backend import stats


def block() -> nn.Module:
    return nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 4)).eval()


def sizes(*pairs: tuple[int, int]) -> list[tuple[torch.Tensor]]:
    return [(torch.rand(batch, length, 4),) for batch, length in pairs]


def test_sizes_become_dynamic_when_they_change() -> None:
    """Dynamo makes a size symbolic when it sees a second value; one more graph serves all others."""
    found = captured(block(), *sizes((2, 3), (5, 3), (7, 3), (9, 3)))
    assert (found.graphs, found.artifact_calls) == (2, 4)


def test_dynamic_from_the_start() -> None:
    assert captured(block(), *sizes((2, 3), (5, 7), (6, 9)), dynamic=True).graphs == 1


def test_marked_dynamic() -> None:
    compiled, model = torch.compile(block(), backend="optc"), None
    model = compiled._orig_mod
    with torch.no_grad():
        for batch in (2, 5, 6):
            x = torch.rand(batch, 3, 4)
            torch._dynamo.mark_dynamic(x, 0)
            same(compiled(x), model(x))
    assert (stats().graphs, stats().fallbacks) == (1, 0)


def test_sizes_are_results_and_are_computed_with() -> None:
    def function(x: Any) -> Any:
        batch = x.shape[0]
        return x.reshape(batch * 3, -1) / batch, batch, batch * 2 + 1, torch.arange(batch)

    assert captured(function, *sizes((2, 3), (5, 3), (7, 3))).graphs == 2


def test_whole_numbers_are_inputs() -> None:
    def function(x: Any, n: int) -> Any:
        return x * n + n, n + 1

    x = torch.rand(2, 3)
    assert captured(function, (x, 3), (x, 4), (x, 9), (x, -7)).graphs <= 3


def test_numbers_that_decide_on_shapes() -> None:
    x = torch.rand(9, 4)
    captured(lambda x, n: x[:n].sum(0), (x, 3), (x, 4), (x, 5))


def test_fractions_are_inputs_too() -> None:
    x = torch.rand(2, 3)
    captured(lambda x, scale: x * scale, (x, 0.5), (x, 0.25), (x, 2.0))


def test_fractions_that_must_be_known_are_baked(monkeypatch: pytest.MonkeyPatch) -> None:
    """With ``dynamic=True`` dynamo makes an input of the epsilon of a norm."""
    monkeypatch.setattr(torch.backends.mha, "_is_fastpath_enabled", False)  # torch 2.11 cannot trace it
    layer = nn.TransformerEncoderLayer(16, 4, 32, batch_first=True).eval()
    calls = [(torch.rand(batch, length, 16),) for batch, length in ((2, 3), (4, 5))]
    assert captured(layer, *calls, dynamic=True).graphs == 1
    layer.norm1.eps = layer.norm2.eps = 0.5
    captured(layer, calls[0], dynamic=True)


def test_fractions_are_baked_one_by_one() -> None:
    def function(x: Any, epsilon: float) -> Any:
        return nn.functional.layer_norm(x, (3,), eps=epsilon)

    x = torch.rand(2, 3)
    captured(function, (x, 0.5), (x, 0.25), (x, 1e-5), (x, 0.5), dynamic=True)


def test_fullgraph() -> None:
    assert captured(block(), *sizes((2, 3)), fullgraph=True).graphs == 1


@pytest.mark.parametrize("batch", [0, 1])
def test_special_sizes_get_graphs_of_their_own(batch: int) -> None:
    assert captured(block(), *sizes((3, 2), (4, 2), (batch, 2), (5, 2))).graphs == 3
