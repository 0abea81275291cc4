"""Running products and log-sum-exps: overflow, zeros, NaN, what is far below the maximum, nothing at all."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from side_by_side import captured

INF, NAN = float("inf"), float("nan")
X = torch.tensor(
    [
        [1, 2, -3, 0.5],
        [0, INF, 2, 1],
        [1e38, 1e10, 0, NAN],
        [-INF, INF, 1, 2],
        [-1000, 0, -1000, 100],
        [-INF, -INF, 3, -INF],
        [0, -20, -40, -18],
    ]
)
RUNNING = pytest.mark.parametrize("running", [torch.cumprod, torch.logcumsumexp])


@RUNNING
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_along_each_axis(running: Callable[..., torch.Tensor], dtype: torch.dtype) -> None:
    captured(lambda x: (running(x, 1), running(x, -2)), (X.to(dtype),))


@RUNNING
def test_sizes_that_are_not_known_and_may_be_0(running: Callable[..., torch.Tensor]) -> None:
    """ONNX Runtime dies of a scan whose elements have no numbers."""
    captured(lambda x: running(x, 1), (X,), (X[:3, :2],), (X[:, :0],), (X[:0],), dynamic=True)
    captured(lambda x: running(x, 0), (X[0],), (X[0, :2],), (X[0, :0],), dynamic=True)


def test_known_sizes_of_0_and_no_axes() -> None:
    captured(lambda x: (torch.cumprod(x, 1), torch.logcumsumexp(x, 0)), (torch.ones(3, 0),))
    captured(lambda x: (torch.cumprod(x, 0), torch.logcumsumexp(x, 0)), (torch.tensor(3.0),))


@pytest.mark.parametrize("dtype", [torch.int64, torch.int32, torch.uint8, torch.bool])
def test_products_of_integers_are_int64(dtype: torch.dtype) -> None:
    captured(lambda x: torch.cumprod(x, 0), (torch.tensor([3, 2, 0, 1]).to(dtype),))


def test_products_in_another_type() -> None:
    captured(lambda x: torch.cumprod(x, 1, dtype=torch.float64), (torch.arange(6).reshape(2, 3),))
    captured(lambda x: torch.cumprod(x, 1, dtype=torch.int32), (torch.arange(6).reshape(2, 3),))


def test_two_products_and_half_precision() -> None:
    captured(lambda x: torch.cumprod(x, 1) + torch.cumprod(x * 2, 1), (X[:2].half(),))
