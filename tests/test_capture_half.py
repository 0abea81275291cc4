"""Half precision and autocast through the exporter: values keep the types that torch gives them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

import optc

X = torch.rand(2, 5, generator=torch.Generator().manual_seed(0)) + 0.5


def module(function: Callable[[Any], Any]) -> nn.Module:
    """A module whose forward is ``function``."""
    return type("Small", (nn.Module,), {"forward": lambda self, x: function(x)})()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_reductions_stay_in_half_precision(dtype: torch.dtype) -> None:
    """Results that the exporter computes in float32, alone and where other operators read them."""

    def forward(x: Any) -> Any:
        scaled = (x / x.sum(1, keepdim=True)) @ torch.ones(5, 2, dtype=dtype)
        return x.sum(), x.prod(1), x.cumsum(1), x.amax(0), nn.functional.mse_loss(x, x + 1), scaled

    x = X.to(dtype)
    actual = optc.compile(module(forward), (x,), gate=False)(x)
    for a, b in zip(actual, forward(x), strict=True):
        torch.testing.assert_close(a, b, rtol=2e-2, atol=2e-2)


def test_autocast_inside_of_a_model() -> None:
    """torch.export asserts the types that autocast gave; the exporter casts at other places."""
    linear = nn.Linear(5, 3)

    def forward(x: Any) -> Any:
        with torch.autocast("cpu", torch.bfloat16):
            return linear(x).softmax(-1)

    with torch.no_grad():
        expected = forward(X)
    actual = optc.compile(module(forward), (X,), gate=False)(X)
    torch.testing.assert_close(actual, expected, rtol=2e-2, atol=2e-2)
