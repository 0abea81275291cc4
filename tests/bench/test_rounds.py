"""The statistics of `optc bench`, on contestants whose true cost and noise are known."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

import numpy as np
import pytest

from optc.bench.rounds import Found, contest, verdict
from optc.measure import Ratio


class Machine:
    """A clock that only its contestants move: drifting, and with a noise for each session and each block."""

    def __init__(self, costs: dict[str, float], seed: int, between: float, within: float) -> None:
        self.now, self.costs = 0.0, costs
        self.random, self.between, self.within = np.random.default_rng(seed), between, within
        self.log: list[str] = []

    def clock(self) -> float:
        return self.now

    @contextmanager
    def start(self, name: str) -> Iterator[Simulated]:
        yield Simulated(self, name)


class Simulated:
    """A process on that machine: as slow, for as long as it lives, as where its memory happens to lie."""

    def __init__(self, machine: Machine, name: str) -> None:
        self._machine, self._name = machine, name
        self._cost = machine.costs[name] * float(np.exp(machine.random.normal(0, machine.between)))

    def open(self) -> float:
        self._machine.now += 1.0
        return 1.0

    def block(self, calls: int, warm: int) -> float:
        machine = self._machine
        drift = 1 + 0.3 * np.sin(machine.now / 7)
        cost = self._cost * float(drift * np.exp(machine.random.normal(0, machine.within)))
        machine.now += cost * (calls + warm)
        machine.log.append(self._name)
        return cost

    def peak(self) -> int:
        return 10**6


def _measured(costs: dict[str, float], seed: int, between: float = 0.03, within: float = 0.05) -> Found:
    machine = Machine(costs, seed, between, within)
    names = list(costs)
    found = contest(names, machine.start, sessions=range(7), seconds=0.5, seed=seed, clock=machine.clock)
    return found[names[1]]


def test_a_model_and_itself_are_no_different() -> None:
    verdicts = [verdict(_measured({"a": 0.01, "b": 0.01}, seed).speedup) for seed in range(60)]
    assert verdicts.count("no difference") >= 57  # an interval that holds in 98% of cases


def test_1_3_times_is_seen_through_the_noise_in_both_directions() -> None:
    for seed in range(20):
        fast = _measured({"a": 0.013, "b": 0.010}, seed).speedup
        slow = _measured({"a": 0.010, "b": 0.013}, seed).speedup
        assert verdict(fast) == "faster" and fast.ratio == pytest.approx(1.3, rel=0.08)
        assert verdict(slow) == "slower" and slow.ratio == pytest.approx(1 / 1.3, rel=0.08)


def test_the_interval_holds_the_true_ratio() -> None:
    held = 0
    for seed in range(60):
        found = _measured({"a": 0.011, "b": 0.010}, seed).speedup
        held += found.low <= 1.1 <= found.high
    assert held >= 56


def test_a_session_that_was_disturbed_does_not_move_the_ratio() -> None:
    found = Found(ratios=[1.3, 1.31, 1.29, 1.3, 1.32, 1.28, 40.0])
    assert found.speedup.ratio == 1.3


@pytest.mark.parametrize(
    ("ratio", "expected"),
    [
        (Ratio(1.3, 1.25, 1.35, 7), "faster"),
        (Ratio(0.8, 0.75, 0.85, 7), "slower"),
        (Ratio(1.3, 0.9, 1.7, 7), "no difference"),
        (Ratio(1.004, 1.003, 1.005, 7), "no difference"),  # narrow, but less than a process may differ by
        (Ratio(1.3, 0.0, float("inf"), 5), "too few sessions"),
    ],
)
def test_verdicts(ratio: Ratio, expected: str) -> None:
    assert verdict(ratio) == expected


def test_every_session_is_fresh_and_they_take_turns() -> None:
    machine = Machine({"a": 0.01, "b": 0.3}, 0, 0.0, 0.0)
    opened: list[str] = []
    looked: list[set[str]] = []

    def start(name: str) -> AbstractContextManager[Simulated]:
        opened.append(name)
        return machine.start(name)

    look: Callable[..., None] = lambda runners: looked.append(set(runners))  # noqa: E731
    found = contest(["a", "b"], start, sessions=range(2), seconds=0.0, look=look, clock=machine.clock)
    assert sorted(opened) == ["a", "a", "b", "b"] and looked == [{"a", "b"}] * 2
    assert len(machine.log) == 2 * (2 + 2 * 3)  # one block each to size the others, then three rounds
    assert all(set(machine.log[i : i + 2]) == {"a", "b"} for i in range(0, len(machine.log), 2))
    assert len(found["a"].seconds) == len(found["a"].load) == len(found["a"].peak) == 2
