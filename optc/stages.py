"""The milliseconds of the program after every pass, for the ledger."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import onnx_ir as ir

from optc.gate.contest import PLAIN, Candidate, Contest, Samples, candidate
from optc.gate.programs import Prepare
from optc.measure import Clock
from optc.passbase import Feeds
from optc.pipeline import Record

_SESSIONS = 3


def time_passes(
    records: Sequence[Record],
    plain: ir.Model,
    legal: Callable[[Record, ir.Model], ir.Model],
    ends: tuple[float, float],
    feeds: Mapping[str, Feeds],
    *,
    prepare: Prepare,
    seconds: float,
    seed: int = 0,
    clock: Clock = time.perf_counter,
) -> None:
    """Notes the milliseconds before and after every pass that changed something.

    The program before the first and after the last of them has been measured already; those between are
    measured against the captured model, when there is time.

    Args:
        legal: an executable copy of the model that a pass left.
        ends: milliseconds of the captured model and of the artifact.
        feeds: the one shape to measure at, by its label.
        seconds: time budget.
    """
    changed = [record for record in records if record.report.changed and record.undone is None]
    inner = [candidate({"before": str(number)}) for number in range(1, len(changed))]
    states = {which: (changed[i], changed[i + 1].before) for i, which in enumerate(inner)}

    def build(which: Candidate) -> ir.Model:
        return plain if which is None else legal(*states[which])

    started, rounds = clock(), list[dict[Candidate, float]]()
    if inner and seconds > 0:
        contest = Contest(build, feeds, prepare=prepare, seed=seed, clock=clock)
        while len(rounds) < _SESSIONS and clock() - started < seconds:
            rounds.append(_log_ratios(contest(PLAIN, inner)))
    if inner and not rounds:
        return
    ratios = [float(np.exp(-np.median([found[which] for found in rounds]))) for which in inner]
    times = [ends[0], *(ends[0] * ratio for ratio in ratios), ends[1]]
    for record, before, after in zip(changed, times, times[1:], strict=False):
        record.findings["ms_before"], record.findings["ms_after"] = before, after


def _log_ratios(samples: Samples) -> dict[Candidate, float]:
    """Of each challenger, at the one shape."""
    return {which: sample.log_ratio for which, found in samples.items() for sample in found.values()}
