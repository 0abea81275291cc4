"""The knapsack against all assignments, tried one by one."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import numpy as np
import pytest

from optc.passes.quantize.choice.knapsack import Option, assign

FLOAT = Option(0.0, 0.0)


def best(items: Sequence[Sequence[Option]], budget: float) -> float:
    """The largest sum of gains that fits."""
    sums = [
        sum(option.gain for option in taken)
        for taken in itertools.product(*items)
        if sum(option.cost for option in taken) <= budget
    ]
    return max(sums)


def sums(items: Sequence[Sequence[Option]], chosen: Sequence[int]) -> tuple[float, float]:
    taken = [options[index] for options, index in zip(items, chosen, strict=True)]
    return sum(option.gain for option in taken), sum(option.cost for option in taken)


@pytest.mark.parametrize("seed", range(20))
def test_whole_costs_are_assigned_as_well_as_possible(seed: int) -> None:
    rng = np.random.default_rng(seed)
    items = [
        [FLOAT, *(Option(float(rng.integers(0, 20)), float(rng.integers(0, 9))) for _ in range(count))]
        for count in rng.integers(1, 4, size=6)
    ]
    budget = 16.0  # its steps are whole parts of 1
    gain, cost = sums(items, assign(items, budget))
    assert cost <= budget and gain == best(items, budget)


@pytest.mark.parametrize("seed", range(20))
def test_any_costs_keep_the_budget_and_lose_less_than_rounding_them_up(seed: int) -> None:
    rng = np.random.default_rng(seed)
    items = [[FLOAT, Option(rng.random(), rng.random() ** 4)] for _ in range(10)]
    budget = float(rng.random())
    gain, cost = sums(items, assign(items, budget))
    assert cost <= budget and gain >= best(items, budget * 0.98)


def test_what_must_not_be_taken_is_not_taken() -> None:
    items = [[FLOAT, Option(5.0, math.inf)], [FLOAT, Option(5.0, math.nan)], [FLOAT, Option(1.0, 0.0)]]
    assert assign(items, 1.0) == [0, 0, 1]


def test_of_several_options_the_dearer_one_is_taken_where_it_gains_more() -> None:
    items = [[FLOAT, Option(1.0, 1.0), Option(3.0, 4.0)], [FLOAT, Option(1.0, 1.0), Option(1.5, 4.0)]]
    assert assign(items, 5.1) == [2, 1]
    assert assign(items, 2.1) == [1, 1]


def test_what_loses_stays_in_float_even_if_it_costs_nothing() -> None:
    assert assign([[FLOAT, Option(-1.0, 0.0)]], 1.0) == [0]


def test_nothing_to_choose() -> None:
    assert assign([], 1.0) == []
