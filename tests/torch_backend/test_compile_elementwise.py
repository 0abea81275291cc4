"""Elementwise operators at NaN, infinities, zeros of both signs, and where digits cancel, in every type."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.nn import functional

from optc.torch_backend import FallbackWarning, stats

INF, NAN = float("inf"), float("nan")
X = torch.tensor(
    [
        -INF,
        -1e30,
        -100.5,
        -20,
        -2.5,
        -1,
        -0.9,
        -0.3,
        -1e-8,
        -0.0,
        0,
        1e-20,
        1e-8,
        0.1,
        0.5,
        0.9,
        1,
        3.5,
        20,
        INF,
        NAN,
    ]
).double()
N = torch.tensor([-(2**24) - 1, -128, -7, -3, -1, 0, 1, 2, 3, 7, 100, 2**24 + 1])
DIVISORS = torch.tensor([-7, -3, -1, 1, 2, 3, 2**20 + 1])
SLOPES = torch.linspace(0.1, 0.7, 7).double()
Function = Callable[..., Any]

ONE: dict[str, Function] = {
    "sign": torch.sign,
    "signbit": torch.signbit,
    "isnan": torch.isnan,
    "isinf": torch.isinf,
    "isfinite": torch.isfinite,
    "log2": torch.log2,
    "log10": torch.log10,
    "deg2rad": torch.deg2rad,
    "nan_to_num": torch.nan_to_num,
    "logit": lambda x: torch.logit(x, 1e-3),
    "sinc": lambda x: torch.sinc(x / 2 + 0.1),
    "abs": torch.abs,
    "times": lambda x: x * 0.3,
    "plus a little": lambda x: 0.3 / (x.abs() + 1e-8),
    "minus a little": lambda x: 0.3 / (x.abs() - 1e-9),
    "filled": lambda x: x + torch.full_like(x, 0.3) + torch.full((2, 1), 0.7, dtype=x.dtype),
    "hardtanh": lambda x: functional.hardtanh(x, -0.3, 0.7),
    "threshold": lambda x: functional.threshold(x, 0.1, 20.0),
    "remainder": lambda x: x % 0.3,
    "of a number": lambda x: 7 % x,
    "floor_divide": lambda x: x // 0.1,
    "halves": lambda x: x // 0.5,
}
TWO: dict[str, Function] = {
    "floor": lambda a, b: torch.div(a, b, rounding_mode="floor"),
    "trunc": lambda a, b: torch.div(a, b, rounding_mode="trunc"),
    "remainder": torch.remainder,
    "atan2": torch.atan2,
    "hypot": torch.hypot,
    "copysign": torch.copysign,
    "fmax": torch.fmax,
    "fmin": torch.fmin,
    "xlogy": torch.xlogy,
    "heaviside": torch.heaviside,
    "isclose": torch.isclose,
}
SUMS: dict[str, Function] = {
    "logaddexp": torch.logaddexp,
    "logaddexp2": torch.logaddexp2,
    "addcmul": lambda a, b: torch.addcmul(a, a, b, value=0.3),
    "addcdiv": lambda a, b: torch.addcdiv(a, a, b, value=0.3),
}
IN_DOUBLE: dict[str, Function] = {
    "elu": functional.elu,
    "selu": functional.selu,
    "celu": lambda x: functional.celu(x, 0.7),
    "sigmoid": torch.sigmoid,
    "silu": functional.silu,
    "gelu": lambda x: functional.gelu(x[4:], approximate="tanh"),
    "prelu": lambda x: functional.prelu(x.reshape(3, 7, 1), SLOPES),
}
WHOLE: dict[str, Function] = {
    "floor_divide": torch.floor_divide,
    "floor": lambda a, b: torch.div(a, b, rounding_mode="floor"),
    "trunc": lambda a, b: torch.div(a, b, rounding_mode="trunc"),
    "remainder": torch.remainder,
}
STEPS = {torch.float64: 16, torch.float32: 16, torch.float16: 2, torch.bfloat16: 2}


def exactly(functions: dict[str, Function], *given: torch.Tensor) -> None:
    """As eager mode to a few rounding steps; the backend itself does not compare with it here."""

    def all_of_them(*given: torch.Tensor) -> dict[str, Any]:
        return {name: function(*given) for name, function in functions.items()}

    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("error", FallbackWarning)
        found = torch.compile(all_of_them, backend="optc", options={"check": False})(*given)
        expected = all_of_them(*given)
    assert stats().artifact_calls >= 1
    for name, value in expected.items():
        _assert_close(found[name], value, name)


def _assert_close(found: torch.Tensor, expected: torch.Tensor, name: str) -> None:
    assert found.dtype == expected.dtype, name
    bounds = {"rtol": 0.0, "atol": 0.0}
    if expected.dtype.is_floating_point:
        limits, steps = torch.finfo(expected.dtype), STEPS[expected.dtype]
        bounds = {"rtol": steps * limits.eps, "atol": steps * float(limits.smallest_normal)}
    torch.testing.assert_close(found, expected, equal_nan=True, msg=lambda text: f"{name}: {text}", **bounds)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_of_one(dtype: torch.dtype) -> None:
    exactly(ONE, X.to(dtype))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_of_two(dtype: torch.dtype) -> None:
    """All pairs, without the largest numbers: there eager mode itself depends on where a number lies."""
    some = X[[0, *range(2, len(X))]].to(dtype)
    pairs = torch.cartesian_prod(some, some)
    without = {"atan2"} if dtype == torch.float64 else set()  # the runtime has no arctangent in double
    exactly({name: f for name, f in TWO.items() if name not in without}, *pairs.T.contiguous().unbind())


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_sums_that_do_not_cancel(dtype: torch.dtype) -> None:
    given = torch.cartesian_prod(X, X).to(dtype).add(3.25).abs()
    exactly(SUMS, *given.T.contiguous().unbind())


def test_in_half_precision() -> None:
    given = torch.tensor([-INF, -2.5, -1, -0.3, 0, 0.5, 0.9, 1, 3.5, INF, NAN]).half()
    exactly({name: ONE[name] for name in ("sign", "signbit", "abs", "sinc", "halves", "logit")}, given)


def test_abs_of_bfloat16_keeps_its_type() -> None:
    exactly({"abs": torch.abs}, X.bfloat16())


@pytest.mark.parametrize("dtype", [torch.int64, torch.int32])
def test_of_whole_numbers(dtype: torch.dtype) -> None:
    """Not by way of float32, which has 24 bits."""
    exactly(WHOLE, *torch.cartesian_prod(N, DIVISORS).to(dtype).T.contiguous().unbind())


@pytest.mark.parametrize("dtype", [torch.int64, torch.uint8])
def test_what_whole_numbers_never_are(dtype: torch.dtype) -> None:
    kinds = (torch.isnan, torch.isinf, torch.isfinite, torch.floor, torch.round, torch.neg, torch.signbit)
    functions: dict[str, Function] = {kind.__name__: kind for kind in kinds}
    exactly(functions, torch.arange(5).to(dtype))
    exactly(functions, torch.tensor(3).to(dtype))


def test_means_in_another_type() -> None:
    """Taken in it, and not only cast to it."""
    functions: dict[str, Function] = {
        "wider": lambda x: x.mean(-1, dtype=torch.float64),
        "several": lambda x: x.mean((0, 1), keepdim=True, dtype=torch.float64),
        "of one": lambda x: x[0, 0].mean(0, dtype=torch.float64),
        "of whole numbers": lambda x: x.mul(100).long().mean(0, dtype=torch.float64),
    }
    exactly(functions, torch.linspace(-1000, 1001, 28).reshape(4, 7))


def test_two_ranges_that_do_not_meet() -> None:
    functions: dict[str, Function] = {
        "clamps": lambda x: x.clamp(0, 1).clamp(2, 3),
        "relu": lambda x: torch.relu(x.clamp(-3, -1)),
    }
    exactly(functions, X.float())


def test_what_is_taken_times_0_does_not_matter() -> None:
    """Memory that nobody has written may hold NaN."""
    functions: dict[str, Function] = {
        "baddbmm": lambda a, x: torch.baddbmm(a, x, x, beta=0, alpha=0.3),
        "addmv": lambda a, x: torch.addmv(a[0, 0], x[0], x[0, 0], beta=0),
        "addmm": lambda a, x: torch.addmm(a[0], x[0], x[0], beta=0),
        "all": lambda a, x: torch.baddbmm(x, x, x, beta=0.3, alpha=0.7),
    }
    exactly(functions, torch.full((2, 3, 3), NAN).double(), torch.arange(18).reshape(2, 3, 3).double())


def test_activations_in_double() -> None:
    exactly(IN_DOUBLE, X)
