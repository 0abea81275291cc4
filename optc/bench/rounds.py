"""Sessions and rounds: fresh processes that take turns, and what their times say.

A *session* is a fresh process of every contestant. In it they take turns in rounds, in random order and then
in the reverse of it, so that a drift of the machine falls on all alike. The ratio of a session is the median
of the ratios within its rounds, and the sessions are the independent samples: two processes of one model
differ by percents for as long as they live, which rounds within one of them cannot show.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, field
from typing import Protocol, TypeVar

import numpy as np

from optc.measure import Clock, Ratio, Timing, median_ratio

# A block is long enough for the caches and the clock speed to forget the contestant before.
_BLOCK_SECONDS = 0.05
_MAX_CALLS = 1000

# Of a longer call the first one after a turn is not slower by what can be seen.
_LONG_SECONDS = 0.1
_MIN_ROUNDS = 3

# Less than this is not told apart, however narrow the interval: another directory or host name moves as much.
_ALIKE = 0.01


class Runner(Protocol):
    """One contestant in a session; `process.Process` is one."""

    def open(self) -> float:
        """Loads and calls it once; seconds."""

    def block(self, calls: int, warm: int) -> float:
        """Median seconds of ``calls`` calls, behind ``warm`` that do not count."""

    def peak(self) -> int:
        """Peak of resident memory so far, in bytes."""


R = TypeVar("R", bound=Runner)


@dataclass
class Found:
    """What the sessions said of one contestant; one value per session."""

    seconds: list[float] = field(default_factory=list)
    load: list[float] = field(default_factory=list)
    peak: list[int] = field(default_factory=list)
    ratios: list[float] = field(default_factory=list)  # seconds of the reference over seconds of this one

    @property
    def speedup(self) -> Ratio:
        """How many times faster than the reference, with the 95% interval."""
        return median_ratio(np.array(self.ratios))


def contest(
    names: Sequence[str],
    open_runner: Callable[[str], AbstractContextManager[R]],
    *,
    sessions: Iterable[int],
    seconds: float,
    seed: int = 0,
    look: Callable[[Mapping[str, R]], None] | None = None,
    clock: Clock = time.perf_counter,
) -> dict[str, Found]:
    """Measures all contestants in fresh sessions; the first is the reference.

    Args:
        open_runner: starts a contestant in a fresh process.
        sessions: their numbers.
        seconds: how long each contestant is timed in a session.
        look: is shown the open runners of each session, before they are timed.
    """
    found = {name: Found() for name in names}
    for number in sessions:
        random = np.random.default_rng((seed, number))
        with ExitStack() as stack:
            order = [names[i] for i in random.permutation(len(names))]
            runners = {name: stack.enter_context(open_runner(name)) for name in order}
            for name in order:
                found[name].load.append(runners[name].open())
            if look is not None:
                look(runners)
            timing = take_turns(runners, seconds=seconds, random=random, clock=clock)
            for name in names:
                found[name].seconds.append(timing.median(name))
                found[name].ratios.append(timing.ratio(names[0], name).ratio)
                found[name].peak.append(runners[name].peak())
    return found


def take_turns(
    runners: Mapping[str, Runner], *, seconds: float, random: np.random.Generator, clock: Clock
) -> Timing:
    """Rounds for about ``seconds`` per contestant, at least three; every block sized to the contestant."""
    names = list(runners)
    single = {name: runner.block(1, warm=1) for name, runner in runners.items()}
    calls = {name: _calls(length) for name, length in single.items()}
    rounds: dict[str, list[float]] = {name: [] for name in names}
    started, turn = clock(), list[str]()
    while len(rounds[names[0]]) < _MIN_ROUNDS or clock() - started < seconds * len(names):
        reverse = len(rounds[names[0]]) % 2
        turn = turn[::-1] if reverse else [names[i] for i in random.permutation(len(names))]
        for name in turn:
            warm = 0 if single[name] > _LONG_SECONDS else 1
            rounds[name].append(runners[name].block(calls[name], warm))
    return Timing({name: np.array(values) for name, values in rounds.items()})


def verdict(speedup: Ratio) -> str:
    """ "faster", "slower", "no difference" (within noise), or "too few sessions" to tell."""
    if not (speedup.low > 0 and math.isfinite(speedup.high)):
        return "too few sessions"
    if speedup.low <= 1 <= speedup.high or abs(speedup.ratio - 1) < _ALIKE:
        return "no difference"
    return "faster" if speedup.ratio > 1 else "slower"


def _calls(length: float) -> int:
    return max(1, min(_MAX_CALLS, math.ceil(_BLOCK_SECONDS / max(length, 1e-7))))
