"""Models in which only some sites are quantized, by any of the schemes."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping

import onnx_ir as ir

from optc.passbase import Context
from optc.passes.quantize import dynamic, mixed, which
from optc.passes.quantize.asked import Asked
from optc.passes.quantize.choice import partly

from .in_static import settings
from .smoothing import smoothed


def prepared(
    model: ir.Model,
    ctx: Context,
    asked: Asked,
    left: Mapping[str, str],
    schemes: Callable[[Collection[str]], Mapping[str, str]],
) -> partly.Prepared:
    """Gives such models, without what is fitted behind (weights by feedback, biases).

    Args:
        left: sites that stay in float in all of them, by name, with the reason.
        schemes: given the sites that get fewer bits, those with a scheme of their own.
    """
    if asked.scheme == "int8-static":
        made = partly.statically(model, ctx.calibration or (), ctx, settings(asked, left))
    elif asked.scheme in ("int8-weight", "int4-weight"):
        made = partly.in_weights(model, ctx, bits=asked.bits, group=asked.rows)
    else:
        copy, apart = model.clone(), schemes(())
        sites = which.sites(copy, asked, left, [])
        arriving = [site for site in sites if dynamic.given_grid(copy, site) is None]
        smoothed(copy, ctx, asked, [site for site in arriving if site.name not in apart])
        made = partly.dynamically(
            copy,
            ctx,
            per_channel=asked.per_channel,
            bits=lambda coarser: mixed.bits_of(schemes(coarser)),
            group=asked.fast_rows,
        )
    return partly.and_tables(made, which.table_names(model, asked, left))
