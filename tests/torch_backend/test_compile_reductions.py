"""Reductions of nothing, of booleans and to the same place; softmaxes in another type; what is not real."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import pytest
import torch
from side_by_side import X, agree, captured

from optc.torch_backend import stats

INF, NAN = float("inf"), float("nan")
NOTHING = torch.ones(3, 0)


def test_whether_any_or_all_are_true() -> None:
    """Of nothing, none is; ONNX Runtime's largest of nothing would be true."""

    def truths(x: torch.Tensor) -> list[torch.Tensor]:
        asked = (torch.any, torch.all)
        return [ask(x, *axes) for ask in asked for axes in ((), (0,), (-1,), ((0, 1),))] + [
            ask(x, 1, keepdim=True) for ask in asked
        ]

    flags = torch.tensor([[0, 0, 1], [1, 1, 1], [0, 0, 0]])
    captured(truths, (flags,), (flags.bool(),), (flags.float() * NAN,), (NOTHING,), (flags[:0],))
    captured(truths, (flags.byte(),))  # torch answers in bytes then
    captured(lambda x: (x.any(), x.all(), x.any(0), x.all(-1)), (torch.tensor(2.0),))


def test_booleans_are_chosen_and_filled() -> None:
    """ONNX Runtime has no kernel that chooses between them; masks are often made so."""
    a, b = torch.tensor([[True, False], [True, False]]), torch.tensor([True, True])
    captured(lambda a, b: torch.where(a, b, ~a), (a, b))
    captured(lambda a, b: (torch.where(a > 0, b, False), torch.where(a < 1, True, b)), (a.float(), b))
    captured(lambda a, b: (a.masked_fill(b, True), a.masked_fill(~b, 0), a.masked_fill(a, b[0])), (a, b))
    captured(lambda a, b: (torch.where(a, 1.0, 2.0), torch.where(a, b, 3)), (a, b))


def test_means_of_nothing_are_nan() -> None:
    captured(lambda x: (x.mean(), x.mean(1), x.mean(0), x.mean((0, 1), keepdim=True)), (NOTHING,))
    captured(lambda x: (x.mean(), x.mean(dim=None), x.mean(dtype=torch.float64)), (X,))
    captured(lambda x: (x.mean(), x.mean(0)), (torch.tensor(2.0),))


@pytest.mark.parametrize("function", [torch.softmax, torch.log_softmax])
def test_softmaxes_in_another_type(function: Callable[..., torch.Tensor]) -> None:
    """The type is that in which they are taken: 5e4 and 7e4 are one infinity in half precision."""
    numbers = torch.tensor([[3, 1, -2], [4, 4, 0]])
    captured(lambda x: function(x, -1, dtype=torch.float32), (numbers,), (numbers.double() * 1e3 + 0.3,))
    captured(lambda x: function(x, 0, dtype=torch.float32), (torch.tensor(2, dtype=torch.int32),))
    exact = agree(lambda x: function(x.half(), -1, dtype=torch.float64), (X,))
    assert exact.fallbacks == 0


@pytest.mark.parametrize("kept", [True, False])
@pytest.mark.parametrize("reduce", ["sum", "prod", "mean", "amax", "amin"])
def test_several_are_scattered_to_one_place(reduce: str, kept: bool) -> None:
    index = torch.tensor([[0, 1, 0, 2], [2, 2, 1, 0], [0, 1, 2, 2]])

    def scattered(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return x.scatter_reduce(1, index, y, reduce=reduce, include_self=kept)

    source = torch.randn(3, 4)
    captured(scattered, (X[0], source), (X[1], source - 5), (X[1], torch.full_like(source, -INF)))


@pytest.mark.parametrize("dynamic", [None, True])
def test_of_more_than_has_places_the_first_are_scattered(dynamic: bool | None) -> None:
    index, given = torch.tensor([[2, 0], [1, 1]]), torch.arange(12.0).reshape(3, 4)

    def function(x: Any, index: Any, src: Any) -> Any:
        placed = x.scatter(1, index, src), x.scatter_add(0, index % 2, src)
        return *placed, x.scatter_reduce(1, index, src, "amax", include_self=False)

    captured(function, (torch.zeros(2, 3), index, given), dynamic=dynamic)


def test_booleans_are_added_and_raised_to_powers() -> None:
    """A sum of them is whether one is true, a power is a whole number."""
    truths, others = torch.tensor([True, True, False, False]), torch.tensor([True, False, True, False])

    def function(a: Any, b: Any) -> Any:
        return a + b, a + True, torch.add(a, b, alpha=0), a * b, a**2, torch.square(b)

    captured(function, (truths, others))


def test_traces_beside_infinities() -> None:
    captured(lambda x: x.trace(), (torch.tensor([[1.0, INF, 2], [NAN, 2, 3]]),))
    captured(lambda x: x.trace(), (torch.tensor([[1, 2], [3, 4], [5, 6]], dtype=torch.uint8),))


def test_both_extremes() -> None:
    captured(
        lambda x: (torch.aminmax(x), torch.aminmax(x, dim=1), torch.aminmax(x, dim=-1, keepdim=True)), (X,)
    )


@pytest.mark.parametrize("name", ["hann", "hamming", "blackman", "bartlett", "kaiser"])
def test_windows(name: str) -> None:
    make = getattr(torch, f"{name}_window")
    types = (torch.float32, torch.float64)
    for periodic, dtype in itertools.product((True, False), types):
        captured(lambda x, p=periodic, d=dtype: x * make(4, periodic=p, dtype=d), (X.to(dtype),))


def test_powers_of_negative_numbers() -> None:
    """Torch's own code for such a graph reads -(2 ** x)."""
    x = torch.tensor([-3.0, -0.5, 0, 2, 3, NAN])
    captured(lambda x: ((-2) ** x, (-1.5) ** x, 2**x, x**2), (x,))
    with pytest.warns(UserWarning):
        agree(lambda x: (-2) ** x + torch.special.gammainc(x.abs(), x.abs()), (x,))


def test_complex_results_stay_with_torch() -> None:
    captured(lambda x: torch.fft.rfft(x).abs(), (X,))
    with pytest.warns(UserWarning, match="complex results are not supported"):
        agree(lambda x: torch.fft.rfft(x), (X,))


def test_norms_over_all_axes_and_with_all_digits() -> None:
    """The stock translation forgets to keep axes that are not named, and has exponents in float32."""
    norm, x = torch.linalg.vector_norm, torch.linspace(0.3, 4, 12).double().reshape(3, 4)

    def function(x: Any) -> Any:
        orders = (0, 1, 2, 3, 0.3, -1.3, float("inf"))
        return [norm(x, p, dim=dim, keepdim=True) for p in orders for dim in (None, 1, (0, 1), ())]

    with torch.no_grad():
        found = torch.compile(function, backend="optc", options={"check": False})(x)
        for ours, theirs in zip(found, function(x), strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-14, atol=0)
    assert (stats().artifact_calls, stats().fallbacks) == (1, 0)
