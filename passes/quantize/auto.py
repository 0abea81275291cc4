"""What scheme=auto means for a model: static or dynamic int8, and which products are too small for either."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import onnx_ir as ir

from optc.analysis import shapes
from optc.passbase import Context

from .choice.work import work_of
from .static.beside import beside
from .static.sites import Site, find

# Below, a float product is over before its input would be rounded. Measured on two cores with VNNI, over
# dynamic int8: 0.8 to 0.9 times as fast at 2^16 multiply-adds, 0.9 to 1.0 at 2^17, 1.3 from there on.
_FEW_OPERATIONS = 2.0 * 2**17
_SMALL = 4096  # elements of a weight, where it is not known how many rows meet it


@dataclass(frozen=True)
class Plan:
    """The scheme, and sites that stay in float with the reason, by name."""

    scheme: Literal["int8-dynamic", "int8-static"]
    left: Mapping[str, str]


def plan(model: ir.Model, ctx: Context) -> Plan:
    """Chooses by where the operations are, which is the same on every machine.

    Static int8 where convolutions do most of the work: everything between them stays in int8, and dynamic
    ones would be slower than float. Else dynamic: it adapts to each input, and is faster where residual
    sums and norms lie between products (a ConvNeXt 1.4 times as fast as in float, and 0.97 times in static
    int8). It needs calibration data.
    """
    shapes.infer(model)
    sites = find(model)[0]
    work = work_of(model, ctx.calibration or ctx.examples)
    if ctx.calibration and _mostly_convolutions(sites, work):
        few = [site for site in sites if _is_one_place(site) and _is_small(site, work, fixed=True)]
        left = beside(model, sites, few)
        return Plan("int8-static", {site.name: "too small to pay for leaving float" for site in left})
    fixed = all(value.shape is not None and value.shape.is_static() for value in model.graph.inputs)
    small = [site for site in sites if not site.is_convolution and _is_small(site, work, fixed=fixed)]
    return Plan("int8-dynamic", {site.name: "too small to pay for rounding its input" for site in small})


def _mostly_convolutions(sites: Sequence[Site], work: Mapping[str, float]) -> bool:
    total = sum(work.get(site.name, 0.0) for site in sites)
    return 2 * sum(work.get(site.name, 0.0) for site in sites if site.is_convolution) > total


def _is_small(site: Site, work: Mapping[str, float], *, fixed: bool) -> bool:
    if fixed and site.name in work:
        return work[site.name] < _FEW_OPERATIONS
    shape = site.weight.shape
    return shape is None or not shape.is_static() or math.prod(shape.numpy()) < _SMALL


def _is_one_place(site: Site) -> bool:
    """Whether this is a product, or a convolution of a single place, as gates have them."""
    shape = site.output.shape
    return not site.is_convolution or (shape is not None and all(size == 1 for size in shape[2:]))
