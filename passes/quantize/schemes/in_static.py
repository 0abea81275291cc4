"""int8-static: ranges are fixed by calibration data, and inputs that are computed in float are smoothed."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import onnx_ir as ir

from optc.errors import UserError
from optc.passbase import Context, Report
from optc.passes.quantize import which
from optc.passes.quantize.asked import Asked
from optc.passes.quantize.smooth import Smoothed
from optc.passes.quantize.static import Settings, quantize_static, why_not_static
from optc.passes.quantize.static.region import fed_in_float

from .smoothing import smoothed, told


def in_static(model: ir.Model, ctx: Context, asked: Asked, left: Mapping[str, str]) -> Report:
    """Quantizes all sites but those that are ``left``, in place.

    Raises:
        UserError: there is no calibration data.
    """
    if not ctx.calibration:
        raise UserError(
            "int8-static needs calibration data",
            where="quantize",
            hint="give --calib, or calibration= in Python",
        )
    smoothing = _smoothed_behind_float(model, ctx, asked, left)
    report = quantize_static(model, ctx.calibration, ctx, settings(asked, left))
    done = {"input smoothed": len(smoothing.alphas), "input recentred": smoothing.recentred}
    matched = {**report.matched, **{name: count for name, count in done.items() if count}}
    room = {"room in ranges": asked.room} if asked.room != 1.0 else {}
    return dataclasses.replace(report, matched=matched, detail={**report.detail, **room, **told(smoothing)})


def settings(asked: Asked, left: Mapping[str, str]) -> Settings:
    """The options, as the static rewrite knows them."""
    return Settings(
        calibrate=asked.calibrate,
        per_channel=asked.per_channel,
        bias_correct=asked.bias_correct,
        leave=which.leave_site(asked, left),
        room=asked.room,
    )


def _smoothed_behind_float(model: ir.Model, ctx: Context, asked: Asked, left: Mapping[str, str]) -> Smoothed:
    """Smooths inputs that are computed in float; between convolutions `equalize` evens out channels."""
    if why_not_static(model) is not None:
        return Smoothed()
    return smoothed(model, ctx, asked, fed_in_float(model, which.sites(model, asked, left, [])))
