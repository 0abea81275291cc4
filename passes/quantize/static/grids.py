"""A grid for every value of the region, from what calibration saw."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
import onnx_ir as ir

from optc import match
from optc.passbase import Context, Feeds
from optc.passes.quantize.calibration import RANGES, Distribution, Reach, observe

from .before import grid_behind, grid_of
from .grid import Grid, activation_grid
from .limits import bounds
from .region import LIMITING, MOVING, Region
from .settings import Settings

_WITHIN = {"Sigmoid": (0.0, 1.0), "HardSigmoid": (0.0, 1.0), "Softmax": (0.0, 1.0), "Tanh": (-1.0, 1.0)}


def seen(
    model: ir.Model, values: Iterable[ir.Value], samples: Iterable[Feeds], settings: Settings, ctx: Context
) -> dict[ir.Value, tuple[float, float]]:
    """The range that is chosen for each value as ``settings`` say; NaN where there is none.

    The extremes are taken inside the graph; histograms only where they are needed. Ranges that differ between
    samples get room for those that were not seen: what is cut off has no bound, what is rounded has.
    """
    by_name, how = {str(value.name): value for value in values}, settings.calibrate
    extremes = {name: Reach() for name in by_name}
    histograms = {} if how == "minmax" else {name: Distribution() for name in by_name}
    probes = {name: [p for p in (extremes[name], histograms.get(name)) if p is not None] for name in by_name}
    observe(model, probes, samples, threads=ctx.threads, progress=ctx.progress)
    found = {}
    for name, value in by_name.items():
        seen_here = extremes[name]
        if not seen_here.finite:
            found[value] = (np.nan, np.nan)
            continue
        low, high = float(seen_here.low), float(seen_here.high)
        if name in histograms:
            low, high = RANGES[how](histograms[name].histogram, 256)
        found[value] = _widened(low, high, seen_here.beyond(settings.room), value.producer())
    return found


def _widened(
    low: float, high: float, beyond: tuple[float, float], node: ir.Node | None
) -> tuple[float, float]:
    """The range with room at both ends, but not beyond what the node that makes it can give."""
    least, most = _possible(node)
    return (
        max(low * beyond[0], least) if low < 0 else low,
        min(high * beyond[1], most) if high > 0 else high,
    )


def _possible(node: ir.Node | None) -> tuple[float, float]:
    if node is None or node.domain not in ("", "ai.onnx"):
        return -np.inf, np.inf
    return bounds(node) if node.op_type in LIMITING else _WITHIN.get(node.op_type, (-np.inf, np.inf))


def constant_range(value: ir.Value) -> tuple[float, float]:
    """The extremes of a constant."""
    array = match.constant(value)
    assert array is not None
    return float(array.min(initial=0.0)), float(array.max(initial=0.0))


def grids(region: Region, ranges: Mapping[ir.Value, tuple[float, float]]) -> dict[ir.Value, Grid]:
    """The grid of every value; what only moves elements shares that of its input.

    What the model rounds itself goes to its grid straight away.
    """
    made: dict[ir.Value, Grid] = {}
    for value in region.values:
        if match.is_constant(value):
            made[value] = activation_grid(*constant_range(value))
        else:
            made[value] = grid_behind(value) or activation_grid(*ranges[value])
    for node in _in_order(region):
        source = node.inputs[0]
        if node.op_type not in MOVING or source is None:
            continue
        grid = made.get(source) or grid_of(match.producer(source, "DequantizeLinear"))
        if grid is not None:
            made.update({output: grid for output in node.outputs if output in made})
    return made


def _in_order(region: Region) -> list[ir.Node]:
    graph = next((site.node.graph for site in region.sites), None)
    return [] if graph is None else [node for node in graph if node in region.carriers]
