"""The `quantize` pass: low precision where it is faster and stays accurate."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

import onnx_ir as ir

from optc.passbase import Context, Pass, Report, option

from . import auto, choice, effect, schemes, weight_only, which
from .asked import Asked, exponent, pattern
from .choice import latency
from .choice.products import FLOAT, WEIGHT4
from .schemes import parts

Scheme = Literal["auto", "int8-dynamic", "int8-static", "int8-weight", "int4-weight"]

_MORE_ROOM = (1.2, 1.5, 2.0)  # in the ranges of int8-static, where that is expected to lose less


@dataclass(frozen=True)
class Quantize(Pass):
    """Computes products with constant weights in int8, or keeps the weights in 8 or 4 bits."""

    name: ClassVar[str] = "quantize"
    exact: ClassVar[bool] = False
    plain: ClassVar[bool] = True
    chooses: ClassVar[bool] = True
    scheme: Scheme = option("auto", "auto: int8, static or dynamic by model and data; weight: weights alone")
    granularity: Literal["channel", "tensor", "group"] = option(
        "channel",
        "what shares a scale of a weight: an output channel, all of it, or (weights alone) rows by matrix",
    )
    group: int = option(
        0, "rows that share a scale (int8-weight, int4-weight); 0: 32, or by granularity=group"
    )
    exclude: str = option(
        "", "regular expression: sites whose own, weight's or bias's name has it stay in float"
    )
    calibrate: Literal["minmax", "percentile", "entropy", "mse"] = option(
        "mse", "how int8-static sets ranges"
    )
    method: Literal["rtn", "gptq", "awq", "hqq"] = option("rtn", "how int8-weight and int4-weight round")
    smooth: str = option("auto", "outliers of inputs move into weights: auto, none, or SmoothQuant's alpha")
    bias_correct: bool = option(True, "biases take up the mean error, measured on calibration data")

    def run(self, model: ir.Model, ctx: Context) -> Report:
        """Rewrites the chosen sites as plain quantized nodes.

        Raises:
            UserError: an option has no meaning, or the scheme needs calibration data and there is none.
        """
        asked = self._asked()
        report = self._run(model, ctx, asked)
        taken = report.detail.get("scheme", asked.scheme)
        told = effect.without_effect(self.options(), taken, asked, report.skipped)
        return dataclasses.replace(report, skipped=(*report.skipped, *told))

    def _run(self, model: ir.Model, ctx: Context, asked: Asked) -> Report:
        if asked.scheme != "auto":
            return _within(model, ctx, asked, {}, latency.Timed())
        plan = auto.plan(model, ctx)
        report = _timed(model, ctx, dataclasses.replace(asked, scheme=plan.scheme), plan.left)
        return dataclasses.replace(report, detail={"scheme": plan.scheme, **report.detail})

    def _asked(self) -> Asked:
        return Asked(
            scheme=self.scheme,
            granularity=self.granularity,
            group=self.group,
            exclude=pattern(self.exclude),
            calibrate=self.calibrate,
            method=self.method,
            smooths=self.smooth != "none",
            alpha=exponent(self.smooth),
            bias_correct=self.bias_correct,
        )


def _timed(model: ir.Model, ctx: Context, asked: Asked, always: Mapping[str, str]) -> Report:
    """As `_within`, each site in the scheme that is fastest on this machine, where that can be known."""
    names, prefix = which.site_names(model, asked, always), f"{Quantize.name}: "
    alone = asked.scheme != "int8-static"  # there what a site costs depends on its neighbours
    in_blocks = weight_only.why_not(model) is None
    kept = ctx.once(
        "times of products",
        lambda: latency.timed(model, names, ctx, prefix, may_time=alone, in_blocks=in_blocks),
    )
    report = _within(model, ctx, asked, {**always, **kept.left}, kept)
    left = {skip.node for skip in report.skipped} - set(always)
    decisions = {prefix + name: FLOAT for name in names if name in left} if ctx.times else {}
    apart = {prefix + name: scheme for name, scheme in report.detail.get("schemes", {}).items()}
    return dataclasses.replace(report, decisions={**decisions, **(apart if ctx.times else {})})


def _within(
    model: ir.Model, ctx: Context, asked: Asked, always: Mapping[str, str], kept: latency.Timed
) -> Report:
    """Quantizes what is allowed, but never the sites named in ``always``, with the reason."""

    def apart(coarser: Collection[str]) -> dict[str, str]:
        return {**kept.schemes, **dict.fromkeys(coarser, WEIGHT4)}

    def scheme(way: Asked) -> choice.Scheme:
        return choice.Scheme(
            gains=kept.gains,
            coarser=kept.coarser,
            apply=lambda made, left, coarser: schemes.apply(
                made, ctx, way, {**left, **always}, apart(coarser)
            ),
            sites=lambda made: [
                *which.table_names(made, way, always),
                *which.site_names(made, way, always),
            ],
            prepare=lambda made: parts.prepared(made, ctx, way, always, apart),
        )

    rooms = _MORE_ROOM if asked.scheme == "int8-static" else ()
    wider = [scheme(dataclasses.replace(asked, room=room)) for room in rooms]
    return choice.within(model, ctx, scheme(asked), wider)
