"""compile(): capture, verify, pipeline, gate, legalize, emit. The file to read first."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import onnx_ir as ir

from optc import checks, data, gating, observers, prepare, registry, report, verify
from optc import curve as curve_of
from optc.artifact import Artifact
from optc.capture import Captured, capture
from optc.errors import InvalidModel, UserError
from optc.notes import notes
from optc.passbase import Context
from optc.pipeline import Observer, Pipeline, Record
from optc.profile import profile
from optc.request import Request
from optc.setting import Progress, Setting


def compile(
    source: Any,
    example_inputs: Any = None,
    *,
    target: str = "cpu",
    pipeline: str | Pipeline | None = None,
    level: int = 1,
    dynamic_shapes: Any = None,
    calibration: Any = None,
    max_error: float | None = None,
    metric: Callable[..., float] | None = None,
    max_drop: float | None = None,
    gate: bool | None = None,
    gate_seconds: float = 30.0,
    curve: bool = False,
    curve_seconds: float = 30.0,
    seed: int = 0,
    threads: int | None = None,
    target_options: Mapping[str, Any] | None = None,
    inputs: Mapping[str, Any] | None = None,
    decisions: str | Path | None = None,
    dump: str | Path | None = None,
    validate: bool = False,
    output: str | Path | None = None,
    progress: Progress | None = None,
) -> Artifact:
    """Compiles a model for a target.

    Args:
        source: nn.Module, ExportedProgram, GraphModule, path, ``package.module:factory`` text,
            onnx.ModelProto or onnx_ir.Model, none of which is changed; or what `capture` gave, which is
            used up.
        example_inputs: what a module is called with; optional for an ONNX model.
        target: name of the target.
        pipeline: pipeline text (or a Pipeline) instead of a level.
        level: 0 captures and legalizes, 1 is exact, higher levels may lose accuracy.
        dynamic_shapes: as `torch.export.export` takes them.
        calibration: a dict of arrays whose axis 0 is the batch axis, an iterable of input dicts, or a
            callable that returns either; lossy passes calibrate on it, and errors are taken on it.
        max_error: the largest relative L2 error that lossy passes may have; None is 0.1 at the levels that
            have such passes, unless there is a metric.
        metric: ``metric(run) -> float``, higher is better, where ``run`` maps inputs to outputs by name.
        max_drop: how much worse (absolute) the metric may get.
        gate: measure on this machine and undo what does not pay; None is yes for levels and no for an
            explicit pipeline.
        gate_seconds: time budget of the gate.
        curve: also compile weaker and stronger settings of merge-tokens, skip-layers and the like, and put
            their errors (and metrics) against measured latency into the report; the artifact is the same.
        curve_seconds: time budget of that.
        seed: of everything random.
        threads: to run and to measure with; None is the number of physical cores.
        target_options: options of the target.
        inputs: example feeds by graph input name, instead of the factory's or random ones.
        decisions: directory of an earlier artifact whose gate decisions are used again, unmeasured.
        dump: directory for a listing after every pass.
        validate: check every rewrite of the exact passes where it is applied; compiling takes longer.
        output: directory to save the artifact to; it is checked before the work starts.
        progress: wraps an iterable and a description to show progress.

    Raises:
        UserError: what was asked for cannot be done; the message says why and what to do.
        VerifyError: a pass broke the model: a defect of the pass. With ``validate`` it is a WrongRewrite
            when a rewrite changed what the graph computes, and names it.
    """
    request = Request.of(
        target=target,
        pipeline=pipeline,
        level=level,
        calibrated=calibration is not None,
        max_error=max_error,
        metric=metric,
        max_drop=max_drop,
        gate=gate,
        gate_seconds=gate_seconds,
        curve_seconds=curve_seconds if curve else None,
        decisions=decisions,
        validate=validate,
        threads=threads,
        seed=seed,
        target_options=target_options,
    )
    if output is not None:
        Artifact.check_destination(Path(output))
    if dump is not None:
        checks.dump_directory(Path(dump), Path(output) if output is not None else None)
    captured = (
        source
        if isinstance(source, Captured)
        else capture(
            source, example_inputs, dynamic_shapes=dynamic_shapes, inputs=inputs, seed=seed, progress=progress
        )
    )
    artifact = _compile(captured, request, calibration, dump, progress)
    if output is not None:
        artifact.save(output)
    return artifact


def open_model(source: str) -> ir.Model:
    """The model of a file, artifact directory or factory, for commands that only look at it."""
    path = Path(source)
    if (path / "model.onnx").is_file():
        return capture(path / "model.onnx", examples=False).model
    return capture(source, examples=False).model


def _compile(
    captured: Captured,
    request: Request,
    calibration: Any,
    dump: str | Path | None,
    progress: Progress | None,
) -> Artifact:
    if not captured.model.graph.outputs:
        hint = "declare what is to be computed as an output of the graph"
        raise InvalidModel("the model has no outputs", where=captured.source, hint=hint)
    if found := verify.check(captured.model):
        raise InvalidModel(f"the captured model is not valid: {found[0]}", where=captured.source)
    setting = Setting.of(request, captured, calibration, dump, progress)
    for watcher in setting.watchers:
        watcher.start(captured.model)
    prepared = prepare.prepare(captured, request.target, setting.compare)
    plain = captured.model.clone()
    widened = prepare.compute_in_single(captured, request.target, setting.compare)
    outcome = _run_passes(captured.model, plain, request, setting)
    ctx = replace(setting.ctx, lowerings=outcome.lowerings)
    curves = curve_of.curves(
        outcome.records,
        plain,
        ctx,
        setting.judge(request),
        programs=setting.programs,
        seconds=request.curve_seconds,
    )
    model, legalized = _legalize(outcome.model, ctx, setting.watchers, len(outcome.records))
    verify.verify(model, target=request.target, after="legalize")
    error, _ = setting.compare.judge(model, exact=False)
    timing = {
        **outcome.timing,
        **_profiled(request, plain, model, captured.examples),
        **_metric(setting.metric, model),
        **notes(request, setting.samples, error),
    }
    records = outcome.records + legalized
    summary = {
        **_asked(captured, request, setting, plain),
        **prepared,
        **({"widened": widened} if widened else {}),
        "passes": [report.entry(record) for record in records],
        **({"validation": setting.validator.summary()} if setting.validator is not None else {}),
        **({"curves": curves} if curves else {}),
        "final": report.whole(
            records,
            error=error,
            timing=timing,
            size=(report.weight_bytes(plain), report.weight_bytes(model)),
        ),
    }
    artifact = Artifact.make(
        model,
        captured=captured,
        target=request.target,
        pipeline=str(request.pipeline),
        decisions=outcome.decisions,
        report=summary,
        options={"threads": request.threads, **request.target_options},
    )
    if "skipped" in error and request.target.check_machine() is None:
        artifact.open(captured.source)  # nothing has run it yet
    return artifact


def _run_passes(model: ir.Model, plain: ir.Model, request: Request, setting: Setting) -> gating.Outcome:
    """The pipeline, and of what it did what the gate keeps, or an earlier one kept."""
    model, records = request.pipeline.run(model, setting.ctx, setting.watchers)
    if not request.gate:
        return gating.ungated(request.decisions or {}, plain, model, records)
    written = plain.clone()  # the captured model as it would be written, if nothing beats it
    request.target.finalize(written)
    gated = gating.Gate(
        written, setting.ctx, setting.programs, request.gate_seconds, setting.pays, setting.watchers
    )
    return gated.run(model, records)


def _asked(captured: Captured, request: Request, setting: Setting, plain: ir.Model) -> dict[str, Any]:
    """What was compiled for what, as the report shows it."""
    return {
        "source": captured.source,
        "target": request.target.name,
        "inputs": {
            "interface": report.interface(plain),
            "samples": captured.examples_note,
            "errors_on": data.described(setting.samples, captured.examples_note),
        },
        "threads": request.threads,
    }


def _legalize(
    model: ir.Model, ctx: Context, watchers: list[Observer], number: int
) -> tuple[ir.Model, list[Record]]:
    """Runs legalize; if a kernel's results differ from the body it stands for, everything is inlined."""
    step = Pipeline((registry.find_pass("legalize")(),))
    model, records = step.run(model, ctx, watchers, first=number)
    if records[0].undone is None:
        return model, records
    inline = dict.fromkeys(ctx.target.families, "inline")
    model, again = step.run(model, replace(ctx, lowerings=inline), watchers, first=number + 1)
    return model, records + again


def _profiled(
    request: Request, plain: ir.Model, model: ir.Model, examples: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    """Operator times of the plain model and the final one, where times are taken at all."""
    return profile(plain, model, examples[0], threads=request.threads) if request.gate and examples else {}


def _metric(metric: observers.Metric | None, model: ir.Model) -> dict[str, Any]:
    """The user's metric before and after; UserError when it drops by more than is allowed."""
    if metric is None:
        return {}
    after = metric.of(model)
    if reason := metric.exceeded(after):
        raise UserError(reason, hint="leave out lossy passes, or allow a larger drop")
    return {"metric": {"before": metric.before, "after": after}}
