"""Nearest pixels: the very ones that torch takes, also where sizes and factors round."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from side_by_side import captured
from torch.nn.functional import interpolate

UPSAMPLE = torch.ops.aten.upsample_nearest2d


def pixels(*size: int) -> torch.Tensor:
    return torch.rand(1, 2, *size)


def test_to_sizes_that_are_not_known() -> None:
    sizes = [(8, 9, 5, 7), (200, 200, 60, 61), (41, 49, 123, 98), (11, 7, 22, 28)]
    calls = [(pixels(a, b), pixels(c, d)) for a, b, c, d in sizes]
    captured(lambda x, like: interpolate(x, size=like.shape[2:]), *calls, dynamic=True)


@pytest.mark.parametrize("factor", [0.3, 0.29, 1.04, 2.0, 3.0])
@pytest.mark.parametrize("mode", ["nearest", "nearest-exact"])
def test_by_factors(factor: float, mode: str) -> None:
    """100 * 0.29 is less than 29, and rows that 1.04 leaves as many as they are stay what they are."""
    calls = [(pixels(*size),) for size in ((20, 30), (100, 10), (25, 57))]
    captured(lambda x: interpolate(x, scale_factor=factor, mode=mode), *calls, dynamic=True)


KNOWN: dict[str, tuple[Callable[..., Any], torch.Tensor]] = {
    "a line": (lambda x: interpolate(x, size=60), torch.rand(1, 2, 200)),
    "a volume": (lambda x: interpolate(x, scale_factor=1.3), torch.rand(1, 2, 5, 6, 7)),
    "doubles": (lambda x: interpolate(x, size=(3, 9)), pixels(5, 7).double()),
    "bytes": (lambda x: interpolate(x, size=(3, 9)), torch.arange(70, dtype=torch.uint8).view(1, 2, 5, 7)),
    "powers of 2": (lambda x: (interpolate(x, size=(10, 28)), interpolate(x, size=(5, 7))), pixels(5, 7)),
    "sizes and factors": (lambda x: UPSAMPLE(x, [6, 17], 1.3, 2.5), pixels(5, 7)),
    "factors that are powers of 2": (lambda x: UPSAMPLE(x, [10, 28], 2.0, 4.0), pixels(5, 7)),
}


@pytest.mark.parametrize("name", KNOWN)
def test_of_known_sizes(name: str) -> None:
    function, given = KNOWN[name]
    captured(function, (given,))
