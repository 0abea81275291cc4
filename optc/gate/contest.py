"""Measures candidates of one model against each other in fresh sessions of the runtime."""

from __future__ import annotations

import math
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import onnx_ir as ir

from optc import measure
from optc.gate.decisions import Decisions
from optc.passbase import Feeds
from optc.report import weight_bytes
from optc.session import open_session, run_session

Program = Callable[[Feeds], Any]
Candidate = tuple[tuple[str, str], ...] | None  # decisions, sorted; None is the captured model

PLAIN: Candidate = None

# Challengers per session of a reference: more would cost it less, and be further from it in time.
_GROUP = 3

# Sessions open at once hold a prepacked copy of the weights each.
_BYTES_AT_ONCE = 400_000_000

# Built models that are kept. They share the weights, but for those that a lowering packs anew: of a large
# model only what comes back in every contest is kept (the reference, the captured model), and one challenger.
_MODELS_KEPT, _LARGE_MODELS_KEPT = 16, 3


@dataclass(frozen=True)
class Sample:
    """One fresh session each of a reference and a challenger, at one shape."""

    log_ratio: float  # of seconds, reference over challenger
    reference: float  # seconds per call
    challenger: float


Samples = Mapping[Candidate, Mapping[str, Sample]]  # challenger -> shape -> sample
Measure = Callable[[Candidate, Sequence[Candidate]], Samples]


def candidate(decisions: Decisions) -> Candidate:
    """The candidate with these decisions."""
    return tuple(sorted(decisions.items()))


def ort_program(model: ir.Model, threads: int | None = None) -> Program:
    """A session to be measured beside others.

    Its threads stop spinning at the end of each call and leave the cores to the next contestant; `measure`
    says what happens otherwise.
    """
    session = open_session(model, threads=threads, options={"session.force_spinning_stop": "1"})
    return partial(run_session, session)


class Contest:
    """Builds, opens and times candidates.

    Args:
        build: the executable model of a candidate; it is given PLAIN too.
        feeds: what to run, by shape label.
        open_program: opens a fresh session.
        seconds_per_shape: how long the contestants of one session are timed at each shape.
    """

    def __init__(
        self,
        build: Callable[[Candidate], ir.Model],
        feeds: Mapping[str, Feeds],
        *,
        open_program: Callable[[ir.Model], Program] = ort_program,
        seconds_per_shape: float = 0.15,
        seed: int = 0,
        clock: measure.Clock = time.perf_counter,
    ) -> None:
        self._build, self._feeds, self._open = build, feeds, open_program
        self._seconds, self._seed, self._clock = seconds_per_shape, seed, clock
        self._models: OrderedDict[Candidate, ir.Model] = OrderedDict()
        self._kept = _LARGE_MODELS_KEPT
        self._bytes = weight_bytes(self.model(PLAIN))
        if self._bytes * _LARGE_MODELS_KEPT <= _BYTES_AT_ONCE:
            self._kept = _MODELS_KEPT
        self._contests = 0

    def model(self, which: Candidate) -> ir.Model:
        """The executable model of a candidate."""
        if which not in self._models:
            self._models[which] = self._build(which)
        self._models.move_to_end(which)
        while len(self._models) > self._kept:
            self._models.popitem(last=False)
        return self._models[which]

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
        programs = [self._open(self.model(which)) for which in contestants]
        return {shape: self._time(dict(enumerate(programs)), feeds) for shape, feeds in self._feeds.items()}

    def _in_turns(self, contestants: Sequence[Candidate]) -> dict[str, measure.Timing]:
        """One session at a time, for models of which two do not fit beside each other."""
        numbered = list(enumerate(contestants))
        medians: dict[str, dict[str, np.ndarray]] = {shape: {} for shape in self._feeds}
        for number, which in numbered if self._contests % 2 else reversed(numbered):
            program = self._open(self.model(which))
            for shape, feeds in self._feeds.items():
                # the median stands for the session: its rounds were not taken beside those of the others
                median = self._time({number: program}, feeds).median(str(number))
                medians[shape][str(number)] = np.array([median])
            del program
        return {shape: measure.Timing(found) for shape, found in medians.items()}

    def _time(self, programs: Mapping[int, Program], feeds: Feeds) -> measure.Timing:
        calls = {str(number): partial(program, feeds) for number, program in programs.items()}
        seed = self._seed + self._contests
        return measure.paired(calls, seconds=self._seconds, seed=seed, clock=self._clock)


def _sample(timing: measure.Timing, challenger: str) -> Sample:
    ratio = timing.ratio("0", challenger).ratio
    return Sample(math.log(ratio), timing.median("0"), timing.median(challenger))
