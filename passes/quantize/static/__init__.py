"""Static int8: ranges from calibration, QuantizeLinear and DequantizeLinear pairs in the graph.

The graph stays plain ONNX, and its unoptimized execution is the reference: floats that are rounded to int8
grids. A runtime with int8 kernels takes the pairs around an operator into it.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import onnx_ir as ir

from optc.analysis import shapes
from optc.passbase import Context, Feeds, Report, Skip
from optc.rewrite import opset

from . import bias_correction, equalize, limits, pooling, region, saturation, sites
from .grids import grids, seen
from .insert import Weights, insert
from .settings import Settings
from .sites import Site

__all__ = ["Settings", "Site", "quantize_static", "why_not_static"]

_PER_AXIS = 13  # the operator set since which QuantizeLinear knows an axis


def why_not_static(model: ir.Model) -> str | None:
    """Why no site of the model can be quantized this way."""
    if opset(model) >= _PER_AXIS:
        return None
    return f"the operator set of the model is {opset(model)}; scales per channel need {_PER_AXIS}"


def quantize_static(
    model: ir.Model, samples: Iterable[Feeds], ctx: Context, settings: Settings | None = None
) -> Report:
    """Quantizes convolutions and products with constant weights, and what lies between them, in place.

    Args:
        model: without fused functions.
        samples: calibration data; it is gone through more than once.

    Raises:
        UserError: the model does not run on the calibration data.
    """
    settings = settings or Settings()
    if (reason := why_not_static(model)) is not None:
        return Report(False, skipped=(Skip("model", reason),))
    shapes.infer(model)
    every, skips = sites.find(model)
    chosen = list(ctx.trail.each("int8 site", _chosen(every, settings, skips), lambda site: site.node))
    if not chosen:
        return Report(False, skipped=tuple(skips))
    pooled = pooling.pool(model)
    equalized = equalize.equalize(model, chosen, samples, ctx) if settings.equalize else 0
    area, ranges = _observed(model, [site.renewed() for site in chosen], samples, ctx, settings, skips)
    chosen_grids = grids(area, ranges)
    weights = Weights(settings.per_channel, saturation.largest_code())
    corrected = 0
    if settings.bias_correct:
        corrected = bias_correction.correct(model, area.sites, chosen_grids, weights, samples, ctx)
        area.sites = [site.renewed() for site in area.sites]
    insert(model, area, chosen_grids, weights)
    dropped = limits.drop(model, area, chosen_grids)
    matched = {
        "int8 site": len(area.sites),
        "kept in int8": len(area.carriers) - dropped,
        "limit taken into a grid": dropped,
        "mean over space as pooling": pooled,
        "pair equalized": equalized,
        "bias corrected": corrected,
    }
    matched = {name: count for name, count in matched.items() if count}
    return Report(bool(matched), matched, tuple(skips), {"machine": saturation.describe()})


def _observed(
    model: ir.Model,
    chosen: list[Site],
    samples: Iterable[Feeds],
    ctx: Context,
    settings: Settings,
    skips: list[Skip],
) -> tuple[region.Region, dict[ir.Value, tuple[float, float]]]:
    """The region and the ranges of its values, without the sites that meet infinity or NaN."""
    area = region.plan(model, chosen)
    ranges = seen(model, area.observed, samples, settings, ctx)
    unbounded = [value for value, found in ranges.items() if not np.isfinite(found).all()]
    while left_out := area.beside(unbounded):
        skips += [Skip(site.name, "left in float: it meets infinity or NaN") for site in left_out]
        area = region.plan(model, [site for site in area.sites if site not in left_out])
    return area, ranges


def _chosen(every: list[Site], settings: Settings, skips: list[Skip]) -> list[Site]:
    chosen = []
    for site in every:
        reason = settings.leave(site)
        if reason is None:
            chosen.append(site)
        else:
            skips.append(Skip(site.name, f"left in float: {reason}"))
    return chosen
