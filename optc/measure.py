"""Interleaved paired timing: contestants take turns within milliseconds, so that what slows the machine slows
them all, and only ratios taken within a turn count.

What two identical sessions of one encoder gave on two cores, calls of 3 and 18 ms (ratio of medians, which
should be 1, and that of a rewrite whose true ratio was 1.11 and 1.14):

- both in one process with default options, interleaved: 0.76 to 1.26, and 1.07 to 1.36. The threads of the
  idle session spin for the next call on the cores that the other one needs;
- one after the other, each alone: percents apart, and anything at all while other programs run;
- interleaved without spinning: 0.99 to 1.02, but short calls take 1.3 times as long and the rewrite gets
  1.12 to 1.16: parallel kernels then wake their threads each time, and fewer kernels win more than in use;
- interleaved, spinning stopped at the end of each call: 0.99 to 1.01, and 1.11 to 1.12 and 1.13 to 1.14, as
  each session gives alone on a quiet machine. So this is what the gate does.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from optc import student

Clock = Callable[[], float]

# A block of calls shorter than this is mostly timer and scheduler.
_BLOCK_SECONDS = 1e-3
_MAX_CALLS = 1000
_MAX_ROUNDS = 200

# A call longer than this needs no second warm-up, and two rounds of it say as much as can be paid for.
_LONG_SECONDS = 0.1


@dataclass(frozen=True)
class Ratio:
    """A time ratio, the 95% interval around it, and how many independent pairs it comes from."""

    ratio: float
    low: float
    high: float
    count: int

    @property
    def interval(self) -> tuple[float, float] | None:
        """The interval; None where there were too few pairs to bound it."""
        return (self.low, self.high) if self.low > 0 and math.isfinite(self.high) else None


@dataclass(frozen=True)
class Timing:
    """Seconds per call of each contestant, one value per round."""

    rounds: Mapping[str, np.ndarray]

    def median(self, name: str) -> float:
        """Median seconds per call."""
        return float(np.median(self.rounds[name]))

    def quartile(self, name: str) -> float:
        """Lower quartile of the seconds per call: what it takes when other programs leave it alone.

        They only ever add time. Of two identical sessions this gave ratios within 1% of each other on two
        cores with seven other programs at work, where ratios of medians were off by half.
        """
        return float(np.quantile(self.rounds[name], 0.25))

    def ratio(self, over: str, under: str) -> Ratio:
        """Median of the ratios of each round, with its interval as `median_ratio` gives it."""
        return median_ratio(self.rounds[over] / self.rounds[under])


def paired(
    contestants: Mapping[str, Callable[[], object]],
    *,
    seconds: float,
    seed: int = 0,
    min_rounds: int = 3,
    clock: Clock = time.perf_counter,
) -> Timing:
    """Times all contestants in rounds for about ``seconds``, after warming each of them up.

    A round runs a block of calls of every contestant in random order, and the next round in the reverse of
    that order, so that a drift of the machine falls on all alike. Short calls are repeated until a block
    lasts a millisecond; at least ``min_rounds`` rounds (two of long calls) are run whatever they take.
    """
    started = clock()
    calls = {name: _calls_per_block(call, clock) for name, call in contestants.items()}
    names, order = list(contestants), np.random.default_rng(seed)
    if clock() - started > _LONG_SECONDS * len(names):
        min_rounds = min(min_rounds, 2)
    turn: list[str] = []
    rounds: dict[str, list[float]] = {name: [] for name in names}
    for number in range(_MAX_ROUNDS):
        if number >= min_rounds and clock() - started >= seconds:
            break
        turn = turn[::-1] if number % 2 else [names[i] for i in order.permutation(len(names))]
        for name in turn:
            rounds[name].append(_block(contestants[name], calls[name], clock))
    return Timing({name: np.array(values) for name, values in rounds.items()})


def median_ratio(ratios: np.ndarray) -> Ratio:
    """Median of independent ratios, with the order statistics that enclose it in 95% of cases.

    Nothing is assumed about how they are distributed. Below six no two order statistics do, and the interval
    is unbounded.
    """
    ordered = np.sort(ratios)
    cut = _order_statistic(len(ordered))
    low, high = (float(ordered[cut]), float(ordered[-1 - cut])) if cut is not None else (0.0, math.inf)
    return Ratio(float(np.median(ordered)), low, high, len(ordered))


def over_sessions(log_ratios: Sequence[float]) -> Ratio:
    """Geometric mean over independent sessions of log time ratios, with Student's 95% interval.

    Two sessions of one model differ by percents for as long as they live (where their memory happens to lie),
    so the spread that counts is the one between sessions: rounds within one session cannot show it.
    """
    logs = np.asarray(log_ratios, np.float64)
    mean, count = float(logs.mean()), len(logs)
    if count < 2:
        return Ratio(math.exp(mean), 0.0, math.inf, count)
    margin = student.quantile(count - 1) * float(logs.std(ddof=1)) / math.sqrt(count)
    return Ratio(math.exp(mean), math.exp(mean - margin), math.exp(mean + margin), count)


def _calls_per_block(call: Callable[[], object], clock: Clock) -> int:
    """Warms up (the first call allocates, the second plans memory) and sizes the blocks by a third call."""
    if _block(call, 1, clock) > _LONG_SECONDS:
        return 1
    call()
    return min(_MAX_CALLS, math.ceil(_BLOCK_SECONDS / max(_block(call, 1, clock), 1e-6)))


def _block(call: Callable[[], object], calls: int, clock: Clock) -> float:
    started = clock()
    for _ in range(calls):
        call()
    return (clock() - started) / calls


def _order_statistic(count: int) -> int | None:
    """The largest k for which the median lies between the k-th values from both ends 95 times in 100."""
    tail, found = 0.0, None
    for k in range(count):
        tail += math.comb(count, k) / 2**count
        if tail > 0.025:
            break
        found = k
    return found
