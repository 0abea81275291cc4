"""Threads that call, and threads that compile, at the same time."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import torch
from side_by_side import X
from torch import nn

from optc.torch_backend import stats


def together(work: Callable[[int], None], count: int = 4) -> None:
    """Runs ``work`` in several threads; the first error of any is raised."""
    errors: list[BaseException] = []
    barrier = threading.Barrier(count)

    def guarded(number: int) -> None:
        try:
            barrier.wait()
            work(number)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=guarded, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]


def test_threads_call_one_compiled_module() -> None:
    model = nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 4)).eval()
    compiled = torch.compile(model, backend="optc")

    def work(number: int) -> None:
        x = X + number
        with torch.no_grad():
            expected = model(x)
            for _ in range(20):
                torch.testing.assert_close(compiled(x), expected)

    together(work)
    assert stats().fallbacks == 0
    assert stats().artifact_calls == 80


def test_threads_compile_different_modules() -> None:
    results: dict[int, Any] = {}

    def work(number: int) -> None:
        model = nn.Linear(4, number + 1).eval()
        with torch.no_grad():
            results[number] = torch.compile(model, backend="optc")(X), model(X)

    together(work, 3)
    for actual, expected in results.values():
        torch.testing.assert_close(actual, expected)
    assert stats().fallbacks == 0, stats().reasons
