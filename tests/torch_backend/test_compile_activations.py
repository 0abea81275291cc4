"""Activations and bounds: in double, at infinities and NaN, and far from 0."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from side_by_side import captured
from torch.nn import functional

INF, NAN = float("inf"), float("nan")
X = torch.tensor([-INF, -800, -40, -20, -3, -1, -1e-9, 0, 1e-9, 1, 3, 19, 20, 21, 800, INF, NAN]).double()

ACTIVATIONS = {
    "softplus": functional.softplus,
    "softplus_scaled": lambda x: functional.softplus(x, 2.5, 7.0),
    "logsigmoid": functional.logsigmoid,
    "mish": functional.mish,
    "leaky_relu": functional.leaky_relu,
    "hardsigmoid": functional.hardsigmoid,
    "hardswish": functional.hardswish,
    "clamp_min": lambda x: x.clamp(min=0.5),
    "clamp_max": lambda x: x.clamp(max=0.5),
    "clamp_min_of_a_number": lambda x: torch.clamp_min(x, 0.5),
    "clamp_max_of_a_number": lambda x: torch.clamp_max(x, 0.5),
    "clamp_min_of_a_tensor": lambda x: torch.clamp(x, min=torch.zeros(())),
    "clamp_of_tensors": lambda x: torch.clamp(x, torch.full_like(x, -0.5), torch.full_like(x, 0.5)),
    "clamp_of_integers": lambda x: x.nan_to_num(0.0, 7.0, -7.0).to(torch.int64).clamp(min=2),
}


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("name", sorted(ACTIVATIONS))
def test_activations(name: str, dtype: torch.dtype) -> None:
    compute: Callable[[torch.Tensor], torch.Tensor] = ACTIVATIONS[name]
    captured(compute, (X.to(dtype),))


def test_softplus_keeps_its_digits_where_it_is_small() -> None:
    small = torch.linspace(-40, -30, 9, dtype=torch.float64)
    compiled = torch.compile(functional.softplus, backend="optc")
    torch.testing.assert_close(compiled(small), functional.softplus(small), rtol=1e-14, atol=0)


def test_in_bfloat16() -> None:
    captured(lambda x: functional.softplus(x) + functional.mish(x), (X[3:12].bfloat16(),))
