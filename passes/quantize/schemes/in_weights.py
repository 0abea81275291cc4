"""int8-weight and int4-weight: weights are packed in blocks of rows, and what reads them stays in float."""

from __future__ import annotations

from collections.abc import Sequence

import onnx_ir as ir

from optc.errors import UserError
from optc.passbase import Context, Report, Skip
from optc.passes.quantize import weight_only
from optc.passes.quantize.asked import Asked
from optc.passes.quantize.static.sites import Site


def in_weights(
    model: ir.Model, ctx: Context, asked: Asked, sites: Sequence[Site], skips: Sequence[Skip]
) -> Report:
    """Packs the weights of the sites in place.

    Raises:
        UserError: the method learns from calibration data and there is none.
    """
    if asked.method in ("gptq", "awq") and not ctx.calibration:
        raise UserError(
            f"{asked.method} needs calibration data",
            where="option method of quantize",
            hint="give --calib, or calibration= in Python; rtn and hqq need none",
        )
    if (reason := weight_only.why_not(model)) is not None:
        return Report(False, skipped=(*skips, Skip("model", reason)))
    written = weight_only.quantize_weights(
        model, sites, ctx.calibration, ctx, bits=asked.bits, group=asked.rows, method=asked.method
    )
    count, remarks = written.matrices, dict(written.remarks)
    matched = {f"weight in {asked.bits} bits": count} if count else {}
    return Report(bool(count), matched, tuple(skips), {"remarks": remarks} if remarks else {})
