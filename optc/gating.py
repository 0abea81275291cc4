"""Between the driver and the gate: what is measured, and what the decisions mean for the pipeline."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import onnx_ir as ir

from optc import gate, lossy, stages
from optc.passbase import Context
from optc.pipeline import Observer, Record

# Of the time budget: for the milliseconds per pass, which decide nothing.
_LEDGER_SHARE = 0.1

# What decisions say of the whole: nothing beat the captured model.
ARTIFACT, CAPTURED = "artifact", "captured"

# Of the time budget: for lossy passes, while the pipeline runs.
LOSSY_SHARE = 0.4

# A lossy pass whose proven time ratio is above this leaves room for doubt: the exact passes alone, with the
# choices that are best for them, may be as fast.
_CLEAR = 0.8


@dataclass(frozen=True)
class Outcome:
    """What goes on to legalize.

    Attributes:
        decisions: for the manifest: per family, per undone lossy pass, and about the whole.
        model: the captured model if nothing beats it, or else what the pipeline made, or its exact part.
        records: of the passes behind that.
        timing: figures for the report.
    """

    decisions: Mapping[str, str]
    model: ir.Model
    records: list[Record]
    timing: Mapping[str, Any] = field(default_factory=dict)

    @property
    def lowerings(self) -> dict[str, str]:
        """The decisions about families."""
        return lowerings_of(self.decisions)


@dataclass
class Gate:
    """The measurements of one compilation, while the pipeline runs and behind it.

    Args:
        plain: the captured model.
        programs: makes models ready to be measured.
        seconds: time budget.
        pays: the observer that judged the lossy passes.
        watchers: the observers of the pipeline, for what has to run again.
    """

    plain: ir.Model
    ctx: Context
    programs: gate.Prepare
    seconds: float
    pays: lossy.Pays
    watchers: Sequence[Observer]

    def run(self, model: ir.Model, records: list[Record]) -> Outcome:
        """Measures what pays, notes the milliseconds of every pass in its record, and decides.

        Args:
            model: what the pipeline made of the captured model, with its fused functions.
        """
        self.started = time.perf_counter()
        rows = [self.pays.judgements[index].entry.to_json() for index in sorted(self.pays.judgements)]
        if not self.ctx.examples:
            row = gate.Entry("artifact", "kept", "not measured: there are no sample inputs to measure with")
            return self._outcome({}, model, records, {"gate": [*rows, row.to_json()]})
        self.feeds = gate.feeds_by_shape(self.plain, self.ctx.examples[0])
        left = self._left() * (1 - _LEDGER_SHARE)
        doubtful = any(lossy.is_lossy(record) for record in records) and not self._is_clear()
        result = self._choose(model, left * 0.4 if doubtful else left)
        rows += [entry.to_json() for entry in result.ledger]
        if any(lossy.is_lossy(record) for record in records) and (doubtful or result.keep_plain):
            exact = lossy.exact_part(records, self.ctx)
            alone = self._choose(exact, left * 0.4)
            reason = self._why_exact(model, result, exact, alone, left * 0.2)
            if reason is not None:
                model, records = lossy.undo(records, self.ctx, self.watchers, reason)
                result = alone
                rows += [{**e.to_json(), "what": f"exact passes: {e.what}"} for e in result.ledger]
        return self._decided(result, model, records, rows)

    def _is_clear(self) -> bool:
        """Whether every lossy pass that stands gained so much that no choice of lowerings makes up for it."""
        kept = [found.entry for found in self.pays.judgements.values() if found.undone is None]
        return all(entry.high is not None and entry.high <= _CLEAR for entry in kept)

    def _choose(self, model: ir.Model, seconds: float) -> gate.GateResult:
        return gate.choose(
            self.plain,
            lambda decisions: lossy.legal(model, self.ctx, decisions),
            gate.families_of(model, self.ctx.target),
            self.feeds,
            seconds=seconds,
            prepare=self.programs,
            seed=self.ctx.seed,
            progress=_bar(self.ctx),
        )

    def _why_exact(
        self,
        model: ir.Model,
        result: gate.GateResult,
        exact: ir.Model,
        alone: gate.GateResult,
        seconds: float,
    ) -> str | None:
        """Why the exact passes alone make the better artifact; each with the lowerings chosen for it."""
        if result.keep_plain:
            return "the artifact with it loses to the plain export"
        before = self.plain if alone.keep_plain else lossy.legal(exact, self.ctx, alone.decisions)
        found = gate.pays(
            before,
            {"": lambda: lossy.legal(model, self.ctx, result.decisions)},
            self.feeds,
            what="artifact",
            seconds=seconds,
            prepare=self.programs,
            seed=self.ctx.seed,
        )
        return None if found.undone is None else f"against the best exact artifact {found.undone}"

    def _decided(
        self, result: gate.GateResult, model: ir.Model, records: list[Record], rows: list[dict[str, Any]]
    ) -> Outcome:
        timing: dict[str, Any] = {"gate": rows}
        if result.keep_plain:
            for record in records:
                record.undone = record.undone or "the gate kept the captured model: nothing beat it"
            timing["speedup"] = 1.0
            return self._outcome({ARTIFACT: CAPTURED}, self.plain.clone(), records, timing)
        if result.final is None:
            return self._outcome(result.decisions, model, records, timing)
        figures = _figures(result)
        stages.time_passes(
            records,
            self.plain,
            lambda record, state: lossy.stage(records, record, state, self.ctx, result.decisions),
            (figures["ms_before"], figures["ms_after"]),
            {figures["ms_shape"]: self.feeds[figures["ms_shape"]]},
            prepare=self.programs,
            seconds=self._left(),
            seed=self.ctx.seed,
        )
        return self._outcome(result.decisions, model, records, {**timing, **figures})

    def _left(self) -> float:
        """Seconds of the budget that are not spent."""
        return self.seconds - self.pays.spent - (time.perf_counter() - self.started)

    def _outcome(
        self, decisions: Mapping[str, str], model: ir.Model, records: list[Record], timing: dict[str, Any]
    ) -> Outcome:
        measured = [index for index in sorted(self.pays.judgements) if records[index].undone is not None]
        undone = {lossy.key(index, records[index].step): lossy.UNDONE for index in measured}
        made = {what: choice for record in records for what, choice in record.report.decisions.items()}
        return Outcome({**decisions, **undone, **made}, model, records, timing)


def ungated(decisions: Mapping[str, str], plain: ir.Model, model: ir.Model, records: list[Record]) -> Outcome:
    """Every family gets the target's first lowering, or all is as in the decisions of an earlier artifact."""
    if decisions.get(ARTIFACT) != CAPTURED:
        return Outcome(decisions, model, records)
    for record in records:
        record.undone = record.undone or "the captured model was faster when the decisions were made"
    return Outcome(decisions, plain.clone(), records)


def lowerings_of(decisions: Mapping[str, str]) -> dict[str, str]:
    """The decisions about families among all that a manifest holds; those of passes are ``pass: what``."""
    return {
        name: choice
        for name, choice in decisions.items()
        if name != ARTIFACT and choice != lossy.UNDONE and ": " not in name
    }


def _figures(result: gate.GateResult) -> dict[str, Any]:
    assert result.final is not None
    shape = gate.middle(result.final_by_shape)
    before, after = result.seconds[shape]
    interval = result.final.interval
    return {
        "ms_before": before * 1e3,
        "ms_after": after * 1e3,
        "ms_shape": shape,
        "speedup": round(1 / result.final.ratio, 4),
        "speedup_low": round(1 / interval[1], 4) if interval else None,
        "speedup_high": round(1 / interval[0], 4) if interval else None,
        "speedup_by_shape": {s: round(1 / found.ratio, 4) for s, found in result.final_by_shape.items()},
    }


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
