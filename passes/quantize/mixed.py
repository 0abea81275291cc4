"""Products of a model in dynamic int8 that have their weights in blocks instead, each by what suits it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import onnx_ir as ir

from optc.passbase import Context, Report

from . import weight_only
from .choice.products import WEIGHT4, WEIGHT8
from .static.sites import Site

_BITS = {WEIGHT8: 8, WEIGHT4: 4}
_NEED_DATA = ("gptq", "awq")


@dataclass(frozen=True)
class Blocks:
    """What was done: the schemes of sites by name, and how many weights have how many bits."""

    schemes: Mapping[str, str] = field(default_factory=dict)
    matched: Mapping[str, int] = field(default_factory=dict)

    def added_to(self, report: Report) -> Report:
        """The report of the other products, with these."""
        if not self.schemes:
            return report
        return dataclasses.replace(
            report,
            changed=True,
            matched={**report.matched, **self.matched},
            detail={**report.detail, "schemes": dict(self.schemes)},
        )


def bits_of(schemes: Mapping[str, str]) -> dict[str, int]:
    """The bits of weights in blocks, by site; sites of other schemes are left out."""
    return {name: _BITS[scheme] for name, scheme in schemes.items() if scheme in _BITS}


def in_blocks(
    model: ir.Model,
    sites: Sequence[Site],
    ctx: Context,
    schemes: Mapping[str, str],
    group: int,
    method: str,
) -> Blocks:
    """Packs the weights of the sites that have such a scheme, in place."""
    bits = bits_of({site.name: schemes[site.name] for site in sites if site.name in schemes})
    samples = ctx.calibration
    method = "rtn" if method in _NEED_DATA and not samples else method
    matched = {}
    for count in sorted(set(bits.values())):
        chosen = [site for site in sites if bits.get(site.name) == count]
        done = weight_only.quantize_weights(
            model, chosen, samples, ctx, bits=count, group=group, method=method
        )
        matched[f"weight in {count} bits"] = done.matrices
    return Blocks({name: schemes[name] for name in bits}, matched)
