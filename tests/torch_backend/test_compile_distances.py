"""Distances between rows: every norm, with and without a matrix product, NaN, infinities, and nothing."""

from __future__ import annotations

import pytest
import torch
from side_by_side import captured

INF, NAN = float("inf"), float("nan")
DRAWS = torch.Generator().manual_seed(0)
FEW, MANY = torch.randn(2, 4, 3, generator=DRAWS), torch.randn(40, 3, generator=DRAWS)
ODD = torch.tensor([[1.0, NAN, 2], [0, INF, 3], [-INF, -INF, 0], [1, 2, 3]])


def distances(p: float) -> object:
    return lambda a, b: torch.cdist(a, b, p)


@pytest.mark.parametrize("p", [0.0, 0.5, 1.0, 2.0, 3.0, INF])
def test_norms(p: float) -> None:
    captured(distances(p), (FEW, FEW[:, None, :2].double().float()), (ODD, torch.cat([ODD, FEW[0]])))
    captured(distances(p), (FEW.double(), MANY[:7].double()))


@pytest.mark.parametrize("p", [1.0, 2.0, INF])
def test_sizes_that_are_not_known(p: float) -> None:
    few, both = FEW[0], MANY + 9
    calls = (few, few), (MANY, few), (MANY, both), (few[:3], MANY[:0]), (few[:0], MANY)
    captured(distances(p), *calls, dynamic=True)
    captured(distances(p), (few[:, :0], MANY[:5, :0]))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_infinities_among_many_rows(dtype: torch.dtype) -> None:
    """Torch's own decomposition ends in a clamp with one bound, in which ONNX Runtime clips infinities."""
    odd = MANY.to(dtype).clone()
    odd[[3, 5], [1, 0]] = torch.tensor([INF, -INF], dtype=dtype)
    captured(distances(2.0), (MANY.to(dtype), MANY.to(dtype) + 1), (odd, MANY.to(dtype)), (odd, odd))


def test_equal_points_are_exactly_0_apart() -> None:
    """A matrix product would leave an error of its own."""
    compiled = torch.compile(distances(2.0), backend="optc", dynamic=True)
    far = FEW[0] * 1e4
    assert compiled(far, far.clone()).diagonal().eq(0).all()


@pytest.mark.parametrize("mode", ["use_mm_for_euclid_dist", "donot_use_mm_for_euclid_dist"])
def test_the_user_decides_on_the_product(mode: str) -> None:
    captured(lambda a, b: torch.cdist(a, b, compute_mode=mode), (MANY, FEW[0]), (FEW, MANY[:5]))
