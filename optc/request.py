"""What was asked of `compile`, checked before any work is done."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from optc import checks, curve, manifest, registry
from optc.allowance import Allowance
from optc.cores import physical_cores
from optc.errors import UserError
from optc.pipeline import Pipeline
from optc.target import Target


@dataclass(frozen=True)
class Request:
    """The arguments of `optc.driver.compile` that do not belong to the source, with their defaults resolved.

    Attributes:
        explicit: the user wrote the pipeline: the gate reports, and undoes only where it was asked for.
        decisions: of an earlier artifact, which replace measuring.
        curve_seconds: None where no curve was asked for.
    """

    target: Target
    pipeline: Pipeline
    explicit: bool
    gate: bool
    gate_seconds: float
    decisions: Mapping[str, str] | None
    allowance: Allowance
    validate: bool
    metric: Callable[..., float] | None
    max_drop: float | None
    curve_seconds: float | None
    threads: int
    seed: int
    target_options: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        *,
        target: str,
        pipeline: str | Pipeline | None,
        level: int,
        calibrated: bool,
        max_error: float | None,
        metric: Callable[..., float] | None,
        max_drop: float | None,
        gate: bool | None,
        gate_seconds: float,
        curve_seconds: float | None,
        decisions: str | Path | None,
        validate: bool,
        threads: int | None,
        seed: int,
        target_options: Mapping[str, Any] | None,
    ) -> Request:
        """From the arguments as they came.

        Args:
            calibrated: whether there is calibration data.

        Raises:
            UserError: one of them is out of range, unknown, or does not go with the others.
        """
        if (metric is None) != (max_drop is None):
            raise UserError("metric and max_drop belong together", hint="give both, or neither")
        checks.numbers(
            seed=seed,
            threads=threads,
            gate_seconds=gate_seconds,
            curve_seconds=curve_seconds,
            max_error=max_error,
            max_drop=max_drop,
        )
        chosen, explicit = usable(registry.find_target(target)), pipeline is not None
        steps = choose_pipeline(chosen, pipeline, level, calibrated=calibrated)
        request = cls(
            target=chosen,
            pipeline=steps,
            explicit=explicit,
            gate=decisions is None and (gate if gate is not None else not explicit),
            gate_seconds=gate_seconds,
            decisions=None if decisions is None else manifest.read(Path(decisions)).decisions,
            allowance=Allowance(max_error)
            if explicit
            else Allowance.of_level(level, max_error, has_metric=metric is not None),
            validate=validate,
            metric=metric,
            max_drop=max_drop,
            curve_seconds=curve_seconds,
            threads=threads if threads is not None else physical_cores(),
            seed=seed,
            target_options=dict(target_options or {}),
        )
        chosen.check_options(request.target_options)
        if curve_seconds is not None:
            curve.check(request.pipeline)
        return request


def usable(target: Target) -> Target:
    """The target, if this machine can compile for it."""
    if reason := target.check_machine():
        raise UserError(f"the target {target.name!r} cannot be used here: {reason}")
    return target


def choose_pipeline(
    target: Target, pipeline: str | Pipeline | None, level: int, *, calibrated: bool
) -> Pipeline:
    """The pipeline that was given, as text or parsed, or else that of a level of the target.

    Raises:
        UserError: there is no such level, it needs calibration data, or the text is malformed.
    """
    if isinstance(pipeline, Pipeline):
        return pipeline
    if isinstance(pipeline, str):
        return Pipeline.parse(pipeline)
    if pipeline is not None:
        what = f"the pipeline is a {type(pipeline).__name__}, not text"
        raise UserError(what, hint='write it like "simplify, fuse", or pass Pipeline((...,))')
    if level not in target.pipelines:
        have = ", ".join(str(known) for known in sorted(target.pipelines))
        raise UserError(
            f"the target {target.name!r} has no optimization level {level!r}", hint=f"levels: {have}"
        )
    if level == 3 and not calibrated:
        raise UserError("level 3 needs calibration data", hint="give --calib, or calibration= in Python")
    return Pipeline.parse(target.pipelines[level])
