"""int8-dynamic: inputs are rounded as they come, and weights and biases make up for what that costs."""

from __future__ import annotations

from collections.abc import Sequence

import onnx_ir as ir

from optc.passbase import Context, Report, Skip
from optc.passes.quantize import bias, dynamic, feedback
from optc.passes.quantize.asked import Asked
from optc.passes.quantize.rounding import Rounding
from optc.passes.quantize.static import saturation
from optc.passes.quantize.static.sites import Site

from .smoothing import smoothed, told

_WITHOUT_DATA = (
    "none: channel ranges come from the example inputs; calibration data would add bias correction, ranges "
    "from more inputs, and int8 convolutions"
)


def in_dynamic(
    model: ir.Model, ctx: Context, asked: Asked, sites: Sequence[Site], skips: Sequence[Skip]
) -> Report:
    """Rewrites the sites in place: smoothed, their weights rounded with feedback, their biases corrected.

    Inputs that the model itself has rounded stay on the grid that they have.
    """
    arriving = [site for site in sites if dynamic.given_grid(model, site) is None]
    smoothing = smoothed(model, ctx, asked, arriving)
    arriving = [site.renewed() for site in arriving]
    rounding = Rounding(asked.per_channel, saturation.largest_code())
    learned = feedback.learn(model, arriving, ctx.calibration or (), ctx, rounding)
    corrected = _corrected(model, ctx, asked, arriving, rounding)
    dynamic.insert(model, [site.renewed() for site in sites], rounding=rounding)
    matched = {
        "int8 dynamic site": len(arriving),
        "int8 site": len(sites) - len(arriving),
        "input smoothed": len(smoothing.alphas),
        "input recentred": smoothing.recentred,
        "weight rounded with feedback": learned,
        "bias corrected": corrected,
    }
    matched = {name: count for name, count in matched.items() if count}
    detail = {"machine": saturation.describe(), **told(smoothing)}
    if sites and not ctx.calibration:
        detail["calibration"] = _WITHOUT_DATA
    return Report(bool(sites), matched, tuple(skips), detail)


def _corrected(model: ir.Model, ctx: Context, asked: Asked, sites: Sequence[Site], rounding: Rounding) -> int:
    if not asked.bias_correct or not ctx.calibration:
        return 0
    return bias.correct(model, sites, ctx.calibration, ctx, rounding)
