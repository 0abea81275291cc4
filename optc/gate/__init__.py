"""Measures what the target executes, and undoes what does not pay."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

import onnx_ir as ir

from optc.gate.contest import PLAIN, Candidate, Contest, candidate
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
from optc.gate.lossy import Judgement, judgement
from optc.gate.programs import OrtPrograms, Prepare, Prepared
from optc.gate.search import Progress, Search
from optc.gate.shapes import feeds_by_shape, middle
from optc.measure import Clock
from optc.passbase import Feeds
from optc.session import ORT_ERRORS

# How many calls at a shape the time budget has to have room for: a few sessions of a few candidates.
_CALLS_IN_BUDGET = 60

__all__ = [
    "INLINE",
    "Decisions",
    "Entry",
    "Families",
    "GateResult",
    "Judgement",
    "OrtPrograms",
    "Prepare",
    "Prepared",
    "choose",
    "decisions_from_json",
    "families_of",
    "feeds_by_shape",
    "middle",
    "pays",
    "usable",
]


def choose(
    plain: ir.Model,
    legalized: Callable[[Decisions], ir.Model],
    families: Families,
    feeds: Mapping[str, Feeds],
    *,
    prepare: Prepare,
    seconds: float = 30.0,
    seed: int = 0,
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
        prepare: makes a model ready to be opened.
        seconds: time budget. One session of the artifact and of plain is measured even if that takes longer.
        progress: told what is measured, and the fraction of the budget that is spent.
    """
    shapes = usable(plain, prepare, feeds, seconds, clock)
    if not shapes:
        entry = Entry("artifact", "kept", "not measured: the captured model runs at none of the shapes")
        return GateResult({family: names[0] for family, names in families.items()}, (entry,))

    def build(which: Candidate) -> ir.Model:
        return plain if which is None else legalized(dict(which))

    contest = Contest(build, shapes, prepare=prepare, seed=seed, clock=clock)
    return Search(
        families,
        contest,
        fingerprint=lambda which: contest.prepared(which).fingerprint,
        seconds=seconds,
        clock=clock,
        group_size=contest.group_size(),
        progress=progress,
    ).run()


def pays(
    before: ir.Model,
    after: Mapping[str, Callable[[], ir.Model]],
    feeds: Mapping[str, Feeds],
    *,
    what: str,
    prepare: Prepare,
    seconds: float,
    seed: int = 0,
    clock: Clock = time.perf_counter,
) -> Judgement:
    """Whether a pass that costs accuracy pays: it has to earn that, in the whole model.

    It is undone when the interval of its time ratio (after over before) does not lie below 1, and when it
    is slower at one of the shapes.

    Args:
        before: the legal program without the pass.
        after: the legal programs with it, one per way to lower what it made; the best of them counts.
        what: the name of the pass.
        prepare: makes a model ready to be opened.
        seconds: time budget. Two sessions of each program are measured even if that takes longer: one has no
            interval.
    """
    shapes = usable(before, prepare, feeds, seconds, clock)
    if not shapes:
        reason = "not measured: the model runs at none of the shapes, and what costs accuracy has to pay"
        return Judgement(Entry(what, "undone", reason))
    changed = {name: candidate({what: name}) for name in after}
    builders = {which: after[name] for name, which in changed.items()}
    contest = Contest(
        lambda which: before if which is None else builders[which](),
        shapes,
        prepare=prepare,
        seed=seed,
        clock=clock,
    )
    started = clock()
    evidence = Evidence(contest, lambda: clock() - started >= seconds, contest.group_size())
    evidence.gather(PLAIN, list(builders), always=2)
    found = [judgement(evidence, PLAIN, which, what) for which in builders]
    return min(found, key=lambda each: (each.entry.verdict == "undone", each.entry.ratio))


def usable(
    model: ir.Model,
    prepare: Prepare,
    feeds: Mapping[str, Feeds],
    seconds: float,
    clock: Clock = time.perf_counter,
) -> dict[str, Feeds]:
    """The shapes that the model accepts and the time budget allows.

    Ranges that a model does not declare are found out by asking; of the shapes that take long, only the
    first is left.
    """
    found: dict[str, Feeds] = {}
    try:
        program = prepare(model).open()
    except ORT_ERRORS:
        return found
    for shape, values in feeds.items():
        started = clock()
        try:
            program(values)
        except ORT_ERRORS:
            continue
        if not found or clock() - started <= seconds / _CALLS_IN_BUDGET:
            found[shape] = values
    return found
