"""Passes that cost accuracy are timed in the whole model, and undone when they do not pay."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial

import onnx_ir as ir

from optc import gate, registry
from optc.passbase import Context, Feeds, Pass
from optc.pipeline import Observer, Pipeline, Record, run_pass
from optc.trail import Trail

UNDONE = "undone"  # the decision about such a pass; kept ones have none


def key(index: int, step: Pass) -> str:
    """What decisions call a pass: its name and its place in the pipeline, from 1."""
    return f"{step.name} (pass {index + 1})"


class Pays:
    """Times what a lossy pass made of the model against what it was given, right behind the pass.

    Both go through the exact passes that follow and are legalized, so that what is timed is the program that
    this would become. Lossy passes that follow are left out: they are held against this one.

    Args:
        pipeline: the pipeline that is watched.
        programs: makes models ready to be measured.
        seconds: time budget of all its lossy passes together.
    """

    def __init__(self, pipeline: Pipeline, ctx: Context, programs: gate.Prepare, seconds: float) -> None:
        self._pipeline, self._ctx = pipeline, replace(ctx, trail=Trail(), progress=lambda items, _: items)
        self._programs = programs
        lossy = sum(not step.exact for step in pipeline.passes)
        self._seconds = seconds / max(lossy, 1)
        self._feeds: Mapping[str, Feeds] = {}
        self.judgements: dict[int, gate.Judgement] = {}
        self.spent = 0.0

    def start(self, model: ir.Model) -> None:
        """Chooses the shapes to measure at."""
        if self._ctx.examples:
            self._feeds = gate.feeds_by_shape(model, self._ctx.examples[0])

    def after(self, index: int, record: Record, model: ir.Model) -> str | None:
        """Notes what was measured; a reason to undo when the pass does not pay."""
        if record.step.exact or not record.report.changed:
            return None
        started = time.perf_counter()
        found = self._judge(index, record, model)
        self.spent += time.perf_counter() - started
        self.judgements[index] = found
        if found.seconds:
            before, after = found.seconds[gate.middle(found.seconds)]
            record.findings["ms_before"], record.findings["ms_after"] = before * 1e3, after * 1e3
        return found.undone

    def _judge(self, index: int, record: Record, model: ir.Model) -> gate.Judgement:
        rest = [step for step in self._pipeline.passes[index + 1 :] if step.exact]
        before, after = (finished(each, rest, record.fusing, self._ctx) for each in (record.before, model))
        old = gate.families_of(before, self._ctx.target)
        new = {f: n for f, n in gate.families_of(after, self._ctx.target).items() if f not in old}
        ways: list[dict[str, str]] = [{}, *({f: n} for f, names in new.items() for n in names[1:])]
        return gate.pays(
            legal(before, self._ctx, {}),
            {", ".join(map("=".join, way.items())): partial(legal, after, self._ctx, way) for way in ways},
            self._feeds,
            what=record.step.name,
            prepare=self._programs,
            seconds=self._seconds,
            seed=self._ctx.seed,
        )


class Replayed:
    """Undoes the passes that an earlier artifact found not to pay."""

    def __init__(self, decisions: Mapping[str, str]) -> None:
        self._decisions = decisions

    def start(self, model: ir.Model) -> None:
        """Nothing to do."""

    def after(self, index: int, record: Record, model: ir.Model) -> str | None:
        """The reason, if it was undone then."""
        if self._decisions.get(key(index, record.step)) == UNDONE:
            return "it did not pay when the decisions were made"
        return None


def legal(model: ir.Model, ctx: Context, decisions: Mapping[str, str]) -> ir.Model:
    """An executable copy of a model, which shares its tensors."""
    made = model.clone()
    registry.find_pass("legalize")().run(made, replace(ctx, lowerings=decisions, trail=Trail()))
    return made


def stage(
    records: Sequence[Record], record: Record, left: ir.Model, ctx: Context, decisions: Mapping[str, str]
) -> ir.Model:
    """An executable copy of what a pass left; operators that a lossy pass made have their kernels already.

    They get them from the exact passes behind, which fuse more than that. What those would have fused
    without the lossy pass too is not this pass's doing, and stays plain here.
    """
    index = next(i for i, each in enumerate(records) if each is record)
    first = next((each for each in records[: index + 1] if is_lossy(each)), None)
    if first is None:
        return legal(left, ctx, decisions)
    ctx, rest = replace(ctx, trail=Trail()), [each.step for each in records[index + 1 :] if each.step.exact]
    without, with_it = (finished(model, rest, first.fusing, ctx) for model in (first.before, left))
    later = set(gate.families_of(without, ctx.target)) - set(gate.families_of(left, ctx.target))
    return legal(with_it, ctx, {**decisions, **dict.fromkeys(later, "inline")})


def exact_part(records: Sequence[Record], ctx: Context) -> ir.Model:
    """What the exact passes of a pipeline alone make of the model; some of its lossy ones stand."""
    first = next(record for record in records if is_lossy(record))
    rest = [record.step for record in records[records.index(first) + 1 :] if record.step.exact]
    return finished(first.before, rest, first.fusing, replace(ctx, trail=Trail()))


def undo(
    records: Sequence[Record], ctx: Context, watchers: Sequence[Observer], reason: str
) -> tuple[ir.Model, list[Record]]:
    """Undoes every lossy pass that stands, and runs the exact ones behind them again, watched."""
    first = next(index for index, record in enumerate(records) if is_lossy(record))
    model, done = records[first].before.clone(), list(records[:first])
    for index, record in enumerate(records[first:], first):
        if record.step.exact:
            model, again = Pipeline((record.step,)).run(model, ctx, watchers, first=index)
            done += again
        else:
            record.undone = record.undone or reason
            done.append(record)
    return model, done


def is_lossy(record: Record) -> bool:
    """Whether the pass changed the model, at the cost of accuracy, and that stands."""
    return not record.step.exact and record.report.changed and record.undone is None


def finished(model: ir.Model, rest: Sequence[Pass], fusing: Pass | None, ctx: Context) -> ir.Model:
    """A copy of the model behind the rest of its passes."""
    made = model.clone()
    for step in rest:
        run_pass(step, made, ctx, fusing)
    return made
