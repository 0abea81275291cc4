"""Measures what the target executes, and undoes what does not pay."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from functools import partial

import onnx_ir as ir

from optc.gate.contest import PLAIN, Candidate, Contest, Program, candidate, ort_program
from optc.gate.decisions import (
    INLINE,
    Decisions,
    Entry,
    Families,
    GateResult,
    decisions_from_json,
    families_of,
)
from optc.gate.evidence import Evidence
from optc.gate.search import Progress, Search, reason
from optc.gate.shapes import feeds_by_shape
from optc.measure import Clock
from optc.passbase import Feeds
from optc.session import ORT_ERRORS, fingerprint

# How many calls at a shape the time budget has to have room for: a few sessions of a few candidates.
_CALLS_IN_BUDGET = 60

__all__ = [
    "INLINE",
    "Decisions",
    "Entry",
    "Families",
    "GateResult",
    "choose",
    "decisions_from_json",
    "families_of",
    "feeds_by_shape",
    "judge",
]


def choose(
    plain: ir.Model,
    legalized: Callable[[Decisions], ir.Model],
    families: Families,
    feeds: Mapping[str, Feeds],
    *,
    seconds: float = 30.0,
    threads: int | None = None,
    seed: int = 0,
    open_program: Callable[[ir.Model], Program] | None = None,
    clock: Clock = time.perf_counter,
    progress: Progress = lambda what, fraction: None,
) -> GateResult:
    """Chooses a lowering per family, or to undo it, such that the artifact beats the captured model.

    Args:
        plain: the captured model.
        legalized: builds the executable model of some decisions; it shares the tensors of the fused model.
        families: the families to decide about, as `families_of` gives them.
        feeds: what to run, by shape label; shapes at which ``plain`` fails, or takes too long for the
            budget, are left out.
        seconds: time budget. One session of the artifact and of plain is measured even if that takes longer.
        threads: of the sessions.
        open_program: opens a fresh session; None is ONNX Runtime on the CPU.
        progress: told what is measured, and the fraction of the budget that is spent.
    """
    opened = open_program or partial(ort_program, threads=threads)
    usable = _usable(plain, opened, feeds, seconds, clock)
    if not usable:
        entry = Entry("artifact", "kept", "not measured: the captured model runs at none of the shapes")
        return GateResult({family: names[0] for family, names in families.items()}, (entry,))

    def build(which: Candidate) -> ir.Model:
        return plain if which is None else legalized(dict(which))

    contest = Contest(build, usable, open_program=opened, seed=seed, clock=clock)
    return Search(
        families,
        contest,
        fingerprint=_remembered(lambda which: fingerprint(contest.model(which))),
        seconds=seconds,
        clock=clock,
        group_size=contest.group_size(),
        progress=progress,
    ).run()


def judge(
    before: ir.Model,
    after: ir.Model,
    feeds: Mapping[str, Feeds],
    *,
    exact: bool,
    what: str,
    seconds: float,
    threads: int | None = None,
    seed: int = 0,
    open_program: Callable[[ir.Model], Program] | None = None,
    clock: Clock = time.perf_counter,
) -> Entry:
    """Whether what a pass did pays: both models are legal programs.

    An exact pass is undone when the interval of its time ratio (after over before) lies above 1; one that
    costs accuracy has to earn that, and is undone when the interval does not lie below 1.
    """
    opened = open_program or partial(ort_program, threads=threads)
    usable = _usable(before, opened, feeds, seconds, clock)
    if not usable:
        return Entry(what, "kept", "not measured: the model runs at none of the shapes")
    changed = candidate({"pass": what})
    models = {PLAIN: before, changed: after}
    contest = Contest(models.__getitem__, usable, open_program=opened, seed=seed, clock=clock)
    started = clock()
    evidence = Evidence(contest, lambda: clock() - started >= seconds, group_size=1)
    evidence.gather(changed, [PLAIN], always=1)
    pooled = evidence.pooled(changed, PLAIN)
    assert pooled is not None
    undone = pooled.low > 1.0 if exact else not pooled.high < 1.0
    shapes = evidence.by_shape(changed, PLAIN)
    return Entry.of(what, "undone" if undone else "kept", reason(pooled), pooled, shapes)


def _usable(
    model: ir.Model,
    open_program: Callable[[ir.Model], Program],
    feeds: Mapping[str, Feeds],
    seconds: float,
    clock: Clock,
) -> dict[str, Feeds]:
    """The shapes that the model accepts and the time budget allows.

    Ranges that a model does not declare are found out by asking; of the shapes that take long, only the
    first is left.
    """
    usable: dict[str, Feeds] = {}
    try:
        program = open_program(model)
    except ORT_ERRORS:
        return usable
    for shape, values in feeds.items():
        started = clock()
        try:
            program(values)
        except ORT_ERRORS:
            continue
        if not usable or clock() - started <= seconds / _CALLS_IN_BUDGET:
            usable[shape] = values
    return usable


def _remembered(function: Callable[[Candidate], object]) -> Callable[[Candidate], object]:
    known: dict[Candidate, object] = {}

    def lookup(which: Candidate) -> object:
        if which not in known:
            known[which] = function(which)
        return known[which]

    return lookup
