"""The schemes of `quantize`: each makes the chosen sites of a model int8, or packs their weights."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import onnx_ir as ir

from optc.passbase import Context, Report, Skip
from optc.passes.quantize import dynamic, mixed, tables, which
from optc.passes.quantize.asked import Asked

from .in_dynamic import in_dynamic
from .in_static import in_static
from .in_weights import in_weights

__all__ = ["apply"]


def apply(
    model: ir.Model, ctx: Context, asked: Asked, left: Mapping[str, str], schemes: Mapping[str, str]
) -> Report:
    """Quantizes all sites and then tables, in place.

    Args:
        left: those that stay in float, by name, with the reason.
        schemes: of products of dynamic int8 that have one of their own, by name.

    Raises:
        UserError: the scheme needs calibration data and there is none.
    """
    report = _products(model, ctx, asked, left, schemes)
    count, skips = tables.quantize(model, which.leave_table(asked, left))
    matched = {**report.matched, **({"embedding table in int8": count} if count else {})}
    return dataclasses.replace(
        report, changed=report.changed or count > 0, matched=matched, skipped=(*report.skipped, *skips)
    )


def _products(
    model: ir.Model, ctx: Context, asked: Asked, left: Mapping[str, str], schemes: Mapping[str, str]
) -> Report:
    if asked.scheme == "int8-static":
        return in_static(model, ctx, asked, left)
    skips: list[Skip] = []
    chosen = which.sites(model, asked, left, skips)
    sites = list(ctx.trail.each("product", chosen, lambda site: site.node))
    if asked.scheme in ("int8-weight", "int4-weight"):
        return in_weights(model, ctx, asked, sites, skips)
    if (reason := dynamic.why_not(model)) is not None:
        return Report(False, skipped=(*skips, Skip("model", reason)))
    in_blocks = mixed.in_blocks(model, sites, ctx, schemes, asked.fast_rows, asked.method)
    rest = [site.renewed() for site in sites if site.name not in in_blocks.schemes]
    return in_blocks.added_to(in_dynamic(model, ctx, asked, rest, skips))
