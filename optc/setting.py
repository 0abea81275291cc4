"""What a compilation works with: samples, the context of passes, who looks at the model around each."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from optc import curve, data, gate, gating, holdout, lossy, observers
from optc.capture import Captured
from optc.passbase import Context, Feeds
from optc.pipeline import Observer
from optc.request import Request
from optc.trail import Trail
from optc.validate import Validator

Progress = Callable[[Iterable[Any], str], Iterable[Any]]


@dataclass(frozen=True)
class Setting:
    """Made once for a compilation, from what was asked for and what was captured."""

    samples: Sequence[Feeds]
    ctx: Context
    validator: Validator | None
    compare: observers.Compare
    metric: observers.Metric | None
    programs: gate.OrtPrograms
    pays: lossy.Pays
    watchers: list[Observer]

    @classmethod
    def of(
        cls,
        request: Request,
        captured: Captured,
        calibration: Any,
        dump: str | Path | None,
        progress: Progress | None,
    ) -> Setting:
        """UserError where calibration data does not fit the captured model."""
        example = captured.examples[0] if captured.examples else None
        samples = data.calibration_samples(
            calibration,
            example,
            any_batch=data.takes_any_batch(captured.model),
            finite=not data.asks_for_nan(captured.model),
        )
        limited = request.allowance.max_error is not None or request.metric is not None
        seen, unseen = holdout.split(samples) if limited else (samples, frozenset[int]())
        ctx, validator = _context(request, captured, seen, progress)
        compare = observers.Compare(samples or captured.examples, request.allowance, unseen)
        programs = gate.OrtPrograms(request.threads)
        pays = lossy.Pays(request.pipeline, ctx, programs, request.gate_seconds * gating.LOSSY_SHARE)
        metric = None
        if request.metric is not None and request.max_drop is not None:
            metric = observers.Metric(request.metric, request.max_drop, request.threads)
        watchers = _watchers(request, compare, metric, pays, dump)
        return cls(samples, ctx, validator, compare, metric, programs, pays, watchers)

    def judge(self, request: Request) -> curve.Judge:
        """What decides whether a point of a curve is allowed."""
        return curve.Judge(self.compare, self.metric, request.allowance.max_error, request.max_drop)


def _context(
    request: Request, captured: Captured, calibration: Sequence[Feeds], progress: Progress | None
) -> tuple[Context, Validator | None]:
    """What passes are given, and who follows their rewrites where ``--validate`` asks for that."""
    ctx = Context(
        target=request.target,
        examples=captured.examples,
        calibration=calibration or None,
        lowerings=gating.lowerings_of(request.decisions or {}),
        max_error=request.allowance.max_error,
        metric=request.metric,
        max_drop=request.max_drop,
        times=request.gate,
        decided=request.decisions,
        seed=request.seed,
        threads=request.threads,
    )
    if progress is not None:
        ctx.progress = progress
    validator = Validator(captured.examples, request.seed) if request.validate else None
    if validator is not None:
        ctx.trail = Trail(watchers=(validator,))
    return ctx, validator


def _watchers(
    request: Request,
    compare: observers.Compare,
    metric: observers.Metric | None,
    pays: lossy.Pays,
    dump: str | Path | None,
) -> list[Observer]:
    """Who looks at the model around every pass, in the order in which they are asked."""
    return [
        observers.Verify(),
        *([observers.Dump(Path(dump))] if dump is not None else []),
        compare,
        *([metric] if metric is not None else []),
        pays if request.gate else lossy.Replayed(request.decisions or {}),
        observers.Sizes(),
    ]
