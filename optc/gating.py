"""Between the driver and the gate: what is measured, and what the decisions mean for the pipeline."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np
import onnx_ir as ir

from optc import gate, registry
from optc.gate.contest import PLAIN, Candidate, Contest, candidate, ort_program
from optc.passbase import Context, Feeds
from optc.pipeline import Record

# The milliseconds per pass are for the ledger only; they get little of the time.
_LEDGER_SESSIONS, _LEDGER_SHARE = 3, 0.1


@dataclass(frozen=True)
class Outcome:
    """What goes on to legalize: decisions per family, the captured model if nothing beats it, and figures."""

    decisions: Mapping[str, str]
    plain: bool = False
    timing: Mapping[str, Any] = field(default_factory=dict)


def ungated(ctx: Context) -> Outcome:
    """Every family gets the target's first lowering, or the decision of an earlier artifact."""
    return Outcome(ctx.lowerings)


def run(plain: ir.Model, model: ir.Model, records: Sequence[Record], ctx: Context, seconds: float) -> Outcome:
    """Measures what pays, notes the milliseconds of every pass in its record, and decides.

    Args:
        plain: the captured model.
        model: what the pipeline made of it, with its fused functions.
        seconds: time budget of the choice.
    """
    if not ctx.examples:
        return Outcome({}, timing={"gate": [_unmeasured("there are no sample inputs to measure with")]})
    feeds = gate.feeds_by_shape(plain, ctx.examples[0])
    result = gate.choose(
        plain,
        lambda decisions: _legal(model, ctx, decisions),
        gate.families_of(model, ctx.target),
        feeds,
        seconds=seconds,
        threads=ctx.threads,
        seed=ctx.seed,
        progress=_bar(ctx),
    )
    timing: dict[str, Any] = {"gate": [entry.to_json() for entry in result.ledger]}
    if result.keep_plain:
        for record in records:
            record.undone = record.undone or "the gate kept the captured model: nothing beat it"
        return Outcome({}, plain=True, timing={**timing, "speedup": 1.0})
    if result.final is None:
        return Outcome(result.decisions, timing=timing)
    by_shape = {shape: round(1 / found.ratio, 4) for shape, found in result.final_by_shape.items()}
    _per_pass(plain, model, records, ctx, result.decisions, {s: feeds[s] for s in by_shape}, seconds)
    shape = _shown(list(by_shape))
    before, after = result.seconds[shape]
    timing |= {
        "ms_before": before * 1e3,
        "ms_after": after * 1e3,
        "ms_shape": shape,
        "speedup": round(1 / result.final.ratio, 4),
        "speedup_low": round(1 / result.final.high, 4),
        "speedup_high": round(1 / result.final.low, 4) if result.final.low else None,
        "speedup_by_shape": by_shape,
    }
    return Outcome(result.decisions, timing=timing)


def _legal(model: ir.Model, ctx: Context, decisions: Mapping[str, str]) -> ir.Model:
    """An executable copy of a model, which shares its tensors."""
    made = model.clone()
    registry.find_pass("legalize")().run(made, replace(ctx, lowerings=decisions))
    return made


def _per_pass(
    plain: ir.Model,
    model: ir.Model,
    records: Sequence[Record],
    ctx: Context,
    decisions: Mapping[str, str],
    feeds: Mapping[str, Feeds],
    seconds: float,
) -> None:
    """Notes the median milliseconds before and after every pass that changed something."""
    changed = [record for record in records if record.report.changed and record.undone is None]
    states = [*(record.before for record in changed[1:]), model][: len(changed)]
    builders: dict[Candidate, Callable[[], ir.Model]] = {PLAIN: lambda: plain}
    for number, state in enumerate(states):
        builders[candidate({"state": str(number)})] = partial(_legal, state, ctx, decisions)
    shape = _shown(list(feeds))
    contest = Contest(
        lambda which: builders[which](),
        {shape: feeds[shape]},
        open_program=partial(ort_program, threads=ctx.threads),
        seed=ctx.seed,
    )
    challengers = [which for which in builders if which is not PLAIN]
    if not challengers:
        return
    rounds, started = [contest(PLAIN, challengers)], time.perf_counter()
    while len(rounds) < _LEDGER_SESSIONS and time.perf_counter() - started < seconds * _LEDGER_SHARE:
        rounds.append(contest(PLAIN, challengers))
    times = [_median(round_[challengers[0]][shape].reference for round_ in rounds)]
    times += [_median(round_[which][shape].challenger for round_ in rounds) for which in challengers]
    for record, before, after in zip(changed, times, times[1:], strict=False):
        record.findings["ms_before"], record.findings["ms_after"] = before, after


def _median(seconds: Iterator[float]) -> float:
    return float(np.median(list(seconds))) * 1e3


def _shown(shapes: Sequence[str]) -> str:
    """The shape whose milliseconds stand in the ledger: the one in the middle of the list."""
    return shapes[(len(shapes) - 1) // 2]


def _bar(ctx: Context) -> Callable[[str, float], None]:
    """The gate tells fractions; the progress of a context takes an iterable."""
    steps = iter(ctx.progress(range(100), "gate"))
    done = 0

    def advance(what: str, fraction: float) -> None:
        nonlocal done
        while done < fraction * 100:
            next(steps, None)
            done += 1

    return advance


def _unmeasured(reason: str) -> dict[str, Any]:
    return gate.Entry("artifact", "kept", f"not measured: {reason}").to_json()
