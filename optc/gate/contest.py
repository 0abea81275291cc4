"""Measures candidates of one model against each other in fresh sessions of the runtime."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import onnx_ir as ir

from optc import measure
from optc.gate.decisions import Decisions
from optc.gate.programs import Prepare, Prepared, Program
from optc.passbase import Feeds
from optc.report import weight_bytes

Candidate = tuple[tuple[str, str], ...] | None  # decisions, sorted; None is the captured model

PLAIN: Candidate = None

# Challengers per session of a reference: more would cost it less, and be further from it in time.
_GROUP = 3

# Sessions open at once hold a prepacked copy of the weights each.
_BYTES_AT_ONCE = 400_000_000


@dataclass(frozen=True)
class Sample:
    """One fresh session each of a reference and a challenger, at one shape."""

    log_ratio: float  # of seconds, reference over challenger
    reference: float  # seconds per call, undisturbed
    challenger: float


Samples = Mapping[Candidate, Mapping[str, Sample]]  # challenger -> shape -> sample
Measure = Callable[[Candidate, Sequence[Candidate]], Samples]


def candidate(decisions: Decisions) -> Candidate:
    """The candidate with these decisions."""
    return tuple(sorted(decisions.items()))


class Contest:
    """Builds, opens and times candidates.

    Args:
        build: the executable model of a candidate; it is given PLAIN too.
        feeds: what to run, by shape label.
        prepare: makes a model ready to be opened.
        seconds_per_shape: how long the contestants of one session are timed at each shape.
    """

    def __init__(
        self,
        build: Callable[[Candidate], ir.Model],
        feeds: Mapping[str, Feeds],
        *,
        prepare: Prepare,
        seconds_per_shape: float = 0.15,
        seed: int = 0,
        clock: measure.Clock = time.perf_counter,
    ) -> None:
        self._feeds, self._prepare = feeds, prepare
        self._seconds, self._seed, self._clock = seconds_per_shape, seed, clock
        plain = build(PLAIN)
        self._build, self._bytes = build, weight_bytes(plain)
        self._prepared = {PLAIN: prepare(plain)}
        self._contests = 0

    def prepared(self, which: Candidate) -> Prepared:
        """A candidate, built and made ready when it is asked for first."""
        if which not in self._prepared:
            self._prepared[which] = self._prepare(self._build(which))
        return self._prepared[which]

    def group_size(self) -> int:
        """How many challengers to measure with one session of the reference."""
        beside = _BYTES_AT_ONCE // max(self._bytes, 1) - 1
        return min(_GROUP, beside) if beside >= 1 else _GROUP  # in turns they take no more memory than one

    def __call__(self, reference: Candidate, challengers: Sequence[Candidate]) -> Samples:
        """One fresh session of each, all measured at every shape."""
        self._contests += 1
        contestants = [reference, *challengers]
        together = self._bytes * len(contestants) <= _BYTES_AT_ONCE
        timings = self._interleaved(contestants) if together else self._in_turns(contestants)
        return {
            challenger: {shape: _sample(timing, str(number)) for shape, timing in timings.items()}
            for number, challenger in enumerate(challengers, 1)
        }

    def _interleaved(self, contestants: Sequence[Candidate]) -> dict[str, measure.Timing]:
        programs = [self.prepared(which).open() for which in contestants]
        return {shape: self._time(dict(enumerate(programs)), feeds) for shape, feeds in self._feeds.items()}

    def _in_turns(self, contestants: Sequence[Candidate]) -> dict[str, measure.Timing]:
        """One session at a time, for models of which two do not fit beside each other."""
        numbered = list(enumerate(contestants))
        found: dict[str, dict[str, np.ndarray]] = {shape: {} for shape in self._feeds}
        for number, which in numbered if self._contests % 2 else reversed(numbered):
            program = self.prepared(which).open()
            for shape, feeds in self._feeds.items():
                found[shape] |= self._time({number: program}, feeds).rounds
            del program
        return {shape: measure.Timing(rounds) for shape, rounds in found.items()}

    def _time(self, programs: Mapping[int, Program], feeds: Feeds) -> measure.Timing:
        calls = {str(number): partial(program, feeds) for number, program in programs.items()}
        seed = self._seed + self._contests
        return measure.paired(calls, seconds=self._seconds, seed=seed, clock=self._clock)


def _sample(timing: measure.Timing, challenger: str) -> Sample:
    reference, other = timing.quartile("0"), timing.quartile(challenger)
    return Sample(math.log(reference / other), reference, other)
