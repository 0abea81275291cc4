"""Smoothing of inputs as the options ask for it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import onnx_ir as ir

from optc.passbase import Context
from optc.passes.quantize.asked import Asked
from optc.passes.quantize.smooth import Smoothed, smooth
from optc.passes.quantize.static import saturation
from optc.passes.quantize.static.sites import Site


def smoothed(model: ir.Model, ctx: Context, asked: Asked, sites: Sequence[Site]) -> Smoothed:
    """Smooths the inputs of the sites, in place; without calibration data by the example inputs."""
    samples = ctx.calibration if ctx.calibration is not None else ctx.examples
    if not asked.smooths or not samples:
        return Smoothed()
    return smooth(
        model,
        sites,
        samples,
        ctx,
        alpha=asked.alpha,
        per_channel=asked.per_channel,
        limit=saturation.largest_code(),
    )


def told(done: Smoothed) -> Mapping[str, Any]:
    """What the report says of it."""
    if not done.alphas and not done.recentred:
        return {}
    return {"smoothing": dataclasses.asdict(done)}
