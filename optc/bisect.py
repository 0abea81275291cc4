"""What `optc bisect` finds: the pass, and inside it the rewrite, with which an error is first exceeded.

Passes are run in their order and judged one by one. Inside the pass that exceeds the error its rewrites are
cut off at a limit (`optc.trail`), and the limit is halved down to the one rewrite that makes the difference.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import onnx_ir as ir

from optc import data, gating, manifest, observers, oracle, prepare, registry, request, verify
from optc.bisect_view import render
from optc.capture import capture
from optc.errors import UserError, VerifyError
from optc.passbase import Context
from optc.pipeline import Pipeline, Record, run_pass
from optc.trail import Rewrite, Trail

__all__ = ["bisect_data", "render"]

Progress = Callable[[Iterable[Any], str], Iterable[Any]]


@dataclass(frozen=True)
class Judged:
    """How far a model is from the captured one: relative L2 error, infinite where ``reason`` says why."""

    error: float
    reason: str | None = None


@dataclass(frozen=True)
class Probe:
    """A pass that was ended after its first ``limit`` rewrites."""

    limit: int
    judged: Judged
    last: Rewrite | None


def bisect_data(
    source: Any,
    *,
    max_error: float,
    pipeline: str | None = None,
    level: int = 1,
    target: str = "cpu",
    inputs: Mapping[str, Any] | None = None,
    calibration: Any = None,
    decisions: Path | None = None,
    every: bool = False,
    seed: int = 0,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Runs a pipeline (and legalize) and finds what first exceeds an error; JSON-able.

    Args:
        max_error: relative L2 error, as `Difference` has it, that no pass should exceed.
        pipeline: pipeline text; without it that of the level.
        decisions: an artifact whose gate decisions are used.
        every: try the rewrites one after the other. Halving needs few tries, but where one rewrite takes
            back what another one lost it may find a later one than the first.

    Raises:
        UserError: nothing can be compared; see `optc.driver.compile` for the rest.
    """
    chosen = request.usable(registry.find_target(target))
    steps = request.choose_pipeline(chosen, pipeline, level, calibrated=calibration is not None).passes
    captured = capture(source, inputs=inputs, seed=seed, progress=progress)
    example = captured.examples[0] if captured.examples else None
    calibrating = data.calibration_samples(
        calibration,
        example,
        any_batch=data.takes_any_batch(captured.model),
        finite=not data.asks_for_nan(captured.model),
    )
    ctx = Context(
        target=chosen,
        examples=captured.examples,
        calibration=calibrating or None,
        lowerings={} if decisions is None else gating.lowerings_of(manifest.read(decisions).decisions),
        seed=seed,
    )
    if progress is not None:
        ctx.progress = progress
    compare = observers.Compare(calibrating or captured.examples)
    compare.start(captured.model)
    judge = Judge(captured.model, compare.oracle)
    prepare.prepare(captured, chosen, compare)
    prepare.compute_in_single(captured, chosen, compare)
    rows, culprit = first_pass(
        (*steps, registry.find_pass("legalize")()), captured.model, ctx, judge, max_error
    )
    samples = data.described(calibrating, captured.examples_note)
    found = {"source": captured.source, "max_error": max_error, "samples": samples, "passes": rows}
    if culprit is None:
        return {**found, "culprit": None}
    return {**found, "culprit": {"pass": culprit.step.name, **_inside(culprit, ctx, judge, max_error, every)}}


class Judge:
    """Holds models against the captured one."""

    def __init__(self, model: ir.Model, answers: oracle.Oracle | None) -> None:
        assert answers is not None
        if answers.skipped is not None:
            hint = "give inputs on which the model runs, with --inputs"
            raise UserError(f"nothing can be compared: {answers.skipped.reason}", hint=hint)
        self._interface, self._oracle = verify.interface_of(model), answers

    def __call__(self, model: ir.Model, after: str, *, exact: bool) -> Judged:
        """The error of a model. ``exact``: its discrete outputs have to be identical too."""
        try:
            verify.verify(model, interface=self._interface, after=after)
            found = self._oracle.compare(model)
        except VerifyError as error:
            return Judged(math.inf, str(error).splitlines()[0])
        assert not isinstance(found, oracle.Skipped)
        if found.reason and (exact or not found.output or math.isinf(found.rel_l2)):
            return Judged(math.inf, found.reason)
        return Judged(found.rel_l2)


def first_pass(
    steps: Sequence[Any], model: ir.Model, ctx: Context, judge: Judge, max_error: float
) -> tuple[list[dict[str, Any]], Record | None]:
    """The passes up to the first one that exceeds the error, and its record."""
    rows, exact = list[dict[str, Any]](), True
    ctx.trail = Trail()
    for record, left in Pipeline(tuple(steps)).walk(model, ctx):
        exact = exact and record.step.exact
        judged = judge(left, record.step.name, exact=exact)
        rows.append({"pass": record.step.name, "rewrites": len(ctx.trail.rewrites), **asdict(judged)})
        if judged.error > max_error:
            record.findings["rewrites"], record.findings["exact"] = len(ctx.trail.rewrites), exact
            return rows, record
        ctx.trail = Trail()
    return rows, None


def _inside(record: Record, ctx: Context, judge: Judge, max_error: float, every: bool) -> dict[str, Any]:
    """The rewrite inside a pass: what was tried, and the two limits between which the error is exceeded."""
    total = record.findings["rewrites"]
    assert isinstance(total, int)
    tried: dict[int, Probe] = {}

    def exceeds(limit: int) -> bool:
        tried[limit] = _probe(record, limit, ctx, judge)
        return tried[limit].judged.error > max_error

    if not total or exceeds(0):
        return {"rewrite": None, "of": total, **_probes(tried)}
    found = (in_order if every else halving)(total, exceeds)
    if found not in tried:  # all of them: so far it was the pass that was judged
        exceeds(found)
    last = tried[found].last
    return {
        "rewrite": None if last is None else asdict(last),
        "of": total,
        "before": tried[found - 1].judged.error,
        "after": tried[found].judged.error,
        "reason": tried[found].judged.reason,
        "first": all(limit in tried for limit in range(found)),
        **_probes(tried),
    }


def _probes(tried: Mapping[int, Probe]) -> dict[str, Any]:
    return {"probes": [{"limit": limit, **asdict(tried[limit].judged)} for limit in sorted(tried)]}


def halving(total: int, exceeds: Callable[[int], bool]) -> int:
    """A limit that exceeds the error where one less does not; 0 does not, and all of them do."""
    below, above = 0, total
    while above - below > 1:
        middle = (below + above) // 2
        if exceeds(middle):
            above = middle
        else:
            below = middle
    return above


def in_order(total: int, exceeds: Callable[[int], bool]) -> int:
    """The smallest limit that exceeds the error; all of them do."""
    return next((limit for limit in range(1, total) if exceeds(limit)), total)


def _probe(record: Record, limit: int, ctx: Context, judge: Judge) -> Probe:
    model, trail = record.before.clone(), Trail(limit=limit)
    run_pass(record.step, model, replace(ctx, trail=trail), record.fusing)
    judged = judge(model, record.step.name, exact=bool(record.findings["exact"]))
    return Probe(limit, judged, trail.rewrites[-1] if trail.rewrites else None)
