"""The `quantize` pass: low precision where it is faster and stays accurate."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import onnx_ir as ir

from optc.analysis import shapes
from optc.errors import UserError
from optc.passbase import Context, Pass, Report, Skip, option

from . import auto, bias, choice, dynamic, feedback, mixed, tables, weight_only
from .choice import latency, partly
from .choice.products import FLOAT, WEIGHT4
from .choice.products import GROUP as FAST_GROUP
from .rounding import Rounding
from .smooth import Smoothed, smooth
from .static import Settings, quantize_static, saturation, why_not_static
from .static.region import fed_in_float
from .static.sites import Site, find

Scheme = Literal["auto", "int8-dynamic", "int8-static", "int8-weight", "int4-weight"]

_WITHOUT_DATA = (
    "none: channel ranges come from the example inputs; calibration data would add bias correction, ranges "
    "from more inputs, and int8 convolutions"
)


@dataclass(frozen=True)
class Quantize(Pass):
    """Computes products with constant weights in int8, or keeps the weights in 8 or 4 bits."""

    name: ClassVar[str] = "quantize"
    exact: ClassVar[bool] = False
    plain: ClassVar[bool] = True
    chooses: ClassVar[bool] = True
    scheme: Scheme = option("auto", "auto: int8, static or dynamic by model and data; weight: weights alone")
    granularity: Literal["channel", "tensor", "group"] = option(
        "channel", "what shares a scale of a weight: an output channel, all of it, or rows chosen by matrix"
    )
    group: int = option(
        0, "rows that share a scale (int8-weight, int4-weight); 0: 32, or by granularity=group"
    )
    exclude: str = option("", "regular expression: sites whose own or weight's name has it stay in float")
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
        self._excluded()
        self._alpha()
        if self.scheme != "auto":
            return self._within(model, ctx, {}, latency.Timed())
        plan = auto.plan(model, ctx)
        report = dataclasses.replace(self, scheme=plan.scheme)._timed(model, ctx, plan.left)
        return dataclasses.replace(report, detail={"scheme": plan.scheme, **report.detail})

    def _timed(self, model: ir.Model, ctx: Context, always: Mapping[str, str]) -> Report:
        """As `_within`, each site in the scheme that is fastest on this machine, where that can be known."""
        names, prefix = [site.name for site in self._sites(model, always, [])], f"{self.name}: "
        alone = self.scheme != "int8-static"  # there what a site costs depends on its neighbours
        in_blocks = weight_only.why_not(model) is None
        kept = latency.timed(model, names, ctx, prefix, may_time=alone, in_blocks=in_blocks)
        report = self._within(model, ctx, {**always, **kept.left}, kept)
        left = {skip.node for skip in report.skipped} - set(always)
        decisions = {prefix + name: FLOAT for name in names if name in left} if ctx.times else {}
        apart = {prefix + name: scheme for name, scheme in report.detail.get("schemes", {}).items()}
        return dataclasses.replace(report, decisions={**decisions, **(apart if ctx.times else {})})

    def _within(
        self, model: ir.Model, ctx: Context, always: Mapping[str, str], kept: latency.Timed
    ) -> Report:
        """Quantizes what is allowed, but never the sites named in ``always``, with the reason."""

        def schemes(coarser: Collection[str]) -> dict[str, str]:
            return {**kept.schemes, **dict.fromkeys(coarser, WEIGHT4)}

        scheme = choice.Scheme(
            gains=kept.gains,
            coarser=kept.coarser,
            apply=lambda made, left, coarser: self._apply(made, ctx, {**left, **always}, schemes(coarser)),
            sites=lambda made: [
                *self._tables(made, always),
                *(site.name for site in self._sites(made, always, [])),
            ],
            prepare=lambda made: self._prepared(made, ctx, always, schemes),
        )
        return choice.within(model, ctx, scheme)

    def _apply(
        self, model: ir.Model, ctx: Context, left: Mapping[str, str], schemes: Mapping[str, str]
    ) -> Report:
        """Quantizes all sites but those that are ``left``, by name, with the reason, and then tables."""
        report = self._products(model, ctx, left, schemes)
        count, skips = tables.quantize(model, self._leave_table(left))
        matched = {**report.matched, **({"embedding table in int8": count} if count else {})}
        return dataclasses.replace(
            report, changed=report.changed or count > 0, matched=matched, skipped=(*report.skipped, *skips)
        )

    def _tables(self, model: ir.Model, left: Mapping[str, str]) -> list[str]:
        leave = self._leave_table(left)
        return [
            table.name for table in tables.find(model)[0] if all(leave(name) is None for name in table.names)
        ]

    def _leave_table(self, left: Mapping[str, str]) -> Callable[[str], str | None]:
        excluded = self._excluded()

        def leave(name: str) -> str | None:
            if excluded is not None and excluded.search(name):
                return f"excluded by {self.exclude!r}"
            return left.get(name)

        return leave

    def _products(
        self, model: ir.Model, ctx: Context, left: Mapping[str, str], schemes: Mapping[str, str]
    ) -> Report:
        """As the scheme of the pass says; products of dynamic int8 with a scheme of their own have that."""
        if self.scheme == "int8-static":
            return self._static(model, ctx, left)
        skips: list[Skip] = []
        sites = list(ctx.trail.each("product", self._sites(model, left, skips), lambda site: site.node))
        if self.scheme in ("int8-weight", "int4-weight"):
            return self._weights(model, ctx, sites, skips)
        if (reason := dynamic.why_not(model)) is not None:
            return Report(False, skipped=(*skips, Skip("model", reason)))
        in_blocks = mixed.in_blocks(model, sites, ctx, schemes, self.group or FAST_GROUP, self.method)
        rest = [site.renewed() for site in sites if site.name not in in_blocks.schemes]
        return in_blocks.added_to(self._dynamic(model, ctx, rest, skips))

    def _sites(self, model: ir.Model, left: Mapping[str, str], skips: list[Skip]) -> list[Site]:
        """What is quantized, in graph order; what is not goes to ``skips``."""
        shapes.infer(model)
        every, found = find(model)
        skips += found
        leave, sites = self._leave(left), []
        for site in every:
            if (reason := leave(site)) is not None:
                skips.append(Skip(site.name, f"left in float: {reason}"))
            else:
                sites.append(site)
        return sites

    def _prepared(
        self,
        model: ir.Model,
        ctx: Context,
        left: Mapping[str, str],
        schemes: Callable[[Collection[str]], Mapping[str, str]],
    ) -> partly.Prepared:
        """Gives models in which some sites are quantized, without what is fitted behind."""
        if self.scheme == "int8-static":
            made = partly.statically(model, ctx.calibration or (), ctx, self._settings(left))
        elif self.scheme in ("int8-weight", "int4-weight"):
            bits = 4 if self.scheme == "int4-weight" else 8
            made = partly.in_weights(model, ctx, bits=bits, group=self._rows())
        else:
            smoothed, apart = model.clone(), schemes(())
            self._smooth(smoothed, ctx, [s for s in self._sites(smoothed, left, []) if s.name not in apart])
            made = partly.dynamically(
                smoothed,
                ctx,
                per_channel=self.granularity == "channel",
                bits=lambda coarser: mixed.bits_of(schemes(coarser)),
                group=self.group or FAST_GROUP,
            )
        return partly.and_tables(made, self._tables(model, left))

    def _dynamic(self, model: ir.Model, ctx: Context, sites: list[Site], skips: list[Skip]) -> Report:
        smoothed = self._smooth(model, ctx, sites)
        sites = [site.renewed() for site in sites]
        rounding = Rounding(self.granularity == "channel", saturation.largest_code())
        learned = feedback.learn(model, sites, ctx.calibration or (), ctx, rounding)
        corrected = self._correct(model, ctx, sites, rounding)
        sites = [site.renewed() for site in sites]
        dynamic.insert(model, sites, rounding=rounding)
        matched = {
            "int8 dynamic site": len(sites),
            "input smoothed": len(smoothed.alphas),
            "input recentred": smoothed.recentred,
            "weight rounded with feedback": learned,
            "bias corrected": corrected,
        }
        matched = {name: count for name, count in matched.items() if count}
        detail = {"machine": saturation.describe(), **_told(smoothed)}
        if sites and not ctx.calibration:
            detail["calibration"] = _WITHOUT_DATA
        return Report(bool(sites), matched, tuple(skips), detail)

    def _smooth(self, model: ir.Model, ctx: Context, sites: Sequence[Site]) -> Smoothed:
        samples = ctx.calibration if ctx.calibration is not None else ctx.examples
        if self.smooth == "none" or not samples:
            return Smoothed()
        return smooth(
            model,
            sites,
            samples,
            ctx,
            alpha=self._alpha(),
            per_channel=self.granularity == "channel",
            limit=saturation.largest_code(),
        )

    def _correct(self, model: ir.Model, ctx: Context, sites: Sequence[Site], rounding: Rounding) -> int:
        if not self.bias_correct or not ctx.calibration:
            return 0
        return bias.correct(model, sites, ctx.calibration, ctx, rounding)

    def _weights(self, model: ir.Model, ctx: Context, sites: Sequence[Site], skips: Sequence[Skip]) -> Report:
        if self.method in ("gptq", "awq") and not ctx.calibration:
            raise UserError(
                f"{self.method} needs calibration data",
                where="option method of quantize",
                hint="give --calib, or calibration= in Python; rtn and hqq need none",
            )
        if (reason := weight_only.why_not(model)) is not None:
            return Report(False, skipped=(*skips, Skip("model", reason)))
        bits = 4 if self.scheme == "int4-weight" else 8
        written = weight_only.quantize_weights(
            model,
            sites,
            ctx.calibration,
            ctx,
            bits=bits,
            group=self._rows(),
            method=self.method,
        )
        count, remarks = written.matrices, dict(written.remarks)
        matched = {f"weight in {bits} bits": count} if count else {}
        return Report(bool(count), matched, tuple(skips), {"remarks": remarks} if remarks else {})

    def _rows(self) -> int:
        """Rows of a weight that share a scale; 0: each matrix has its own number."""
        return self.group or (0 if self.granularity == "group" else weight_only.GROUP)

    def _alpha(self) -> float | None:
        if self.smooth in ("auto", "none"):
            return None
        try:
            alpha = float(self.smooth)
        except ValueError:
            alpha = -1.0
        if not 0.0 <= alpha <= 1.0:
            raise UserError(
                f"smooth is auto, none or a number from 0 to 1, not {self.smooth!r}",
                where="option smooth of quantize",
            )
        return alpha

    def _excluded(self) -> re.Pattern[str] | None:
        if not self.exclude:
            return None
        try:
            return re.compile(self.exclude)
        except re.error as error:
            raise UserError(
                f"{self.exclude!r} is not a regular expression: {error}", where="option exclude of quantize"
            ) from None

    def _leave(self, left: Mapping[str, str]) -> Callable[[Site], str | None]:
        excluded = self._excluded()

        def leave(site: Site) -> str | None:
            if excluded is not None and (
                excluded.search(site.name) or excluded.search(str(site.weight.name))
            ):
                return f"excluded by {self.exclude!r}"
            if site.is_convolution and self.scheme != "int8-static":
                return "dynamic int8 convolutions are slow; int8-static needs calibration data"
            return left.get(site.name)

        return leave

    def _static(self, model: ir.Model, ctx: Context, left: Mapping[str, str]) -> Report:
        if not ctx.calibration:
            raise UserError(
                "int8-static needs calibration data",
                where="quantize",
                hint="give --calib, or calibration= in Python",
            )
        smoothed = self._smooth_behind_float(model, ctx, left)
        report = quantize_static(model, ctx.calibration, ctx, self._settings(left))
        done = {"input smoothed": len(smoothed.alphas), "input recentred": smoothed.recentred}
        matched = {**report.matched, **{name: count for name, count in done.items() if count}}
        return dataclasses.replace(report, matched=matched, detail={**report.detail, **_told(smoothed)})

    def _smooth_behind_float(self, model: ir.Model, ctx: Context, left: Mapping[str, str]) -> Smoothed:
        """Smooths inputs that are computed in float; between convolutions `equalize` evens out channels."""
        if why_not_static(model) is not None:
            return Smoothed()
        return self._smooth(model, ctx, fed_in_float(model, self._sites(model, left, [])))

    def _settings(self, left: Mapping[str, str]) -> Settings:
        return Settings(
            calibrate=self.calibrate,
            per_channel=self.granularity == "channel",
            bias_correct=self.bias_correct,
            leave=self._leave(left),
        )


def _told(smoothed: Smoothed) -> Mapping[str, Any]:
    if not smoothed.alphas and not smoothed.recentred:
        return {}
    found = dataclasses.asdict(smoothed)
    return {"smoothing": found}
