"""How many pieces to remove."""

from __future__ import annotations

from collections.abc import Sequence

import onnx_ir as ir

from optc.analysis.concrete import sizes_of
from optc.analysis.cost import cost
from optc.errors import UserError
from optc.passbase import Context

from ._sites import Site


def how_many(
    model: ir.Model,
    sites: Sequence[Site],
    candidates: Sequence[Site],
    ctx: Context,
    *,
    count: int | None,
    ratio: float | None,
    speedup: float | None,
) -> int:
    """The number that count, ratio (of all pieces) or speedup (total over remaining operations) asks for.

    Raises:
        UserError: that many may not be removed.
    """
    if count is not None:
        wanted, asked = count, f"count={count}"
    elif ratio is not None:
        wanted, asked = round(ratio * len(sites)), f"ratio={ratio}"
    else:
        assert speedup is not None
        wanted, asked = _for_speedup(model, candidates, ctx, speedup), f"speedup={speedup}"
    if wanted > len(candidates):
        raise UserError(
            f"{asked} asks for more pieces than may be removed ({len(candidates)} of {len(sites)})",
            where="skip-layers",
            hint="ask for less; protect=false frees the first and last block as well",
        )
    return wanted


def _for_speedup(model: ir.Model, candidates: Sequence[Site], ctx: Context, speedup: float) -> int:
    """The least number that makes the operations fall by this factor, with pieces of average cost."""
    if not candidates:
        return 1 if speedup > 1 else 0
    costs = cost(model, sizes_of(model, ctx.examples[0] if ctx.examples else {}))
    flops = {node: each.flops if isinstance(each.flops, int) else 0 for node, each in costs.items()}
    total = sum(flops.values())
    pieces = [sum(flops.get(node, 0) for node in site.nodes) for site in candidates]
    if not total or not sum(pieces):
        what = "the operations of the model cannot be counted: its shapes are not known"
        raise UserError(what, where="skip-layers", hint="use count=N or ratio=F")
    mean = sum(pieces) / len(pieces)
    for number in range(len(candidates) + 1):
        if total >= speedup * (total - number * mean):
            return number
    return len(candidates) + 1
