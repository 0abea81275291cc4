"""Numbers of Python that follow from sizes, arguments and contents: they have the digits of double."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from side_by_side import captured
from torch.nn import functional

from optc.torch_backend import FallbackWarning, reset_stats, stats

X = torch.arange(101.0)


def to_the_last_digits(function: Callable[..., Any], *calls: tuple[Any, ...]) -> None:
    """The backend itself does not compare with eager mode here."""
    compiled = torch.compile(function, backend="optc", dynamic=True, options={"check": False})
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("error", FallbackWarning)
        for arguments in calls:
            found, expected = compiled(*arguments), function(*arguments)
            torch.testing.assert_close(found, expected, rtol=1e-15, atol=0)
    assert stats().artifact_calls == len(calls)


def test_sizes_made_with_fractions() -> None:
    """100 * 0.29 is less than 29, and 29 in float32."""

    def function(x: Any) -> Any:
        length = x.shape[0]
        return x[: int(length * 0.29)] * 2, x + math.floor(length * 0.57), x[math.ceil(length / 3) :] * 2

    captured(function, *[(X[:length],) for length in (20, 50, 100, 101)], dynamic=True)


def test_fractions_of_sizes() -> None:
    def function(x: Any) -> Any:
        length = x.shape[0]
        return x * (length / 7), x + length**0.5 + 2.5**length, x - (length / 7 % 0.4), x * (length % 7)

    to_the_last_digits(function, *[(X[:length].double(),) for length in (20, 50, 101)])


USES: dict[str, Callable[..., Any]] = {
    "times": lambda x, s: x * (s * 0.1),
    "from": lambda x, s: s - x,
    "filled": lambda x, s: x.masked_fill(x > 3, s),
    "clamped": lambda x, s: x.clamp(max=s),
    "chosen": lambda x, s: torch.where(x > 3, x, s),
    "hardtanh": lambda x, s: functional.hardtanh(x, -s, s),
    "alpha": lambda x, s: torch.add(x, x, alpha=s),
    "made": lambda x, s: (torch.full((3,), s), torch.full_like(x, s), torch.tensor(s)),
}


@pytest.mark.parametrize("name", USES)
def test_arguments_beside_tensors(name: str) -> None:
    """They have all their digits, and do not decide on the type."""
    for x in (X.double(), X, X.half()):
        torch._dynamo.reset()
        captured(USES[name], *[(x, number) for number in (0.1, 2.9)], dynamic=True)
    torch._dynamo.reset()
    reset_stats()
    to_the_last_digits(USES[name], *[(X.double(), number) for number in (0.1, 1 / 3, 2.9)])


def test_ranges_with_fractions() -> None:
    """2.1 / 0.7 is 3.0000000000000004 in double, and 3 in float32."""

    def function(x: Any) -> Any:
        known = torch.arange(0, 0.9, 0.3), torch.arange(0, 2.1, 0.7, dtype=torch.float64)
        half = torch.arange(1, 2, 0.1, dtype=torch.float16)
        return *known, half, torch.arange(0, x.shape[0] * 0.3, 0.1, dtype=x.dtype), torch.arange(0.7), x * 2

    to_the_last_digits(function, *[(X[:length].double(),) for length in (3, 7, 9, 10)])


def test_results_that_are_numbers() -> None:
    def function(x: Any, number: int, fraction: float) -> Any:
        return number / 3, number * 0.1, (number + 1) ** 0.5, fraction * 2, fraction / 3, x + number

    to_the_last_digits(function, (X, 2, 0.1), (X, 5, 0.7), (X, 2**40, 1e9 + 0.3))


def test_numbers_read_out_of_tensors() -> None:
    with torch._dynamo.config.patch(capture_scalar_outputs=True):
        to_the_last_digits(lambda x: x * (x.sum().item() / 3), (X.double(),), (X[:50].double(),))


def test_filled_in_place() -> None:
    to_the_last_digits(lambda x: (x * 2).fill_(0.1), (X.double(),))
