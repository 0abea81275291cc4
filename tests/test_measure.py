"""Timing statistics, on a clock that only moves when the contestants move it."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest

from optc.measure import Timing, over_sessions, paired


class Machine:
    """A clock, and calls that take time on it: a base cost times the machine's present slowness."""

    def __init__(self) -> None:
        self.now, self.slowness, self.log = 0.0, 1.0, list[str]()

    def clock(self) -> float:
        return self.now

    def call(self, name: str, seconds: float) -> Callable[[], None]:
        def run() -> None:
            self.log.append(name)
            self.now += seconds * self.slowness

        return run


def test_ratio_and_medians_of_known_costs() -> None:
    machine = Machine()
    calls = {"a": machine.call("a", 0.002), "b": machine.call("b", 0.001)}
    timing = paired(calls, seconds=1.0, clock=machine.clock)
    assert timing.median("a") == pytest.approx(0.002)
    found = timing.ratio("a", "b")
    assert (found.ratio, found.low, found.high) == pytest.approx((2.0, 2.0, 2.0))


def test_a_machine_that_slows_down_falls_on_all_alike() -> None:
    machine = Machine()

    def slow_down() -> None:
        machine.now += 0.001 * machine.slowness
        machine.slowness *= 1.01

    timing = paired({"a": slow_down, "b": slow_down}, seconds=1.0, clock=machine.clock)
    assert timing.rounds["a"][-1] > 2 * timing.rounds["a"][0]  # a drift that would fool unpaired means
    found = timing.ratio("a", "b")
    assert found.low <= 1.0 <= found.high and found.ratio == pytest.approx(1.0, abs=0.015)


def test_both_orders_come_equally_often() -> None:
    machine = Machine()
    paired({"a": machine.call("a", 0.01), "b": machine.call("b", 0.01)}, seconds=0.4, clock=machine.clock)
    turns = [tuple(machine.log[i : i + 2]) for i in range(6, len(machine.log), 2)]  # after the warm-up
    assert len(turns) >= 10
    assert abs(turns.count(("a", "b")) - turns.count(("b", "a"))) <= 1


def test_short_calls_are_repeated_and_long_ones_are_not() -> None:
    machine = Machine()
    timing = paired(
        {"short": machine.call("short", 2e-5), "long": machine.call("long", 0.02)},
        seconds=0.2,
        clock=machine.clock,
    )
    rounds = len(timing.rounds["short"])
    assert machine.log.count("short") == 3 + 50 * rounds  # a millisecond's worth
    assert machine.log.count("long") == 3 + rounds
    assert timing.median("short") == pytest.approx(2e-5)


def test_the_time_budget_holds_and_long_calls_get_two_rounds() -> None:
    machine = Machine()
    paired({"a": machine.call("a", 0.001)}, seconds=0.5, clock=machine.clock)
    assert machine.now == pytest.approx(0.2, abs=0.31)  # at most the budget, or all rounds done
    slow = Machine()
    timing = paired({"a": slow.call("a", 5.0), "b": slow.call("b", 5.0)}, seconds=0.5, clock=slow.clock)
    assert len(timing.rounds["a"]) == 2 and slow.log.count("a") == 3


def test_few_rounds_have_no_interval() -> None:
    rounds = {"a": np.full(5, 2.0), "b": np.ones(5)}
    found = Timing(rounds).ratio("a", "b")
    assert found.ratio == 2.0 and (found.low, found.high) == (0.0, math.inf)


def test_order_statistics_hold_their_level() -> None:
    """The interval of the median has to contain it in 95% of cases, whatever the distribution."""
    generator = np.random.default_rng(0)
    held = 0
    for _ in range(400):
        timing = Timing({"a": generator.lognormal(0.0, 0.3, 15), "b": np.ones(15)})
        found = timing.ratio("a", "b")
        held += found.low <= 1.0 <= found.high
    assert held / 400 > 0.93


def test_sessions_of_one_model_are_not_told_apart() -> None:
    """Differences of up to 5% between sessions: the level of the interval has to hold with three of them."""
    generator = np.random.default_rng(1)
    held = 0
    for _ in range(400):
        found = over_sessions(list(generator.normal(0.0, 0.025, 3)))
        held += found.low <= 1.0 <= found.high
    assert held / 400 > 0.93


def test_a_clear_gain_shows_with_three_sessions() -> None:
    found = over_sessions([math.log(0.85), math.log(0.86), math.log(0.84)])
    assert found.high < 1.0 and found.ratio == pytest.approx(0.85, abs=0.001) and found.count == 3


def test_one_session_proves_nothing() -> None:
    found = over_sessions([math.log(0.5)])
    assert found.ratio == pytest.approx(0.5) and (found.low, found.high) == (0.0, math.inf)
