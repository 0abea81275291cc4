"""Runs a function in eager mode and through the backend, and compares everything that can be seen."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch.utils import _pytree

from optc.torch_backend import Stats, stats

X = torch.linspace(-2, 2, 24).reshape(2, 3, 4)


def agree(function: Callable[..., Any], *calls: tuple[Any, ...], **options: Any) -> Stats:
    """Calls with each tuple of arguments; results, and inputs after the call, must be those of eager mode."""
    compiled = torch.compile(function, backend="optc", **options)
    with torch.no_grad():
        for arguments in calls:
            ours, theirs = copy.deepcopy(arguments), copy.deepcopy(arguments)
            same((compiled(*ours), ours), (function(*theirs), theirs))
    return stats()


def captured(function: Callable[..., Any], *calls: tuple[Any, ...], **options: Any) -> Stats:
    """The same, and nothing may run in eager mode."""
    found = agree(function, *calls, **options)
    assert found.fallbacks == 0, found.reasons
    assert found.graphs >= 1
    return found


def same(actual: Any, expected: Any) -> None:
    """Structure, types, shapes and values; half precision to the rounding of a few steps."""
    got, got_spec = _pytree.tree_flatten(actual)
    want, want_spec = _pytree.tree_flatten(expected)
    assert got_spec == want_spec
    for a, b in zip(got, want, strict=True):
        if not isinstance(b, torch.Tensor):
            assert type(a) is type(b) and a == b
            continue
        half = b.dtype in (torch.float16, torch.bfloat16)
        bounds = {"rtol": 2e-2, "atol": 2e-2} if half else {"rtol": 1e-4, "atol": 1e-5}
        torch.testing.assert_close(a, b, equal_nan=True, **bounds)
