"""Which sites to quantize: the most gain whose errors fit together into what is allowed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

_STEPS_PER_ITEM, _LEAST_STEPS = 64, 2048  # of the budget: what rounding up may waste is below 2% of it


@dataclass(frozen=True)
class Option:
    """One way to compute an item.

    Attributes:
        gain: what it saves over the first option, in any unit.
        cost: what it takes of the budget; infinity where it must not be taken.
    """

    gain: float
    cost: float


def assign(items: Sequence[Sequence[Option]], budget: float) -> list[int]:
    """The index of the option of each item: the largest sum of gains whose costs stay within ``budget``.

    Costs are rounded up to steps of the budget, so the budget always holds, and the sum is the best for the
    rounded costs (a multiple-choice knapsack by dynamic programming, as MC-MoE assigns bits). The first
    option of every item has cost 0.
    """
    steps = max(_LEAST_STEPS, _STEPS_PER_ITEM * len(items))
    best = np.zeros(steps + 1)  # by steps spent at most
    taken = np.zeros((len(items), steps + 1), np.int64)
    for number, options in enumerate(items):
        before = best.copy()
        best += options[0].gain
        for index, option in enumerate(options[1:], 1):
            size = _steps(option.cost, budget, steps)
            if size is None:
                continue
            with_it = np.full(steps + 1, -np.inf)
            with_it[size:] = before[: steps + 1 - size] + option.gain
            better = with_it > best
            best[better], taken[number, better] = with_it[better], index
    return _read(items, taken, budget, steps)


def _steps(cost: float, budget: float, steps: int) -> int | None:
    """A cost in steps, rounded up; None when it is above the budget."""
    if not 0.0 <= cost <= budget:
        return None
    return min(int(np.ceil(cost / budget * steps)), steps) if cost else 0


def _read(items: Sequence[Sequence[Option]], taken: np.ndarray, budget: float, steps: int) -> list[int]:
    left, chosen = steps, []
    for number in reversed(range(len(items))):
        index = int(taken[number, left])
        chosen.append(index)
        left -= (_steps(items[number][index].cost, budget, steps) or 0) if index else 0
    return chosen[::-1]
