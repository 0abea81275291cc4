"""What low precision saves at each product on this machine: every kind of product is timed alone, once.

A kind is a shape of the input, as the gate measures the model, and of the weight. What is timed is what the
target makes of the float product and of the quantized ones, with their biases. Weights in blocks are tried
where so few rows meet them that reading them is what takes the time.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np
import onnx_ir as ir

from optc import gate, match, measure
from optc.analysis.concrete import concrete, sizes_of
from optc.passbase import Context
from optc.passes.quantize.static.sites import Site, find

from .products import DYNAMIC, FLOAT, WEIGHT4, WEIGHT8, Kind, copies, made

_SECONDS = 0.02  # of one contestant
_MOST = 24  # kinds that are timed, at all shapes together: those of the most operations
_CLEARLY = 0.97  # of two times, below which one is faster
_FEW_ROWS = 4  # from where on dynamic int8 is always faster than weights in blocks


@dataclass(frozen=True)
class Saving:
    """Seconds of one product by scheme, by shape of the model's inputs; float and dynamic int8 at least."""

    seconds: Mapping[str, Mapping[str, float]]

    @property
    def slower(self) -> bool:
        """Whether int8 takes longer than float at every shape."""
        return bool(self.seconds) and all(
            times[FLOAT] < _CLEARLY * times[self.best] for times in self.seconds.values()
        )

    @property
    def best(self) -> str:
        """The faster way to compute with 8 bits, on average over the shapes."""
        in_blocks = self.mean(WEIGHT8)
        return WEIGHT8 if in_blocks < _CLEARLY * self.mean(DYNAMIC) else DYNAMIC

    @property
    def gain(self) -> float:
        """Seconds that 8 bits save."""
        return self.mean(FLOAT) - self.mean(self.best)

    @property
    def coarser(self) -> float:
        """Seconds that weights of 4 bits save beyond that; 0 where that is not clear."""
        found, best = self.mean(WEIGHT4), self.mean(self.best)
        return best - found if found < _CLEARLY * best else 0.0

    def mean(self, scheme: str) -> float:
        """Seconds on average over the shapes; infinity where it was not timed at all of them."""
        return float(np.mean([times.get(scheme, math.inf) for times in self.seconds.values()]))

    def __str__(self) -> str:
        times = list(self.seconds.values())[-1]
        return f"{times[FLOAT] * 1e6:.0f} us in float, {times[self.best] * 1e6:.0f} us in int8"


@dataclass(frozen=True)
class Timed:
    """What timing says about sites, by name.

    Attributes:
        left: those that stay in float, with the reason.
        gains: seconds that 8 bits save at the others; empty when nothing was timed.
        schemes: the scheme of those that another one than dynamic int8 suits.
        coarser: seconds that weights of 4 bits save beyond the scheme, where they do.
    """

    left: Mapping[str, str] = field(default_factory=dict)
    gains: Mapping[str, float] = field(default_factory=dict)
    schemes: Mapping[str, str] = field(default_factory=dict)
    coarser: Mapping[str, float] = field(default_factory=dict)


def timed(
    model: ir.Model,
    names: Sequence[str],
    ctx: Context,
    prefix: str,
    *,
    may_time: bool = True,
    in_blocks: bool = True,
) -> Timed:
    """Times the products of a model where the context allows that; decisions made before are taken instead.

    Args:
        prefix: of the decisions about sites.
        in_blocks: whether weights may be packed in blocks.
    """
    if ctx.decided is not None:
        return _replayed({name: ctx.decided[prefix + name] for name in names if prefix + name in ctx.decided})
    if not (ctx.times and may_time):
        return Timed()
    found = savings(model, names, ctx, in_blocks=in_blocks)
    left = {name: f"int8 is not faster here: {saving}" for name, saving in found.items() if saving.slower}
    rest = {name: saving for name, saving in found.items() if name not in left}
    return Timed(
        left,
        {name: saving.gain for name, saving in rest.items()},
        {name: saving.best for name, saving in rest.items() if saving.best != DYNAMIC},
        {name: saving.coarser for name, saving in rest.items() if saving.coarser},
    )


def _replayed(decided: Mapping[str, str]) -> Timed:
    reason = "so it was decided when an earlier artifact was made"
    return Timed(
        left={name: reason for name, scheme in decided.items() if scheme == FLOAT},
        schemes={name: scheme for name, scheme in decided.items() if scheme != FLOAT},
    )


def savings(
    model: ir.Model, names: Sequence[str], ctx: Context, *, in_blocks: bool = True
) -> dict[str, Saving]:
    """By name of the sites, which are products; those whose shapes are not known are left out."""
    if not ctx.examples:
        return {}
    shapes = {
        label: _kinds(model, names, sizes_of(model, feeds))
        for label, feeds in gate.feeds_by_shape(model, ctx.examples[0]).items()
    }
    asked = sorted({kind for kinds in shapes.values() for kind in kinds.values()}, key=_work, reverse=True)
    few = _with_few_rows(names, shapes.values()) if in_blocks else set()
    times = {
        kind: _timed(kind, ctx, in_blocks=kind in few)
        for kind in ctx.progress(asked[:_MOST], "latency of sites")
    }
    found = {}
    for name in names:
        kinds = {label: kinds[name] for label, kinds in shapes.items() if name in kinds}
        if kinds and all(kind in times for kind in kinds.values()):
            found[name] = Saving({label: times[kind] for label, kind in kinds.items()})
    return found


def _with_few_rows(names: Sequence[str], shapes: Collection[Mapping[str, Kind]]) -> set[Kind]:
    """The kinds of sites that have few rows at every shape."""
    of_sites = [[kinds[name] for kinds in shapes if name in kinds] for name in names]
    return {kind for kinds in of_sites if all(_rows(k) <= _FEW_ROWS for k in kinds) for kind in kinds}


def _rows(kind: Kind) -> int:
    return math.prod(kind[0][:-1])


def _kinds(model: ir.Model, names: Sequence[str], sizes: Mapping[str, int]) -> dict[str, Kind]:
    sized, wanted = concrete(model, sizes).model, set(names)
    found = {}
    for site in find(sized)[0]:
        kind = _kind(site) if site.name in wanted and not site.is_convolution else None
        if kind is not None:
            found[site.name] = kind
    return found


def _kind(site: Site) -> Kind | None:
    shape, columns = site.data.shape, match.static_dim(site.weight, site.channels)
    if shape is None or not shape.is_static() or columns is None:
        return None
    rows = shape.numpy()
    return tuple(rows), rows[-1], columns


def _work(kind: Kind) -> int:
    shape, _, columns = kind
    return int(np.prod(shape)) * columns


def _timed(kind: Kind, ctx: Context, *, in_blocks: bool) -> Mapping[str, float]:
    """Seconds of the product of one kind by scheme."""
    schemes = (FLOAT, DYNAMIC, *((WEIGHT8, WEIGHT4) if in_blocks else ()))
    feeds = {"x": np.random.default_rng(0).standard_normal(kind[0]).astype(np.float32)}
    open_program, count = gate.OrtPrograms(ctx.threads), copies(kind, _rows(kind))
    calls = {
        scheme: partial(open_program(made(kind, scheme, count, ctx)).open(), feeds) for scheme in schemes
    }
    timing = measure.paired(calls, seconds=_SECONDS * len(schemes))
    return {scheme: timing.quartile(scheme) / count for scheme in schemes}
