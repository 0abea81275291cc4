"""A pipeline is text that round-trips to a tuple of passes: ``simplify, fuse, quantize{scheme=auto}``."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

import onnx_ir as ir

from optc import pipeline_text, rewrite
from optc.passbase import Context, Pass, Report


@dataclass
class Record:
    """One pass as it ran: its report, how long it took, and what observers found out about it."""

    step: Pass
    report: Report
    seconds: float
    before: ir.Model  # what the pass was given; shares its tensors
    fusing: Pass | None = None  # the pass that fused earlier, and fuses again behind a plain pass
    undone: str | None = None  # why its effect was taken back
    max_error: float | None = None  # what it was allowed
    again: float | None = None  # set with `undone`: what to allow it when it is run once more
    earlier: str | None = None  # why its effect was taken back when it was allowed more
    findings: dict[str, object] = field(default_factory=dict)

    @property
    def lost(self) -> float | None:
        """The error of the model behind a lossy pass that stands, as far as it was taken."""
        error = self.findings.get("error")
        if self.step.exact or self.left_nothing or not isinstance(error, dict) or "rel_l2" not in error:
            return None
        unseen = error.get("unseen")
        return max(float(error["rel_l2"]), float(unseen["bound"]) if unseen else 0.0)

    @property
    def left_nothing(self) -> bool:
        """Whether the next pass gets what this one was given.

        The error of a lossy pass is taken only when it says that it changed something. What it may have left
        behind on its way to refusing a model must not go on unseen.
        """
        return self.undone is not None or not (self.step.exact or self.report.changed)


_AGAIN = 3  # times that a pass may be run once more


class Observer(Protocol):
    """Something that watches the passes from outside, such as verify, dump or compare.

    ``after`` may return a reason to undo what the pass did.
    """

    def start(self, model: ir.Model) -> None:
        """Called once, with the captured model."""

    def after(self, index: int, record: Record, model: ir.Model) -> str | None:
        """Called with the model as the pass left it."""


@dataclass(frozen=True)
class Pipeline:
    """Passes in their order."""

    passes: tuple[Pass, ...]

    @classmethod
    def parse(cls, text: str) -> Pipeline:
        """Reads pipeline text; UserError names the place, and the nearest pass, option or value."""
        return cls(tuple(pipeline_text.parse(text)))

    def __str__(self) -> str:
        return ", ".join(pipeline_text.write(step) for step in self.passes)

    def run(
        self, model: ir.Model, ctx: Context, observers: Sequence[Observer] = (), *, first: int = 0
    ) -> tuple[ir.Model, list[Record]]:
        """Runs the passes on ``model`` (in place) and returns the model to go on with, and the records.

        ``first`` is the number of the first pass, when this is not the beginning. The observers have been
        started.
        """
        result, records = model, list[Record]()
        for record, result in self.walk(model, ctx):
            if record.earlier is not None:
                records.pop()
            for observer in observers:
                record.undone = record.undone or observer.after(first + len(records), record, result)
            records.append(record)
        return records[-1].before.clone() if records and records[-1].left_nothing else result, records

    def walk(self, model: ir.Model, ctx: Context) -> Iterator[tuple[Record, ir.Model]]:
        """Runs one pass after the other, and yields its record and the model as it left it.

        When the caller sets ``undone`` in the record, the next pass gets what this one was given. With
        ``again`` set too, the same pass runs once more, for which there is a record of its own. What a lossy
        pass has spent of ``max_error`` is not there for those behind it.
        """
        allowed = ctx.max_error
        fusing: Pass | None = None  # the pass that put fused functions into the graph
        for step in ctx.progress(self.passes, "passes"):
            own = replace(ctx, learned={})
            record = _timed(step, model, own, fusing)
            if _has_functions(model) and not _has_functions(record.before):
                fusing = step
            yield record, model
            for _ in range(_AGAIN):
                if record.undone is None or record.again is None:
                    break
                model, tighter = record.before.clone(), replace(own, max_error=record.again)
                earlier, record = record.undone, _timed(step, model, tighter, fusing)
                record.earlier = earlier
                yield record, model
            if record.left_nothing:
                model = record.before.clone()
            elif allowed is not None and record.lost is not None:
                ctx = replace(ctx, max_error=_rest(allowed, record.lost))


def _rest(allowed: float, lost: float) -> float:
    """What may be lost beside what is lost already: errors that do not know of each other add in squares."""
    return math.sqrt(max(allowed**2 - lost**2, 0.0))


def _timed(step: Pass, model: ir.Model, ctx: Context, fusing: Pass | None) -> Record:
    before = model.clone()
    started = time.perf_counter()
    report = run_pass(step, model, ctx, fusing)
    return Record(step, report, time.perf_counter() - started, before, fusing, max_error=ctx.max_error)


def run_pass(step: Pass, model: ir.Model, ctx: Context, fusing: Pass | None = None) -> Report:
    """Runs a pass in place; one that needs plain nodes gets them, and ``fusing`` runs again behind it."""
    if not (step.plain and rewrite.inline(model) and fusing is not None):
        return _run(step, model, ctx)
    report = _run(step, model, ctx)
    _run(fusing, model, ctx)
    return report


def _run(step: Pass, model: ir.Model, ctx: Context) -> Report:
    ctx.trail.starting(step.name, model, exact=step.exact)
    try:
        return step.run(model, ctx)
    except Exception as error:
        error.add_note(f"in the pass {step.name!r}")
        raise


def _has_functions(model: ir.Model) -> bool:
    return any(function.domain == rewrite.DOMAIN for function in model.functions.values())
