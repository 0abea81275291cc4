"""log1p and expm1 keep their digits where they are small, and their ends."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from side_by_side import captured

from optc.torch_backend import stats

INF, NAN = float("inf"), float("nan")
ENDS = torch.tensor([-INF, -1e30, -100, -1, -0.0, 0, 1e-45, 5e-324, 88.7, 709.7, 1e30, INF, NAN]).double()
SMALL = torch.logspace(-44, 1, 400, dtype=torch.float64)
WIDE = torch.cat([ENDS, SMALL, -SMALL, torch.linspace(-1.5, 1.5, 400).double()])
FUNCTIONS = {"log1p": torch.log1p, "expm1": torch.expm1}
STEPS = {torch.float64: 8, torch.float32: 8, torch.float16: 1, torch.bfloat16: 1}


@pytest.mark.parametrize("dtype", STEPS)
@pytest.mark.parametrize("name", FUNCTIONS)
def test_to_the_last_digits(name: str, dtype: torch.dtype) -> None:
    """Within a few rounding steps of the exact value at every size; NaN, infinities and the sign of 0."""
    compute: Callable[[torch.Tensor], torch.Tensor] = FUNCTIONS[name]
    given = WIDE.to(dtype)
    with torch.no_grad():
        found = torch.compile(compute, backend="optc")(given)
    exact = compute(given.double()).to(dtype)
    assert stats().fallbacks == 0, stats().reasons
    limits = torch.finfo(dtype)
    torch.testing.assert_close(
        found, exact, rtol=STEPS[dtype] * limits.eps, atol=limits.smallest_normal, equal_nan=True
    )
    zero = given == 0
    assert torch.equal(found[zero].signbit(), given[zero].signbit())


@pytest.mark.parametrize("dtype", [torch.int64, torch.uint8, torch.bool])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_of_whole_numbers(name: str, dtype: torch.dtype) -> None:
    captured(FUNCTIONS[name], (torch.tensor([0, 1, 3, 40]).to(dtype),))


@pytest.mark.parametrize("name", FUNCTIONS)
def test_of_nothing_and_of_one_number(name: str) -> None:
    captured(FUNCTIONS[name], (torch.zeros(0, 3),))
    captured(FUNCTIONS[name], (torch.tensor(1e-9),))
