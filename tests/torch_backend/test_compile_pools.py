"""Average pools with a divisor of their own, and stacks of tensors of few axes."""

from __future__ import annotations

import warnings

import pytest
import torch
from side_by_side import X, agree, captured
from torch.nn import functional

IMAGE = torch.linspace(-2, 3, 108).reshape(1, 3, 6, 6)


def test_divisors() -> None:
    def pools(x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return (
            functional.avg_pool2d(x, 2, divisor_override=3),
            functional.avg_pool2d(x, 3, 2, 1, divisor_override=7),
            functional.avg_pool2d(x, (2, 3), 2, 1, count_include_pad=False),
            functional.avg_pool3d(x[None], 2, padding=1, divisor_override=5),
        )

    captured(pools, (IMAGE,))


def test_a_divisor_where_windows_end_beyond_the_padding_stays_in_eager_mode() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = agree(lambda x: functional.avg_pool2d(x, 4, ceil_mode=True, divisor_override=3), (IMAGE,))
    assert found.fallbacks == 1


@pytest.mark.parametrize("stack", [torch.hstack, torch.vstack, torch.dstack, torch.column_stack])
def test_stacks(stack: object) -> None:
    assert callable(stack)
    captured(lambda x: (stack([x[0], x[1]]), stack([x[0, 0], x[1, 0]]), stack((x, x))), (X,))
