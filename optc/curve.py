"""What a pass that costs accuracy would cost, and buy, if it did less or more: the points of a curve.

Every strength goes through the passes that follow and is legalized; its error is taken as that of the
artifact, and its program is timed in fresh sessions, in turns with that in which the pass does nothing.
"""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import onnx_ir as ir

from optc import gate, lossy, measure, observers, registry
from optc.analysis.concrete import sizes_of
from optc.analysis.cost import cost, total
from optc.errors import UserError
from optc.gate.contest import PLAIN, Candidate, Contest, Sample, candidate
from optc.passbase import Context, Feeds, Pass, Report
from optc.pipeline import Pipeline, Record, run_pass
from optc.trail import Trail

# Times what was asked for. The first two are always made; the others while there is time, far ones first.
STRENGTHS = (0.0, 1.0, 0.5, 1.5, 0.75, 0.25, 1.25)
_ALWAYS = 2

# Of the time budget: for compiling the points. What is left is for timing them.
_MAKING_SHARE = 0.6
_SESSIONS = 5


@dataclass(frozen=True)
class Judge:
    """How good a program is: its error, and the user's metric if there is one.

    Attributes:
        max_error, max_drop: what the user allows, or None.
    """

    compare: observers.Compare
    metric: observers.Metric | None
    max_error: float | None
    max_drop: float | None

    def __call__(self, model: ir.Model) -> dict[str, Any]:
        """As the report names them."""
        error, _ = self.compare.judge(model, exact=False)
        return {"error": error, **({} if self.metric is None else {"metric": self.metric.of(model)})}

    def allowed(self) -> dict[str, float]:
        """What may not be left: ``max_error``, and ``min_metric``."""
        found = {} if self.max_error is None else {"max_error": self.max_error}
        if self.metric is not None and self.max_drop is not None:
            found["min_metric"] = self.metric.before - self.max_drop
        return found


@dataclass
class _Point:
    strength: float
    step: Pass
    report: Report
    operations: int | None
    model: ir.Model
    judged: Mapping[str, Any]
    samples: list[Mapping[str, Sample]] = field(default_factory=list)

    @property
    def key(self) -> Candidate:
        return PLAIN if self.strength == 0 else candidate({"strength": f"{self.strength:g}"})


def check(pipeline: Pipeline) -> None:
    """Whether a curve can be drawn of anything in the pipeline.

    Raises:
        UserError: no pass has a strength.
    """
    if any(_varies(step) for step in pipeline.passes):
        return
    have = f"the passes are: {pipeline}" if pipeline.passes else "there are no passes"
    raise UserError(
        f"there is nothing to draw a curve of: no pass in the pipeline has a strength ({have})",
        where="curve",
        hint=f"passes that do as much as they are told to: {', '.join(_with_strength())}",
    )


def curves(
    records: Sequence[Record],
    plain: ir.Model,
    ctx: Context,
    judge: Judge,
    *,
    programs: gate.Prepare,
    seconds: float | None,
) -> list[dict[str, Any]]:
    """One curve for each pass with a strength, as the report has it.

    Args:
        records: the passes as they ran, without legalize.
        plain: the captured model; its inputs say which shapes are timed.
        programs: makes models ready to be timed.
        seconds: time budget of all curves together, None for no curves. The first two points of each are
            made, and every point is timed in one session, even if that takes longer.
    """
    varied = [index for index, record in enumerate(records) if _varies(record.step)]
    if seconds is None or not ctx.examples:
        return []
    quiet = replace(ctx, trail=Trail())
    feeds = gate.feeds_by_shape(plain, ctx.examples[0])
    share = seconds / len(varied)
    return [_Curve(index, records, quiet, judge, programs, feeds, share).draw() for index in varied]


def _with_strength() -> list[str]:
    return [name for name in registry.pass_names() if registry.find_pass(name).scaled is not Pass.scaled]


def _varies(step: Pass) -> bool:
    return not step.exact and step.scaled(0.0) not in (None, step)


@dataclass
class _Curve:
    index: int
    records: Sequence[Record]
    ctx: Context
    judge: Judge
    programs: gate.Prepare
    feeds: Mapping[str, Feeds]
    seconds: float

    def draw(self) -> dict[str, Any]:
        """Makes and times the points."""
        started, name = time.perf_counter(), self.records[self.index].step.name
        self.left_out: list[dict[str, str]] = []
        points = list(self._points(lambda: time.perf_counter() - started < _MAKING_SHARE * self.seconds))
        if points and points[0].key is PLAIN:
            self._time(points, lambda: time.perf_counter() - started < self.seconds)
        points.sort(key=lambda point: point.strength)
        names = _varied_options([point.step for point in points])
        return {
            "pass": lossy.key(self.index, self.records[self.index].step),
            "name": name,
            "allowed": self.judge.allowed(),
            "points": [_row(point, points[0], names) for point in points],
            "left_out": self.left_out,
        }

    def _points(self, in_time: Callable[[], bool]) -> Iterator[_Point]:
        """The points in the order of `STRENGTHS`, each another program."""
        step = self.records[self.index].step
        seen: dict[object, str] = {}
        chosen: dict[Pass, float] = {}
        for strength in STRENGTHS:
            if (scaled := step.scaled(strength)) is not None:
                chosen.setdefault(scaled, strength)
        steps = list(chosen.items())
        for number, (scaled, strength) in enumerate(self.ctx.progress(steps, f"curve of {step.name}")):
            label = _options_text(scaled)
            if number >= _ALWAYS and not in_time():
                self.left_out.append({"setting": label, "reason": "the time for the curve was spent"})
                continue
            try:
                point = self._point(strength, scaled)
            except UserError as error:
                self.left_out.append({"setting": label, "reason": error.what})
                continue
            same = seen.setdefault(self.programs(point.model).fingerprint, label)
            if same != label:
                self.left_out.append({"setting": label, "reason": f"it gives the same program as {same}"})
                continue
            yield point

    def _point(self, strength: float, step: Pass) -> _Point:
        record = self.records[self.index]
        rest = [r.step for r in self.records[self.index + 1 :] if r.step.exact or r.undone is None]
        quiet = replace(self.ctx, progress=lambda items, _: items)
        model = record.before.clone()
        report = run_pass(step, model, quiet, record.fusing)
        if not report.changed:
            model = record.before.clone()
        operations = _operations(model, self.ctx.examples[0])
        legal = lossy.legal(lossy.finished(model, rest, record.fusing, quiet), quiet, self.ctx.lowerings)
        return _Point(strength, step, report, operations, legal, self.judge(legal))

    def _time(self, points: Sequence[_Point], in_time: Callable[[], bool]) -> None:
        models = {point.key: point.model for point in points}
        feeds = gate.usable(models[PLAIN], self.programs, self.feeds, _MAKING_SHARE * self.seconds)
        if not feeds:
            return
        contest = Contest(models.__getitem__, feeds, prepare=self.programs, seed=self.ctx.seed)
        size, others = contest.group_size(), points[1:]
        groups = [others[at : at + size] for at in range(0, len(others), size)]
        turns = [(number, group) for number in range(_SESSIONS) for group in groups]
        for number, group in self.ctx.progress(turns, "timing the curve"):
            if number and not in_time():
                break
            found = contest(PLAIN, [point.key for point in group])
            for point in group:
                point.samples.append(found[point.key])
                points[0].samples.append(found[point.key])


def _operations(model: ir.Model, example: Feeds) -> int | None:
    """Operations of one run on the example, None where the shapes do not tell."""
    found = total(cost(model, sizes_of(model, example)).values()).flops
    return found if isinstance(found, int) else None


def _row(point: _Point, without: _Point, names: Sequence[str]) -> dict[str, Any]:
    return {
        "setting": ", ".join(f"{name.replace('_', '-')}={getattr(point.step, name)}" for name in names)
        or _options_text(point.step),
        "options": point.step.options(),
        "strength": point.strength,
        "changed": point.report.changed,
        "operations": point.operations,
        **point.judged,
        "latency": _latency(point, without),
        "detail": dict(point.report.detail),
    }


def _latency(point: _Point, without: _Point) -> dict[str, dict[str, float | None]]:
    """By shape: milliseconds, and how many times faster than without the pass (95% interval).

    Milliseconds follow from the ratio, which is taken within sessions: those of different times differ more.
    """
    found: dict[str, dict[str, float | None]] = {}
    for shape in point.samples[0] if point.samples else {}:
        ms = 1e3 * float(np.median([by_shape[shape].reference for by_shape in without.samples]))
        if point is without:
            found[shape] = {"ms": ms, "speedup": 1.0, "low": None, "high": None}
            continue
        samples = [by_shape[shape] for by_shape in point.samples]
        ratio = measure.over_sessions([sample.log_ratio for sample in samples])
        high = ratio.high if math.isfinite(ratio.high) else None
        found[shape] = {
            "ms": ms / ratio.ratio,
            "speedup": ratio.ratio,
            "low": ratio.low or None,
            "high": high,
        }
    return found


def _varied_options(steps: Sequence[Pass]) -> list[str]:
    """The names of the fields in which the steps differ."""
    names = [f.name for f in dataclasses.fields(steps[0])] if steps else []
    return [name for name in names if len({repr(getattr(step, name)) for step in steps}) > 1]


def _options_text(step: Pass) -> str:
    return ", ".join(f"{name}={value}" for name, value in step.options().items()) or "the defaults"
